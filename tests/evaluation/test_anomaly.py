"""Anomaly detection: alarms at known places, the stated false-alarm rate, and refusals in one sentence."""

import dataclasses

import numpy as np
import pytest

import framecast
from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.store import DatasetWriter, Store
from framecast.evaluation.anomaly import AnomalyDetector, trailing_mean
from framecast.inference.export import save_pretrained
from framecast.media.write import write_video
from framecast.models.registry import find_model
from framecast.training.presets import preset

SIDE = 32


def noise(count, seed):
    """A still grey scene with sensor noise, uint8 (t, 3, 32, 32)."""
    return np.random.default_rng(seed).normal(128, 2, (count, 3, SIDE, SIDE)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    """Normal material: 12 videos of 33 frames."""
    folder = tmp_path_factory.mktemp("anomaly") / "normal"
    with DatasetWriter(folder, fps=10) as writer:
        for seed in range(12):
            writer.add(noise(33, seed))
    return folder


def video(folder, frames, fps=10, name="day"):
    with DatasetWriter(folder, fps=fps) as writer:
        writer.add(frames, name=name)
    return Store(folder)


def test_an_object_is_an_alarm_in_its_frames_and_region_only(normal, tmp_path):
    frames = noise(60, 99)
    frames[30:33, :, 20:26, 4:10] = 250
    found = framecast.anomaly("copy-last", video(tmp_path / "v", frames), normal, block=8, cells=4)
    assert found.intervals == [(30, 31), (33, 34)]  # persistence errs where the object appears and where it leaves
    assert found.worst_region(30) == (2, 1) or found.worst_region(30) == (2, 0)
    assert np.isnan(found.scores[0])
    assert found.regions.shape == (60, 4, 4)
    assert found.scores[30] == found.regions[30].max() > 50 * found.threshold


def test_noise_of_a_still_scene_has_no_more_alarms_than_stated(normal, tmp_path):
    detector = AnomalyDetector("copy-last", normal, rate=0.1, block=8, cells=4)
    blocks = [detector.detect(video(tmp_path / str(s), noise(33, 500 + s))).scores[1:].reshape(4, 8) for s in range(10)]
    above = (np.concatenate(blocks).max(1) > detector.threshold).sum()
    assert above <= 9  # of 40 blocks at a rate of 0.1: more with a probability of 0.5 %
    assert len(detector.maxima) == 48


def test_score_of_a_region_is_its_error_over_that_of_persistence(normal, tmp_path):
    frames = noise(5, 3)
    found = framecast.anomaly("copy-last", video(tmp_path / "v", frames), normal, block=8, cells=1)
    steps = np.concatenate([np.diff(Store(normal).clip(i, 0, 33).frames / 255, axis=0) for i in range(12)])
    reference = 2 * np.square(steps).mean() + 255**-2
    expected = np.square(np.diff(frames / 255, axis=0)).mean((1, 2, 3)) / reference
    np.testing.assert_allclose(found.scores[1:], expected, rtol=1e-4)


def test_trailing_mean_is_that_of_the_last_values():
    values = np.random.default_rng(0).random((2, 9))
    for count in (1, 4, 20):
        expected = [[row[max(0, i - count + 1) : i + 1].mean() for i in range(9)] for row in values]
        np.testing.assert_allclose(trailing_mean(values, count), expected)


def test_smoothing_keeps_an_event_that_lasts(normal, tmp_path):
    frames = noise(60, 4)
    frames[30:40, :, 10:20, 10:20] = np.arange(10)[:, None, None, None] % 2 * 200
    found = framecast.anomaly("copy-last", video(tmp_path / "v", frames), normal, block=8, smooth=4)
    assert found.intervals == [(30, 44)]
    assert found.scores[33] == pytest.approx(found.regions[30:34].max((1, 2)).mean(), rel=1e-5)


def scene(count, seed, colour):
    """A still scene of one colour with a stripe and sensor noise: another colour is a shot cut."""
    frames = noise(count, seed).astype(int) - 128 + np.array(colour)[:, None, None]
    frames[:, :, :, ::4] += 25
    return frames.clip(0, 255).astype(np.uint8)


RED, BLUE, DARK = (200, 60, 60), (40, 60, 190), (20, 20, 20)


def edited(*lengths, seed=0):
    """Shots of the given lengths, of three scenes in turn."""
    return np.concatenate([scene(n, seed + i, (RED, BLUE, DARK)[i % 3]) for i, n in enumerate(lengths)])


def test_no_block_of_normal_material_crosses_a_shot_cut(tmp_path):
    """Twelve shots: with one block across each cut, the threshold would be the error of a cut."""
    film = write_video(edited(*[20] * 12).repeat(2, 2).repeat(2, 3), tmp_path / "normal.mp4", 10)
    detector = AnomalyDetector("copy-last", film, rate=0.1, block=8)
    assert detector.breaks == 11
    assert len(detector.maxima) == 12 * 2  # two blocks of 8 in the 19 windows of every shot
    assert detector.maxima.max() < 10
    jump = edited(20, 20)[[19, 20]].astype(float) / 255
    assert np.square(np.diff(jump, axis=0)).mean() / detector.reference.max() > 20 * detector.threshold


@pytest.mark.parametrize("lead", [1, 3])
def test_frames_whose_forecast_crosses_a_cut_are_not_scored_and_named(normal, tmp_path, lead):
    frames = edited(30, 20, 25)
    frames[60:63, :, 4:10, 4:10] = 250
    film = write_video(frames, tmp_path / "day.mp4", 10)
    found = framecast.anomaly("copy-last", film, normal, block=8, lead=lead, smooth=2, at_cuts="skip")
    assert found.breaks == (30, 50)
    assert found.not_scored == [(0, lead), (30, 30 + lead), (50, 50 + lead)]
    assert not found.regions[30 : 30 + lead].any()
    assert np.isfinite(found.scores).sum() == 75 - 3 * lead
    assert found.scores[30 + lead] == pytest.approx(found.regions[30 + lead].max(), rel=1e-5)  # no mean across the cut
    assert found.intervals[0][0] == 60
    summary = found.summary()
    assert summary["breaks"] == [30, 50]
    assert summary["not_scored"][1] == [30, 30 + lead]
    assert summary["calibration"]["breaks"] == 0
    assert not any(interval["at_break"] for interval in summary["intervals"])


def test_a_cut_is_an_alarm_only_where_the_normal_material_has_none(normal, tmp_path):
    """A large object is a cut to its detector too: on a fixed camera it must stay an alarm."""
    frames = noise(60, 1)
    frames[40:43, :, 4:20, 4:20] = 250
    film = write_video(frames, tmp_path / "day.mp4", 10)
    shots = tmp_path / "shots"
    with DatasetWriter(shots, fps=10) as writer:
        for seed in range(8):
            writer.add(noise(40, seed), breaks=[20])
    fixed = framecast.anomaly("copy-last", film, normal, block=8)
    assert fixed.breaks == (40, 43)
    assert fixed.not_scored == [(0, 1)]
    assert fixed.intervals == [(40, 41), (43, 44)]
    assert [interval["at_break"] for interval in fixed.summary()["intervals"]] == [True, True]
    assert fixed.settings["at_cuts"] == "score"
    switched = framecast.anomaly("copy-last", film, shots, block=8)
    assert switched.summary()["calibration"] == {"data": "shots", "blocks": 32, "breaks": 8}
    assert switched.not_scored == [(0, 1), (40, 41), (43, 44)]
    assert not switched.alarms.any()
    assert switched.settings["at_cuts"] == "skip"
    assert framecast.anomaly("copy-last", film, shots, block=8, at_cuts="score").intervals == [(40, 41), (43, 44)]


def test_recorded_pauses_and_cuts_of_files_that_are_not_packed_are_breaks_too(normal, tmp_path):
    with DatasetWriter(tmp_path / "store", fps=10) as writer:
        writer.add(noise(40, 1), breaks=[15])
    film = open_path(write_video(edited(30, 20), tmp_path / "day.mp4", 10))
    detector = AnomalyDetector("copy-last", normal, block=8, at_cuts="skip")
    assert detector.detect(Store(tmp_path / "store")).not_scored == [(0, 1), (15, 16)]
    assert detector.detect(film).not_scored == [(0, 1), (30, 31)]


def test_material_that_is_cut_too_often_is_refused_in_one_sentence(normal, tmp_path):
    often = tmp_path / "often"
    with DatasetWriter(often, fps=10) as writer:
        writer.add(noise(40, 1), breaks=list(range(1, 40)))
    shots = tmp_path / "shots"
    with DatasetWriter(shots, fps=10) as writer:
        writer.add(noise(40, 1), breaks=[10, 20, 30])
    cases = [
        (Store(often), normal, {}, "has no 2 frames in a row between its shot cuts and pauses, which copy-last needs"),
        (Store(often), normal, {"at_cuts": "score"}, "has no 2 frames in a row between its shot cuts and pauses"),
        (
            video(tmp_path / "d", noise(40, 2)),
            often,
            {},
            "often: has no 9 frames in a row between its shot cuts and pau",
        ),
        (video(tmp_path / "e", noise(40, 2)), shots, {}, "got 4; .* no block crosses a shot cut or a pause \\(3 in it"),
        (video(tmp_path / "f", noise(40, 2)), shots, {"rate": 2}, "must be above 0 and below 1, got 2$"),
    ]
    for source, calibrate, settings, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            framecast.anomaly("copy-last", source, calibrate, block=8, **settings)


def test_a_stride_keeps_the_frames_of_scores_in_step_across_a_cut(normal, tmp_path):
    with DatasetWriter(tmp_path / "day", fps=10) as writer:
        writer.add(noise(60, 1), breaks=[25, 59])
    detector = AnomalyDetector("copy-last", normal, block=4, at_cuts="skip")
    detector.stride, detector._window = 2, 3
    detector._request = dataclasses.replace(detector._request, stride=2)
    found = detector.detect(Store(tmp_path / "day"))
    assert len(found.scores) == 30
    assert found.breaks == (13,)  # frame 26, the first one after the cut; the last break has no frame after it
    assert found.not_scored == [(0, 1), (13, 14)]


def test_lead_time_compares_with_an_older_context(normal, tmp_path):
    frames = noise(40, 7)
    frames[20:, :, 4:20, 4:20] = 250
    found = framecast.anomaly("copy-last", video(tmp_path / "v", frames), normal, block=8, lead=3)
    assert found.intervals == [(20, 23)]
    assert found.first == 3


def test_nearest_sample_counts_and_a_run_is_scored_on_its_own_val_split(tmp_path, normal):
    from framecast.training.train import train

    run = train("dreams", normal, out=tmp_path / "run", config=preset("dreams", "tiny"), steps=2, quiet=True)
    one = framecast.anomaly(run, f"{normal}/{Store(normal).names[0]}", block=8, rate=0.5, samples=1)
    many = framecast.anomaly(run, f"{normal}/{Store(normal).names[0]}", block=8, rate=0.5, samples=4)
    assert one.calibration == "normal"
    assert one.blocks < 12  # the val split only
    assert np.nanmean(many.scores) <= np.nanmean(one.scores) + 0.05
    assert many.settings["samples"] == 4


def test_what_cannot_be_calibrated_is_refused_in_one_sentence(normal, tmp_path):
    day = video(tmp_path / "day", noise(40, 1))
    wide = video(tmp_path / "wide", np.zeros((40, 3, SIDE, 40), np.uint8))
    fast = video(tmp_path / "fast", noise(40, 1), fps=25)
    cases = [
        (("direct-any", day), {}, "no calibration data: give --calibrate with a video or store of normal material"),
        (("copy-last", fast, normal), {"block": 8}, "has 25 frames per second but the normal material normal has 10"),
        (
            ("copy-last", day, normal),
            {"block": 8, "rate": 0.001},
            "needs at least 999 blocks of normal material, got 48",
        ),
        (("copy-last", day, normal), {"block": 40}, "normal: has no 41 frames in a row"),
        (("copy-last", day, normal), {"block": 0}, "--block must be at least 1, got 0"),
        (("copy-last", day, normal), {"at_cuts": "no"}, "--at-cuts must be auto, skip or score, got 'no'"),
        (("copy-last", tmp_path / "no.mp4", normal), {"block": 8}, "no.mp4: no such file; give --input a video"),
        (("copy-last", day, tmp_path / "no"), {}, "no: no such file or folder; give --calibrate a video or store"),
        (("copy-last", wide, normal), {"block": 8}, "has frames of 32x40 but the normal material normal of 32x32"),
        (("copy-last", normal, normal), {}, "is the video to be scored"),
        (("world-paddle", day, normal), {"block": 8}, "actions"),
        (("copy-last", video(tmp_path / "one", noise(1, 0)), normal), {"block": 8}, "has 1 frames, copy-last needs"),
    ]
    for words, settings, sentence in cases:
        with pytest.raises(UserError) as error:
            framecast.anomaly(*words, **settings)
        assert sentence in str(error.value), words


def test_a_video_that_cannot_be_scored_is_refused_before_the_calibration(normal, tmp_path, monkeypatch):
    (tmp_path / "empty.mp4").write_bytes(b"")
    cases = {
        str(tmp_path / "missing.mp4"): "no such file; give --input a video",
        str(tmp_path / "empty.mp4"): "is empty",
        video(tmp_path / "one", noise(1, 1)): "has 1 frames, copy-last needs at least 2",
        video(tmp_path / "wide", np.zeros((40, 3, SIDE, 40), np.uint8)): "frames of 32x40 but the normal material",
        video(tmp_path / "fast", noise(40, 1), fps=25): "has 25 frames per second but the normal material",
        video(tmp_path / "grey", noise(40, 1)[:, :1]): "its frames have 1 channels",
    }
    monkeypatch.setattr(AnomalyDetector, "_errors", lambda *_: pytest.fail("the calibration has begun"))
    for source, sentence in cases.items():
        with pytest.raises(UserError, match=sentence):
            framecast.anomaly("copy-last", source, normal, block=8)


def test_a_video_file_and_fixed_frame_sizes(tmp_path, normal):
    path = write_video(noise(30, 5).repeat(2, 2).repeat(2, 3), tmp_path / "day.mp4", 10)
    clip = write_video(
        np.concatenate([noise(33, s) for s in range(5)]).repeat(2, 2).repeat(2, 3), tmp_path / "n.mp4", 10
    )
    spec = Store(normal).spec
    model = find_model("c-ae")(preset("c-ae", "tiny").model, spec)
    folder = save_pretrained(model, tmp_path / "weights")
    found = framecast.anomaly(folder, path, clip, block=4)
    assert found.regions.shape == (30, 8, 8)
    assert found.name == "day.mp4"
