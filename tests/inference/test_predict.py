"""A forecast of the user's own file: length, rate, borders, size, place, actions."""

# ruff: noqa: F401, F811 - fixtures come by import

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cli_support import acting_run, acting_store, clip, copy_run, done, frames, moving, refused, store, tiny_run
from small_models import Acting

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, ClipSpec
from framecast.data.open import open_path
from framecast.data.store import Store
from framecast.evaluation.evaluate import evaluate
from framecast.inference.export import save_pretrained
from framecast.inference.predict import FORECAST, SEEN, predict_file, read_actions, read_past
from framecast.media.video import read_video
from framecast.media.write import write_video
from framecast.models.registry import find_model
from framecast.training.presets import preset
from framecast.training.run_folder import open_run
from framecast.training.train import train


def film(run, source, out, horizon=3, **settings):
    """What was made, and its frames (t, c, h, w)."""
    made = predict_file(open_run(run), source, out, horizon, **settings)
    if made.path.is_dir():
        return made, open_path(made.path).clip(0, 0, made.context + made.frames).frames
    return made, read_video(made.path).frames


def test_a_forecast_can_begin_from_noise(done, refused, tmp_path):
    first, again, other = (tmp_path / f"{n}.gif" for n in ("first", "again", "other"))
    for place, seed in ((first, "0"), (again, "0"), (other, "1")):
        result = done("predict", tiny_run(), "--from-noise", "--horizon", "3", "--seed", seed, "--out", place)
        assert "4 context frames, 3 predicted" in result
        assert "starts from noise" in result
    films = [read_video(place).frames for place in (first, again, other)]
    assert films[0].shape[0] == 7
    assert np.array_equal(films[0], films[1])
    assert not np.array_equal(films[0], films[2])
    inside = films[0][:4, :, 4:-4, 4:-4].astype(float)
    assert inside.std() > 50  # evenly between 0 and 255: 74
    sentence = "predict needs either --input FILE or --from-noise"
    assert sentence in refused("predict", tiny_run(), "--out", first)
    assert sentence in refused("predict", tiny_run(), "--out", first, "--from-noise", "--input", first)


def test_context_then_forecast_each_in_its_border(tmp_path):
    made, shown = film(copy_run(), frames(), tmp_path / "out", horizon=5)
    assert (made.context, made.frames, made.size) == (1, 5, (32, 32))
    assert shown.shape == (6, 3, 34, 34)
    assert tuple(shown[0, :, 0, 0]) == SEEN
    assert all(tuple(frame[:, 0, 0]) == tuple(frame[:, -1, -1]) == FORECAST for frame in shown[1:])
    np.testing.assert_array_equal(shown[:, :, 1:-1, 1:-1], np.stack([moving()[-1]] * 6))


def test_model_of_fixed_frame_size_gets_resized_frames(tmp_path):
    chosen = preset("c-ae", "tiny")
    model = find_model("c-ae")(chosen.model, ClipSpec(channels=3, height=24, width=16))
    folder = save_pretrained(model, tmp_path / "weights")
    for size in (None, "32"):
        made, shown = film(folder, clip(), tmp_path / "out.gif", size=size)
        assert shown.shape[2:] == (26, 18)
        assert made.note == "frames brought from 32x32 to 24x16, the size the model takes"
    scores, _ = evaluate(folder, store(), horizon=2, clips=2, save=False)
    assert (scores.protocol.height, scores.protocol.width) == (24, 16)
    with pytest.raises(ValueError, match="built for frames of 24x16, got 32x32; resize them"):
        model.predict(np.zeros((6, 3, 32, 32), np.uint8), 1)


@pytest.mark.parametrize("name", ["f.mp4", "f.gif", "f.webp", "f.avi", "f.mkv", "f.webm", "f.mov"])
def test_every_video_format_has_the_length_and_rate_of_the_input(tmp_path, name):
    made, shown = film(tiny_run(), clip(), tmp_path / name)
    assert len(shown) == 4 + 3
    assert made.fps == 15
    assert read_video(tmp_path / name).fps == pytest.approx(15, abs=0.5)


def test_frames_in_a_folder_are_taken_to_have_the_rate_of_training(tmp_path):
    assert film(tiny_run(), frames(), tmp_path / "f.mp4")[0].fps == open_run(tiny_run()).config.spec.fps == 10


