"""Forecasts without a run: packaged weights, tested on the past of the video and adapted to it."""

import json

import numpy as np
import pytest
import torch

from framecast.cli.main import main
from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.inference.backtest import Past, backtest, baseline_run, forecast_file
from framecast.inference.predict import predict_file
from framecast.media.images import read_image
from framecast.media.write import write_video
from framecast.models import DEFAULT_RUN
from framecast.models.base import Predictor
from framecast.models.direct.predictor import Direct
from framecast.training.run_folder import open_run


def panning(frames=40, size=(40, 48), speed=1, channels=3):
    """A view that moves over a smooth random picture."""
    g = torch.Generator().manual_seed(0)
    wide = torch.rand(1, channels, size[0] // 4, (size[1] + speed * frames) // 4 + 4, generator=g)
    wide = torch.nn.functional.interpolate(wide, scale_factor=4, mode="bilinear")[0]
    views = [wide[:, : size[0], speed * t : speed * t + size[1]] for t in range(frames)]
    return (torch.stack(views) * 255).round().byte().numpy()


@pytest.fixture
def video(tmp_path):
    write_video(panning(), tmp_path / "clip.mp4", 25)
    return tmp_path / "clip.mp4"


class Perfect(Predictor):
    """Knows the video it is tested on."""

    frames: np.ndarray
    seen: list

    def __init__(self, frames):
        torch.nn.Module.__init__(self)
        self.frames, self.seen = frames, []
        self.spec = ClipSpec(channels=3, height=frames.shape[2], width=frames.shape[3])

    num_context = min_context = 10

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        last = (context[0, -1] * 255).round().byte().numpy()
        at = next(i for i, frame in enumerate(self.frames) if (frame == last).all()) + 1
        self.seen.append(at)
        return torch.from_numpy(self.frames[at : at + horizon]).float()[None, None] / 255


def test_skill_is_that_of_the_squared_errors_pooled_over_origins():
    frames = panning()
    model = Perfect(frames)
    found = backtest({"perfect": model}, frames, 8)
    assert found.chosen == "perfect"
    assert found.skill["perfect"] == pytest.approx(1)
    assert found.skill["copy-last"] == 0
    assert found.horizon == 8
    assert found.origins == len(set(model.seen)) == 8
    scaled = frames / 255.0
    copied = mean = 0.0
    for at in model.seen:
        truth = scaled[at : at + 8]
        copied += ((scaled[at - 1] - truth) ** 2).mean()
        mean += ((scaled[at - 4 : at].mean(0) - truth) ** 2).mean()
    assert found.skill["temporal-mean"] == pytest.approx(1 - mean / copied, rel=1e-4)


class Exaggerating(Perfect):
    """Predicts twice the change that comes; its shares are all 1."""

    def __init__(self, frames):
        super().__init__(frames)
        self.shares = torch.ones(64)

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        last = context[:, None, -1:]
        return last + 2 * (super().predict(context, horizon) - last)


def test_forecaster_with_shares_is_scaled_by_those_of_the_other_origins():
    frames = panning()
    found = backtest({"twice": Exaggerating(frames)}, frames, 8)
    assert found.skill["twice"] > 0.75  # unscaled it is 0: its error is as large as the change
    assert len(found.shares["twice"]) == 8
    assert all(0.5 < share < 0.7 for share in found.shares["twice"])  # 0.5, and two origins that keep everything
    assert set(found.shares) == {"twice"}


def test_origins_lie_after_the_frames_trained_on():
    frames = panning()
    model = Perfect(frames)
    backtest({"perfect": model}, frames, 6, first=30)
    assert min(model.seen) == 30
    assert max(model.seen) + 6 == len(frames)


def test_too_short_a_past_is_not_tested_and_the_model_is_used():
    frames = panning(frames=3)
    found = backtest({"perfect": Perfect(frames)}, frames, 8)
    assert found.origins == 0
    assert found.chosen == "perfect"
    assert "could not be tested" in found.sentence("perfect")


def test_past_never_gives_its_tested_frames_to_training():
    past = Past(panning(frames=30), 25, 24)
    for splits in (past.splits(10), past.splits(20)):
        assert max(s.stop for s in [*splits["train"], *splits["val"]]) == 24 == splits["test"][0].start


def test_forecast_continues_the_file_at_its_size_and_names_what_made_it(video, tmp_path):
    lines = []
    written, test = forecast_file(video, tmp_path / "out.gif", 4, say=lines.append)
    assert written.size == (40, 48)
    assert written.frames == 4
    assert set(test.skill) == {DEFAULT_RUN, "copy-last", "temporal-mean", "linear-flow"}
    assert test.chosen == max(test.skill, key=lambda name: test.skill[name])
    assert "tested on 8 earlier moments" in lines[-1]


def test_shares_of_the_test_scale_the_forecast_at_their_lead_times_and_later(video, tmp_path):
    run = open_run(DEFAULT_RUN)
    films = {}
    for name, shares in (("whole", None), ("scaled", [0.5, 0.0])):
        written = predict_file(run, video, tmp_path / name, 4, shares=shares)
        frames = [read_image(path) for path in sorted((tmp_path / name).glob("*.png"))]
        films[name] = np.stack(frames).astype(float)[written.context - 1 :, :, 4:-4, 4:-4]  # without the border
    last = films["whole"][0]
    for k, share in enumerate([0.5, 0.0, 0.25, 0.25], 1):  # later ones have the mean
        expected = last + share * (films["whole"][k] - last)
        np.testing.assert_allclose(films["scaled"][k], expected, atol=1)
    assert np.abs(films["whole"][1:] - last).max() > 20


def test_better_baseline_makes_the_forecast(video, tmp_path, monkeypatch):
    def dark(self, frames, horizon, actions, bounded=None):
        shape = len(frames), horizon
        return torch.zeros(*shape, *frames.shape[2:]), torch.zeros(*shape, 2, *frames.shape[3:])

    monkeypatch.setattr(Direct, "_forecast", dark)
    lines = []
    _, test = forecast_file(video, tmp_path / "out.gif", 4, say=lines.append)
    assert test.skill[DEFAULT_RUN] < 0
    assert test.chosen == "linear-flow"
    assert "linear-flow was best and makes the forecast" in lines[-1]


def test_adaptation_trains_on_the_first_part_and_is_tested_on_the_rest(video, tmp_path):
    lines = []
    _, test = forecast_file(video, tmp_path / "out.gif", 4, adapt="1s", say=lines.append)
    assert lines[0] == "training on the first 32 frames for 1s …"
    assert {"adapted", DEFAULT_RUN} <= set(test.skill)


def test_adaptation_to_a_short_file_is_refused(tmp_path):
    write_video(panning(frames=12), tmp_path / "clip.mp4", 25)
    with pytest.raises(UserError, match="too few to adapt to"):
        forecast_file(tmp_path / "clip.mp4", tmp_path / "out.gif", 4, adapt="1s")


def test_only_frames_after_a_cut_are_tested_and_continued(tmp_path):
    folder = tmp_path / "frames"
    write_video(np.concatenate([panning(20), 255 - panning(14, speed=0) // 2]), folder, 25)
    lines = []
    written, test = forecast_file(folder, tmp_path / "out.gif", 4, say=lines.append)
    assert lines[0] == "a cut lies 14 frames before the forecast: only these are used"
    assert test.horizon == 4
    assert (test.chosen, test.skill["copy-last"]) == ("copy-last", 1.0)  # the shot after the cut stands still
    write_video(np.concatenate([panning(20), 255 - panning(4) // 2]), folder / "b", 25)
    written, _ = forecast_file(folder / "b", tmp_path / "out.gif", 4)
    assert written.context == 4
    assert "a cut lies 4 frames before the forecast" in written.note


@pytest.mark.parametrize(("frames", "size", "channels"), [(1, (40, 48), 3), (3, (8, 8), 3), (12, (32, 36), 1)])
def test_short_small_and_grey_input_is_forecast(tmp_path, frames, size, channels):
    folder = tmp_path / "frames"
    write_video(panning(frames, size, channels=channels).repeat(3 // channels, 1), folder, 25)
    written, _ = forecast_file(folder, tmp_path / "out.gif", 4)
    assert written.frames == 4
    assert written.size == size


def test_command_line_without_a_run(video, tmp_path, capsys):
    out = tmp_path / "out.gif"
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--input", str(video), "--horizon", "4", "--out", str(out), "--uncertainty", "--json", "-"])
    assert ended.value.code in (0, None)
    summary = json.loads(capsys.readouterr().out)
    assert set(summary["backtest"]) == {"skill", "origins", "horizon", "chosen", "shares"}
    assert out.is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("predict --from-noise --out a.gif", "needs a RUN"),
        ("predict dreams-ball --input a.mp4 --adapt 60s --out a.gif", "--adapt belongs to packaged weights"),
        ("predict --input a.mp4 --adapt soon --out a.gif", "a.mp4"),
    ],
)
def test_invalid_use_is_refused(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_baseline_run_has_no_weights():
    run = baseline_run("copy-last", open_run(DEFAULT_RUN))
    assert not list(run.model().parameters())
