"""Every example runs, in tiny form, as a reader would start it; and says and leaves what it promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from framecast.media.video import read_video

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run(name: str, *arguments: str) -> str:
    """What an example prints, started from its folder's parent."""
    command = [sys.executable, f"examples/{name}.py", "--tiny", *arguments]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr
    return done.stdout


def test_there_are_five_short_ones() -> None:
    assert len(SCRIPTS) == 5
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert text.count("\n") < 60, f"{script.name} is longer than a screen"
        assert f"python examples/{script.name}" in text, f"{script.name} does not say how to run it"
        assert re.search(rf"def test_{script.stem}\b", Path(__file__).read_text(encoding="utf-8"))


def test_train_and_predict(tmp_path: Path) -> None:
    told = run("train_and_predict", "--out", str(tmp_path))
    assert "copy-last" in told
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["protocol"]["split"] == "test"
    film = read_video(tmp_path / "forecast.gif").frames
    assert len(film) == 4
    assert (film[0] != film[-1]).any(), "the film does not move"
    again = run("train_and_predict", "--out", str(tmp_path))  # goes on where it stopped: nothing left to do
    assert again.splitlines()[:3] == told.splitlines()[:3]


def test_your_own_model(tmp_path: Path) -> None:
    told = run("your_own_model", "--out", str(tmp_path / "run"))
    assert "Nudge" in told
    assert "copy-last" in told
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == {"context": 3, "width": 24}


def test_your_own_data(tmp_path: Path) -> None:
    told = run("your_own_data", "--out", str(tmp_path))
    assert "4 videos, 80 frames" in told
    index = json.loads((tmp_path / "data" / "index.json").read_text())
    assert index["actions"]["kind"] == "continuous"
    assert index["actions"]["size"] == 2


def test_score_a_prediction() -> None:
    rows = {line[:16].strip(): [float(v) for v in line[16:].split()] for line in table(run("score_a_prediction"))}
    assert set(rows) == {"copy-last", "one frame late", "blurred truth", "truth + noise"}
    psnr, moving_psnr, _, sharpness = zip(*rows.values(), strict=True)
    assert max(psnr) == rows["truth + noise"][0]
    assert rows["blurred truth"][3] == min(sharpness) < 0.5
    # The still background flatters a copy: where something moves it is further from the truth.
    assert moving_psnr[0] < psnr[0] - 3


def table(text: str) -> list[str]:
    return text.splitlines()[1:]


def test_frame_by_frame(tmp_path: Path) -> None:
    told = run("frame_by_frame", "--out", str(tmp_path))
    found = re.search(r"at once: (\S+)", told)
    assert found
    assert float(found[1]) < 1e-5
    assert len(read_video(tmp_path / "dream.gif").frames) == 4 + 4


def play_notebook(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Kinds of what a notebook shows, run from its first cell to its last."""
    monkeypatch.setenv("TINY", "1")
    monkeypatch.setenv("OUT", str(folder))
    book: Any = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    assert all(not cell.get("outputs") for cell in book.cells), "commit the notebook without its outputs"
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return {kind for cell in book.cells for out in cell.get("outputs", []) for kind in out.get("data", {})}


def test_dreams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = play_notebook("dreams", tmp_path, monkeypatch)
    assert {"image/gif", "image/png"} <= shown, "no film or no curves were shown"
    for film, frames in (("reconstruction", 8), ("dreams", 8), ("temperatures", 4)):
        assert len(read_video(tmp_path / f"{film}.gif").frames) == frames


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = play_notebook("quickstart", tmp_path, monkeypatch)
    assert {"image/gif", "image/png"} <= shown, "no film or no curves were shown"
    assert (tmp_path / "run" / "scores.json").is_file()
    assert (tmp_path / "forecast.gif").stat().st_size > 0
