"""Trackers get what a training reports; each library is used offline where it is installed."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from framecast.cli.train import run_train
from framecast.core.errors import UserError
from framecast.media.write import write_video
from framecast.training import trackers
from framecast.training.config import TrainConfig
from framecast.training.log import Log
from framecast.training.trackers import TRACKERS, Tracker, tracker_names
from framecast.training.train import train

OFFLINE = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "TRACKIO_DIR": "", "MLFLOW_TRACKING_URI": ""}
OTHERS = [name for name in TRACKERS if name != "tensorboard"]


class Recorder(Tracker):
    """Keeps every call."""

    made: list = []

    def __init__(self, folder, step, config, run_id):
        self.calls = [("start", step, run_id, config.get("name"))]
        self.run_id = run_id or "run-1"
        Recorder.made.append(self)

    def scalars(self, step, values):
        self.calls.append(("scalars", step, sorted(values)))

    def image(self, step, name, image):
        self.calls.append(("image", step, name, image.shape[0]))

    def video(self, step, name, path):
        self.calls.append(("video", step, name, Path(path).is_file()))

    def scores(self, values):
        self.calls.append(("scores", sorted(values)))

    def close(self):
        self.calls.append(("close",))


class Broken(Tracker):
    def scalars(self, step, values):
        raise RuntimeError("server is down")


@pytest.fixture
def recorder(monkeypatch):
    Recorder.made = []
    monkeypatch.setitem(TRACKERS, "recorder", Recorder)
    monkeypatch.setitem(TRACKERS, "broken", Broken)
    return Recorder.made


def test_a_training_reports_scalars_images_videos_and_final_scores_and_resumes_its_run(recorder, tmp_path):
    settings = {"profile": "tiny", "out": tmp_path / "run", "quiet": True, "tensorboard": False, "log": "recorder"}
    often = {"stats_every": 1, "summary_every": 1, "preview_every": 2, "validate_every": 2, "save_every": 2}
    data = tmp_path / "data"
    from framecast.data.registry import make_source

    make_source("ball", data, {"videos": 4, "frames": 24})
    train("dreams", data, steps=2, **settings, **often)
    kinds = [call[0] for call in recorder[0].calls]
    assert recorder[0].calls[0] == ("start", 0, None, "dreams")
    assert "scalars" in kinds
    assert kinds[-2:] == ["scores", "close"]
    assert recorder[0].calls[-2][1][0].startswith("val/")
    films = [call for call in recorder[0].calls if call[0] == "video"]
    assert films
    assert all(written for *_, written in films)
    assert json.loads((tmp_path / "run" / "trackers.json").read_text()) == {"recorder": "run-1"}
    train("dreams", data, steps=3, **settings, **often)
    assert recorder[1].calls[0][:3] == ("start", 2, "run-1")


def test_a_tracker_that_fails_is_left_out_and_the_training_continues(recorder, tmp_path, capsys):
    log = Log(tmp_path, trackers=["broken", "recorder"])
    log.scalars(1, {"a": 1.0})
    log.scalars(2, {"a": 2.0})
    log.image(2, "row", np.zeros((3, 8, 8), np.uint8))
    log.close()
    assert capsys.readouterr().err.count("broken failed and is left out from here on (server is down)") == 1
    assert [call[0] for call in recorder[0].calls] == ["start", "scalars", "scalars", "image", "close"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_names_are_checked_before_the_training():
    assert tracker_names("wandb, mlflow", True) == ("tensorboard", "wandb", "mlflow")
    assert tracker_names("tensorboard", False) == ("tensorboard",)
    with pytest.raises(UserError, match="unknown tracker 'wandbb'; did you mean 'wandb'"):
        TrainConfig(log="wandbb")


@pytest.mark.parametrize("name", OTHERS)
def test_a_missing_library_is_one_sentence_with_its_extra(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"{name} is not installed; pip install 'framecast\[{name}\]'"):
        Log(tmp_path, trackers=[name])


@pytest.mark.parametrize("name", OTHERS)
def test_a_missing_library_is_reported_before_data_are_read(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("framecast.data.cache.open_data", lambda *_: pytest.fail("the data were opened"))
    monkeypatch.setattr("framecast.training.train.open_data", lambda *_: pytest.fail("the data were opened"))
    sentence = rf"{name} is not installed; pip install 'framecast\[{name}\]'"
    with pytest.raises(UserError, match=sentence):
        train("direct", str(tmp_path), profile="tiny", log=name, out=tmp_path / "run")
    with pytest.raises(UserError, match=sentence):
        run_train(["direct", "--data", str(tmp_path), "--profile", "tiny", "--log", name, "--out", str(tmp_path / "r")])
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_cannot_start_is_one_sentence(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("the server\ndoes not answer")

    monkeypatch.setitem(TRACKERS, "broken", fail)
    with pytest.raises(
        UserError, match=r"broken cannot be started \(RuntimeError: the server does not answer\); check"
    ):
        Log(tmp_path, trackers=["broken"])


@pytest.mark.parametrize("name", OTHERS)
def test_offline_logging_with_the_real_library(name, tmp_path, monkeypatch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    for key, value in OFFLINE.items():
        monkeypatch.setenv(key, value) if value else monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    film = write_video(np.zeros((4, 3, 16, 16), np.uint8), tmp_path / "film.gif", 10)
    log = Log(tmp_path, trackers=[name], config={"name": "ball", "train": {"seed": 0}})
    log.scalars(1, {"val/loss": 0.5})
    log.image(1, "row", np.zeros((3, 8, 8), np.uint8))
    log.video(1, "film", film)
    assert list(log.trackers.parts) == [name]  # none of the calls failed
    log.close(ended=True)
    assert list(log.trackers.parts) == [name]
    assert name in json.loads((tmp_path / trackers.IDS).read_text())
    places = {"wandb": "wandb/offline-run-*/*.wandb", "mlflow": "mlflow/**/val/loss", "trackio": "trackio/**/*.db"}
    assert list(tmp_path.glob(places[name]))


def test_wandb_without_an_account_is_one_sentence(tmp_path, monkeypatch):
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    for key in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(key, raising=False)
    import wandb

    wandb.teardown()  # it keeps the settings of its first run in this process, such as the offline mode
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UserError, match="wandb has no account on this machine: run wandb login, or set WANDB_MODE"):
        Log(tmp_path, trackers=["wandb"])