@pytest.mark.parametrize(("at", "last"), [("end", 39), ("40", 39), ("10", 9), ("1s", 14), ("0.4s", 5), ("1", 0)])
def test_forecast_begins_at_the_given_position(tmp_path, at, last):
    path = write_video(moving(), tmp_path / "in.webp", 15)  # frames of its own rate, and animated WebP is a film
    made, shown = film(copy_run(), path, tmp_path / "out", at=at, horizon=1)
    difference = shown[0, :, 1:-1, 1:-1].astype(int) - moving()
    assert np.abs(difference).mean((1, 2, 3)).argmin() == last % 24  # the square is back
    assert made.context == 1


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        ("3", "the model uses 4 frames but only 3 come before the forecast"),
        ("41", "--at 41 lies outside its 40 frames (2.7 s)"),
        ("99s", "lies outside"),
        ("-1", "lies outside"),
        ("soon", "--at 'soon' is not understood; use end, a frame number or seconds such as 2.5s"),
        ("infs", "is not understood"),
        ("nans", "is not understood"),
    ],
)
def test_invalid_positions_raise(tmp_path, at, sentence):
    with pytest.raises(UserError) as error:
        film(tiny_run(), clip(), tmp_path / "f.mp4", at=at)
    assert sentence in str(error.value)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (48, 20), (211, 160)])
def test_any_frame_size_that_the_model_can_take(tmp_path, height, width):
    path = write_video(moving(8, height, width), tmp_path / "in")
    made, shown = film(tiny_run(), path, tmp_path / "out", horizon=1)
    assert made.size == (height, width)
    assert f"kept at {height}x{width}" in made.note
    edge = max(1, round(max(height, width) / 48))
    assert shown.shape[2:] == (height + 2 * edge, width + 2 * edge)


def test_frames_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**4))
    with pytest.raises(UserError, match=r"5 frames of 32x32 px need .* use --size or a smaller --horizon"):
        film(copy_run(), frames(), tmp_path / "out", horizon=5)
    assert not (tmp_path / "out").exists()


def test_frames_are_resized_to_the_given_size(tmp_path):
    made, _ = film(tiny_run(), clip(), tmp_path / "f.gif", size="24x40")
    assert made.size == (24, 40)
    assert made.note == "frames brought from 32x32 to 24x40, as asked"


def test_frames_are_resized_to_the_size_of_training(tmp_path):
    run = open_run(tiny_run())
    data = dataclasses.replace(run.config.data, trained_size="16")
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    made = predict_file(run, clip(), tmp_path / "f.gif", 2)
    assert (made.size, made.note) == ((16, 16), "frames brought from 32x32 to 16x16, as in training")


def test_deterministic_model_gives_one_sample(tmp_path):
    made, shown = film(tiny_run(), clip(), tmp_path / "out", samples=3)
    assert "is deterministic" in made.note
    assert shown.shape[3] == 34


def test_a_video_of_a_store_by_its_name(tmp_path):
    source = Store(store())
    made, shown = film(copy_run(), store() / source.names[1], tmp_path / "out", horizon=1)
    last = source.clip(1, source.lengths[1] - 1, 1).frames[0]
    assert made.frames == 1
    assert np.abs(shown[-1, :, 1:-1, 1:-1].astype(int) - last).mean() < 1


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "grey.npy"])
def test_arrays_are_inputs_like_videos(tmp_path, name):
    frames = moving(8) if name[0] == "a" else moving(8)[:, 0]
    (np.savez if name.endswith("z") else np.save)(tmp_path / name, frames)
    made, shown = film(tiny_run(), tmp_path / name, tmp_path / "out")
    assert (made.context, made.frames) == (4, 3)
    expected = np.broadcast_to(frames[4:, None] if frames.ndim == 3 else frames[4:], (4, 3, *frames.shape[-2:]))
    assert np.array_equal(shown[:4, :, 1:-1, 1:-1], expected)  # without the border


def test_axes_of_an_array_whose_sizes_do_not_show_them(tmp_path, refused):
    frames = moving(8)
    np.save(tmp_path / "a.npy", np.moveaxis(frames, 1, 0))  # channels first, then time
    with pytest.raises(UserError, match="--axes"):
        film(tiny_run(), tmp_path / "a.npy", tmp_path / "out")
    made = predict_file(open_run(tiny_run()), tmp_path / "a.npy", tmp_path / "out", 3, axes="cthw")
    assert (made.context, made.frames) == (4, 3)
    past, _ = read_past(tmp_path / "a.npy", "end", 128, 100, 3, "cthw")
    assert np.array_equal(past, frames)
    sentence = refused("predict", "--input", clip(), "--out", tmp_path / "o.gif", "--axes", "cthw")
    assert "--axes belongs to arrays" in sentence


