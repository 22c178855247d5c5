"""Every example runs in its tiny form, prints its results and writes its files."""

from __future__ import annotations

import json
import re
import runpy
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbclient import NotebookClient
from small_models import forked

import framecast
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.media.video import read_video
from framecast.models.registry import find_model
from framecast.training.config import TrainConfig
from framecast.training.presets import preset

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
#: MIME types that every notebook shows: a video and curves.
SHOWN = {"image/gif", "image/png"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Function that runs an example as `__main__` with the given arguments and returns the text it prints."""

    def example(name: str, *arguments: str) -> str:
        monkeypatch.chdir(EXAMPLES.parent)
        monkeypatch.setattr(sys, "argv", [f"examples/{name}.py", "--tiny", *arguments])
        capfd.readouterr()
        # pytest records warnings instead of printing them; those that Python hides by default are hidden here too
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("default")
            for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", hidden)
            runpy.run_path(f"examples/{name}.py", run_name="__main__")
        printed, errors = capfd.readouterr()
        assert "Warning" not in errors
        assert not raised, [str(warning.message) for warning in raised]
        return printed

    return example


def test_six_short_examples_are_tested() -> None:
    assert len(SCRIPTS) == 6
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert text.count("\n") < 60, f"{script.name} is longer than a screen"
        assert f"python examples/{script.name}" in text, f"{script.name} does not state its command"
        assert re.search(rf"def test_{script.stem}\b", Path(__file__).read_text(encoding="utf-8"))


def test_train_and_predict(run: Any, tmp_path: Path) -> None:
    printed = run("train_and_predict", "--out", str(tmp_path))
    assert "copy-last" in printed
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["protocol"]["split"] == "test"
    video = read_video(tmp_path / "forecast.gif").frames
    assert len(video) == 4
    assert (video[0] != video[-1]).any(), "the video does not move"
    again = run("train_and_predict", "--out", str(tmp_path))  # resumes a finished run: no step is left
    assert again.splitlines()[:3] == printed.splitlines()[:3]


def test_your_own_model(run: Any, tmp_path: Path) -> None:
    printed = run("your_own_model", "--out", str(tmp_path / "run"))
    assert "Nudge" in printed
    assert "copy-last" in printed
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == {"context": 3, "width": 24}


def test_your_own_data(run: Any, tmp_path: Path) -> None:
    printed = run("your_own_data", "--out", str(tmp_path))
    assert "4 videos, 80 frames" in printed
    index = json.loads((tmp_path / "data" / "index.json").read_text())
    assert index["actions"]["kind"] == "continuous"
    assert index["actions"]["size"] == 2


def test_score_a_prediction(run: Any) -> None:
    lines = run("score_a_prediction").splitlines()[1:]
    rows = {line[:16].strip(): [float(v) for v in line[16:].split()] for line in lines}
    assert set(rows) == {"copy-last", "one frame late", "blurred truth", "truth + noise"}
    psnr, moving_psnr, _, sharpness = zip(*rows.values(), strict=True)
    assert max(psnr) == rows["truth + noise"][0]
    assert rows["blurred truth"][3] == min(sharpness) < 0.5
    # The static background raises the PSNR of a copy: in the moving area its error is larger.
    assert moving_psnr[0] < psnr[0] - 3


def test_frame_by_frame(run: Any, tmp_path: Path) -> None:
    printed = run("frame_by_frame", "--out", str(tmp_path))
    found = re.search(r"at once: (\S+)", printed)
    assert found
    assert float(found[1]) < 1e-5
    assert len(read_video(tmp_path / "dream.gif").frames) == 4 + 4


def test_agent_in_a_world(run: Any) -> None:
    pytest.importorskip("stable_baselines3", reason="needs the extra agents")
    found = re.fullmatch(r"random actions: (\S+) points a game\ntrained in the world: (\S+)\n", run("agent_in_a_world"))
    assert found
    assert all(-1 <= float(points) <= 1 for points in found.groups())  # of 60 frames


def test_opponent_model_trains_and_predicts_frames_of_any_size(tmp_path: Path) -> None:
    name = "examples/models/one_go_convolutions.py:OneGo"
    model_class = find_model(str(EXAMPLES.parent / name))
    config = model_class.Config(context=3, horizon=4, hidden=16, width=4, depth=1)
    run_config = replace(preset(model_class), model=config, train=TrainConfig(steps=2, batch_size=2, val_batches=1))
    source = Bouncing(BouncingConfig(videos=4, frames=12, size=30))
    source.prepare(tmp_path / "data")
    framecast.train(model_class, tmp_path / "data", out=tmp_path / "run", config=run_config, quiet=True)
    model = framecast.load(tmp_path / "run", model=model_class)
    assert model.predict(np.zeros((3, 3, 30, 30), np.uint8), 6).shape == (1, 1, 6, 3, 30, 30)


def notebook(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A notebook, and the environment in which its cells run in tiny form and write to a folder."""
    monkeypatch.setenv("TINY", "1")
    monkeypatch.setenv("OUT", str(folder))
    book: Any = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    assert all(not cell.get("outputs") for cell in book.cells), "commit the notebook without its outputs"
    return book


class Shell(InteractiveShell):
    """IPython without windows, as in a notebook."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Nothing: figures are shown below their cell."""


def run_cells(book: Any) -> int:
    """Run a notebook's cells from first to last without a server; 0 if a video and curves were shown."""
    shell = Shell.instance()
    shown = set()
    for cell in book.cells:
        if cell.cell_type == "code":
            with capture_output() as captured:
                result = shell.run_cell(cell.source)
            result.raise_error()
            shown |= {kind for output in captured.outputs for kind in output.data}
            shown |= set(shell.display_formatter.format(result.result)[0])
    return 0 if shown >= SHOWN else 1


@pytest.mark.parametrize("name", ["dreams", "quickstart"])
def test_notebooks_install_the_wheel_beside_them_else_the_clone(name, tmp_path, monkeypatch):
    """A bare machine: the package is not installed, and pip is asked for it."""
    code = next(cell.source for cell in nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4).cells[1:2])
    asked: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("subprocess.check_call", asked.append)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    (tmp_path / "framecast-0.1.0-py3-none-any.whl").touch()
    exec(code, {})
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    assert asked == [[*pip, "-c", "../constraints.txt", ".."], [*pip, "framecast-0.1.0-py3-none-any.whl"]]


def test_dreams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = notebook("dreams", tmp_path, monkeypatch)
    process = forked(run_cells, book)
    process.join()
    assert process.exitcode == 0
    for video, frames in (("reconstruction", 8), ("dreams", 8), ("temperatures", 4)):
        assert len(read_video(tmp_path / f"{video}.gif").frames) == frames


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of Jupyter's, as a user runs it."""
    book = notebook("quickstart", tmp_path, monkeypatch)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {kind for cell in book.cells for out in cell.get("outputs", []) for kind in out.get("data", {})}
    assert shown >= SHOWN
    assert (tmp_path / "run" / "scores.json").is_file()
    assert (tmp_path / "forecast.gif").stat().st_size > 0
