"""Targets of the Makefile that need no environment, and the versions that pyproject.toml admits."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_missing_interpreter_is_one_sentence():
    words = ["make", "--no-print-directory", "test-python", "PYTHON=python3.99"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    expected = "the interpreter python3.99 is missing; install it or name another: make test-python PYTHON=python3.12"
    assert done.stdout.strip() == expected


def test_the_installed_video_library_is_one_that_was_tested():
    (wanted,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "av")
    assert wanted.specifier.contains(version("av"))
    known = ("13.1.0", "14.0.0", "18.1.0", "19.0.0", "20.0.0")
    assert [v for v in known if v in wanted.specifier] == ["18.1.0", "19.0.0"]


def test_the_oldest_versions_of_all_extras_that_all_installs_are_tested():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    tested = set(re.search(r"^OLDEST_EXTRAS := (.*)$", makefile, re.M)[1].split(","))
    (everything,) = (set(Requirement(wanted).extras) for wanted in PROJECT["optional-dependencies"]["all"])
    assert everything | {"atari", "test"} == tested
    assert tested <= set(PROJECT["optional-dependencies"])


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_acceptance_run_has_the_extras_outside_dev_and_runs_their_tests():
    words = ["make", "--no-print-directory", "-n", "acceptance"]
    lines = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    installed = {
        name for line in lines for group in re.findall(r'-e "\.\[([\w,]+)\]"', line) for name in group.split(",")
    }
    assert {"agents", "cluster", "mlflow", "trackio", "wandb"} <= installed
    run = " ".join(line for line in lines if "pytest" in line)
    for file in ("benchmark/test_cluster.py", "training/test_trackers.py", "test_examples.py"):
        assert f"tests/{file}" in run
    assert any(line.endswith("reproduction.anomaly") for line in lines)
