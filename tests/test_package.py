"""Metadata of the package: extras, licences, contents of wheel and source archive, platforms of the workflow."""

import re
import tomllib
from pathlib import Path

import yaml

from framecast.training.trackers import TRACKERS

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: Largest wheel, bytes; weights hardly compress.
WHEEL = 20_000_000


def members(extra):
    """Extras that a collection such as [all] names."""
    return set(re.search(r"framecast\[([\w,]+)\]", EXTRAS[extra][0])[1].split(","))


def test_ale_py_is_outside_all_and_trackers_are_outside_all_and_dev():
    assert "atari" not in members("all")
    assert [name for name, wanted in EXTRAS.items() if any("ale-py" in w for w in wanted)] == ["atari"]
    for extra in ("all", "dev"):
        assert not members(extra) & {*TRACKERS, "docs"}
    assert set(TRACKERS) - {"tensorboard"} <= set(EXTRAS)


def test_every_dependency_has_a_lower_bound():
    wanted = [*PROJECT["dependencies"], *(w for n, ws in EXTRAS.items() if n not in ("dev", "all") for w in ws)]
    assert [w for w in wanted if ">=" not in w] == []


def test_files_of_the_wheel_stay_below_its_limit():
    files = [p for p in (ROOT / "framecast").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files) < WHEEL


def test_source_archive_has_the_pages_without_the_results():
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert "/docs/*.md" in included
    assert not [name for name in included if name in ("/docs", "/docs/results")]
    folders = {p.name for p in (ROOT / "docs").iterdir() if p.is_dir()} - {"results"}
    assert folders <= {Path(name).name for name in included}


def test_workflow_covers_the_declared_versions_and_three_systems():
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    declared = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.fullmatch(r".* :: 3\.\d+", c)]
    assert matrix["python"] == declared
    assert [name.partition("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
