"""The demo in its tiny form, from recording to report."""

import contextlib
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from framecast.cli import demo
from framecast.core.errors import UserError
from framecast.evaluation.headline import headline_sentence
from framecast.media.video import read_video
from framecast.metrics.scores import BASELINES, Scores


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished tiny demo, with its output in printed.txt."""
    out = tmp_path_factory.mktemp("demo")
    with (out / "printed.txt").open("w") as printed, contextlib.redirect_stdout(printed):
        demo.demo(out, tiny=True)
    return out


def test_demo_writes_report_and_scores(made: Path) -> None:
    run = made / "run"
    scores = json.loads((run / "scores.json").read_text())
    assert list(scores["predictors"]) == ["direct", *BASELINES]
    assert scores["protocol"]["split"] == "test"
    assert "<html" in (run / "report.html").read_text()
    assert (run / "checkpoint.pt").is_file()


def test_video_has_three_panels_and_motion(made: Path) -> None:
    video = read_video(made / "run" / "forecast.mp4")
    assert len(video.frames) == 4
    panels = np.array_split(video.frames.astype(int), 3, axis=3)
    assert np.abs(panels[0][0] - panels[0][-1]).max() > 50  # the truth moves
    assert np.abs(panels[1][0] - panels[0][0]).max() > 50  # and an untrained forecast is not the truth


def test_report_and_film_agree(made: Path) -> None:
    """The headline is computed from the horizon whose last frame the film shows."""
    scores = Scores.load(made / "run" / "scores.json")
    sentence = headline_sentence(scores)
    assert html.escape(sentence, quote=False) in (made / "run" / "report.html").read_text()
    truth, forecast, copied = np.array_split(read_video(made / "run" / "forecast.mp4").frames[-1] / 255.0, 3, axis=2)
    film = ((forecast - truth) ** 2).mean() / ((copied - truth) ** 2).mean()
    stated = float(re.search(r"at frame 4 its squared error is (\S+) times", sentence)[1])
    assert stated < 1.5  # the last frame repeated has 1
    assert film < 3  # of one clip, and after coding
    assert "Better than the best baseline" not in sentence


def test_output_explains_the_score(made: Path) -> None:
    output = (made / "printed.txt").read_text()
    for word in ("report", "video", "scores", "copy-last", "Skill"):
        assert word in output


def test_recorded_episodes_are_used_again(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_source", None)
    assert len(demo.record(made / "data", "ms_pacman", 0, tiny=True)) == 4


def test_demo_uses_bouncing_shapes_without_the_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    source = demo.record(tmp_path / "data", "ms_pacman", 0, tiny=True)
    assert source.meta()["generator"].startswith("bouncing") or "bouncing" in json.dumps(source.meta())
    assert 'pip install "framecast[atari]"' in capsys.readouterr().err


def test_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="choose another --out"):
        demo.record(tmp_path / "data", "ms_pacman", 0, tiny=True)


def test_training_takes_the_budget() -> None:
    config = demo.demo_config("1s", 0, False)
    assert config.name == "direct"
    assert config.train.budget == "1s"
    assert config.train.steps is None