def test_channels_that_the_model_lacks(tmp_path):
    np.save(tmp_path / "a.npy", np.repeat(moving(8)[:, :1], 2, axis=1))
    with pytest.raises(UserError, match="have 2 channels but the model was trained on 3"):
        film(tiny_run(), tmp_path / "a.npy", tmp_path / "out")


def test_invalid_inputs_raise(tmp_path):
    two = tmp_path / "two"
    for name in "ab":
        write_video(moving(8), two / f"{name}.mp4")
    for source, sentence in (
        (frames() / "000000.png", "got one image, the model uses 4 frames; give a video or a folder of frames"),
        (clip().with_name("clap.mp4"), "no such file; did you mean 'clip.mp4'?"),
        (acting_store(), f"; name one behind it, e.g. --input {acting_store() / Store(acting_store()).names[0]}"),
        (acting_store() / "nobody", "holds no video 'nobody'"),
        (two, "holds 2 videos (a, b); give one of them"),
        (write_video(moving(2), tmp_path / "short.mp4"), "uses 4 frames but only 2"),
        (write_video(moving(8, 3, 3), tmp_path / "dots"), "dots"),
    ):
        with pytest.raises(UserError) as error:
            film(tiny_run(), source, tmp_path / "f.mp4")
        assert sentence in str(error.value)
        assert not (tmp_path / "f.mp4").exists()


# ------------------------------------------------------------------------------------------------------------ actions

LED = ActionSpec(kind="discrete", size=3, names=("left", "stay", "right"))
STICK = ActionSpec(kind="continuous", size=2, mean=(1.0, 0.0), std=(2.0, 1.0))


def written(folder, name, value):
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, value)
    else:
        path.write_text(value if name.endswith(".csv") else json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.json", [2, 0, 1]),
        ("b.json", ["right", "left", "stay"]),
        ("c.json", [[2], [0], [1], [1]]),
        ("a.csv", "2\n0\n1\n"),
        ("b.csv", "right\n left\nstay\n\nstay\n"),
        ("a.npy", np.array([2, 0, 1])),
        ("b.npy", np.array([[2], [0], [1]], np.uint8)),
    ],
)
def test_discrete_actions_as_indexes_or_names(tmp_path, name, value):
    found = read_actions(written(tmp_path, name, value), LED, 3)
    np.testing.assert_array_equal(found, np.eye(3, dtype=np.float32)[[2, 0, 1]][None])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.json", [[3, 1], [1.0, 0]]),
        ("a.csv", "3,1\n1.0,0\n"),
        ("a.npy", np.array([[3.0, 1.0], [1.0, 0.0], [9.0, 9.0]])),
    ],
)
def test_continuous_actions_are_standardised_as_in_training(tmp_path, name, value):
    found = read_actions(written(tmp_path, name, value), STICK, 2)
    np.testing.assert_allclose(found, [[[1, 1], [0, 0]]])
    assert found.dtype == np.float32


def test_one_continuous_dimension_needs_no_brackets(tmp_path):
    one = ActionSpec(kind="continuous", size=1)
    found = read_actions(written(tmp_path, "a.csv", "0.5\n-2\n"), one, 2)
    np.testing.assert_allclose(found, [[[0.5], [-2]]])


@pytest.mark.parametrize(
    ("name", "value", "spec", "sentence"),
    [
        ("a.json", [0, 1], LED, "holds 2 actions, 3 are needed (context + horizon - 1)"),
        ("a.json", [0, 1, 3], LED, "3 is not an action; give an index in 0…2 or a name"),
        ("a.json", [0, 1, True], LED, "is not an action"),
        ("a.json", ["left", "stay", "rigth"], LED, "unknown action 'rigth'; did you mean 'right'?"),
        ("a.json", {"left": 1}, LED, "must hold a list of actions"),
        ("a.npy", np.array([0.5, 1, 2]), LED, "is not an action"),
        ("a.npy", np.array([{}, {}, {}], object), LED, "holds Python objects; save plain arrays"),
        ("a.csv", "1,x\n2,3\n4,5\n", STICK, "cannot be read as actions"),
        ("a.json", [[1, 2], [3], [4, 5]], STICK, "must be rows of 2 numbers"),
        ("a.json", [[1, 2, 3]] * 3, STICK, "must be rows of 2 finite numbers"),
        ("a.npy", np.full((3, 2), np.nan), STICK, "must be rows of 2 finite numbers"),
        ("a.json", [1, 2, 3], STICK, "must be rows of 2 finite numbers"),
    ],
)
def test_invalid_actions_raise(tmp_path, name, value, spec, sentence):
    path = written(tmp_path, name, value)
    with pytest.raises(UserError) as error:
        read_actions(path, spec, 3)
    assert str(error.value).startswith(str(path))
    assert sentence in str(error.value)


def test_action_files_that_are_missing_damaged_or_huge(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file"):
        read_actions(tmp_path / "a.json", LED, 1)
    (tmp_path / "b.json").write_text("[1, 2")
    with pytest.raises(UserError, match="is not valid JSON"):
        read_actions(tmp_path / "b.json", LED, 1)
    monkeypatch.setattr("framecast.inference.predict._ACTION_BYTES", 3)
    with pytest.raises(UserError, match="too large"):
        read_actions(tmp_path / "b.json", LED, 1)


def test_actions_change_the_forecast(tmp_path):
    run = open_run(acting_run(), Acting)
    source = write_video(moving(6, 12, 12), tmp_path / "in")

    def forecast(moves):
        path = written(tmp_path, "moves.json", moves)
        made = predict_file(run, source, tmp_path / "out", 3, actions=path)
        return open_path(made.path).clip(0, 0, 5).frames

    left, right = forecast([0, 0, 0, 0]), forecast([2, 2, 2, 2])
    np.testing.assert_array_equal(left[:2], right[:2])  # what was seen
    assert (left[2:] != right[2:]).any()
    with pytest.raises(UserError, match="predicts from actions; give --actions FILE with 4 of them"):
        predict_file(run, source, tmp_path / "out", 3)
    with pytest.raises(UserError, match="holds 3 actions, 4 are needed"):
        forecast([0, 0, 0])


def test_actions_for_a_model_that_takes_none(tmp_path):
    path = written(tmp_path, "moves.json", [0] * 9)
    with pytest.raises(UserError, match="takes no actions; remove --actions"):
        film(tiny_run(), clip(), tmp_path / "f.gif", actions=path)


def test_uncertainty_of_a_stochastic_model_is_drawn_over_the_forecast(refused, tmp_path):
    spec = ClipSpec(channels=3, height=64, width=64)
    torch.manual_seed(0)
    model = find_model("dreams")(preset("dreams", "tiny").model, spec)
    for weights in model.parameters():  # untrained samples hardly differ
        weights.data.add_(0.3 * torch.randn_like(weights))
    folder = save_pretrained(model, tmp_path / "weights")
    made, _ = film(folder, clip(), tmp_path / "out", uncertainty=True)
    over = open_path(made.views["uncertainty"]).clip(0, 0, 3).frames.astype(int)
    red = over[:, 0] - over[:, 1]  # 0 in grey
    assert red.min() >= 0
    assert red.max() > 50
    sentence = "is deterministic and has no interval; leave out --uncertainty"
    assert sentence in refused("predict", tiny_run(), "--input", clip(), "--uncertainty", "--out", tmp_path / "a.gif")


def test_actions_keep_their_frames_where_a_cut_shortens_the_context(tmp_path):
    run = open_run(train("direct", acting_store(), out=tmp_path / "run", profile="tiny", steps=1, quiet=True))
    before, after = moving(2, 12, 12), 255 - moving(6, 12, 12)[4:]
    whole = write_video(np.concatenate([before[-1:], after]), tmp_path / "whole")
    rest = write_video(after, tmp_path / "rest")

    def forecast(source, moves):
        made = predict_file(run, source, tmp_path / "out", 2, actions=written(tmp_path, "moves.json", moves))
        return made, open_path(made.path).clip(0, 0, made.context + 2).frames

    made, cut = forecast(whole, [0, 1, 2, 0])
    assert "a cut lies 2 frames before the forecast" in made.note
    np.testing.assert_array_equal(cut, forecast(rest, [1, 2, 0])[1])
