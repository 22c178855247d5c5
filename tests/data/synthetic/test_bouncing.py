"""Bouncing shapes: the stored ground truth matches the frames."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.bouncing import COLOURS, SATURATED, Bouncing, BouncingConfig
from framecast.media.draw import SHAPES, draw_shape


def made(folder, **settings):
    Bouncing(BouncingConfig(**{"videos": 3, "frames": 40, "size": 32, "size_max": 12, **settings})).prepare(folder)
    return Store(folder)


def test_counts_and_shapes(tmp_path):
    store = made(tmp_path / "s", shapes=3)
    assert store.lengths == [40] * 3
    assert (store.spec.channels, store.spec.height, store.spec.width) == (3, 32, 32)
    assert store.spec.actions is None
    expected = {"kind": (3,), "colour": (3, 3), "position": (3, 2), "velocity": (3, 2), "extent": (3,)}
    assert store.spec.extras == expected
    assert store.meta()["kinds"] == list(SHAPES)
    assert store.meta()["parameters"]["seed"] == 0


def test_frames_equal_drawing_of_ground_truth(tmp_path):
    store = made(tmp_path / "s")
    for v in range(3):
        clip = store.clip(v, 0, 40)
        for i in (0, 7, 39):
            canvas = np.full((3, 32, 32), 128, np.uint8)
            for kind, colour, place, extent in zip(
                *(clip.arrays[k][i] for k in ("kind", "colour", "position", "extent")), strict=True
            ):
                draw_shape(canvas, SHAPES[kind], tuple(place.tolist()), float(extent), colour.tolist())
            np.testing.assert_array_equal(canvas, clip.frames[i])
        named = [(s["kind"], COLOURS[s["colour"]], s["extent"]) for s in clip.meta["shapes"]]
        truth = zip(*(clip.arrays[k][0].tolist() for k in ("kind", "colour", "extent")), strict=True)
        assert named == [(SHAPES[k], tuple(c), e) for k, c, e in truth]


def test_settings_of_table_1(tmp_path):
    form = {"shapes": 1, "palette": "saturated", "frames": 18, "videos": 9, "test_videos": 2, "speed_min": 3}
    store = made(tmp_path / "s", **form, speed_max=6)
    assert store.lengths == [18] * 9 + [1024] * 2
    splits = store.splits(18)
    assert [store.names[s.video] for s in splits["test"]] == ["bouncing-test-00000", "bouncing-test-00001"]
    assert (len(splits["train"]), len(splits["val"])) == (8, 1)
    assert len(SATURATED) == 8
    assert all(max(colour) == 255 and min(colour) == 0 for colour in SATURATED.values())
    clip = store.clip(9, 0, 1024)
    assert (clip.frames != clip.frames[:1]).reshape(1024, -1).any(1)[1:].mean() > 0.99
    assert tuple(clip.arrays["colour"][0, 0].tolist()) in SATURATED.values()
    same = made(tmp_path / "without", **{**form, "test_videos": 0}, speed_max=6)
    np.testing.assert_array_equal(same.clip(3, 0, 18).frames, store.clip(3, 0, 18).frames)


def test_shapes_move_and_reflect_at_walls(tmp_path):
    store = made(tmp_path / "s", frames=200, videos=4)
    bounced = 0
    for v in range(4):
        arrays = store.clip(v, 0, 200).arrays
        place, speed, half = arrays["position"], arrays["velocity"], arrays["extent"][0] / 2
        assert (place >= half[:, None]).all()
        assert (place <= 32 - half[:, None]).all()
        assert (np.abs(speed) >= 0.5).all()
        assert (np.abs(speed) <= 3).all()
        np.testing.assert_array_equal(np.abs(speed), np.abs(speed[:1]).repeat(200, 0))
        free = (speed[1:] == speed[:-1]).all(axis=-1)
        np.testing.assert_array_equal((place[1:] - place[:-1])[free], speed[:-1][free])
        bounced += (~free).sum()
    assert bounced > 20


def test_bytes_depend_on_seed_and_not_on_later_videos(tmp_path):
    a, b, more, other = (
        made(tmp_path / name, **settings)
        for name, settings in {"a": {}, "b": {}, "more": {"videos": 5}, "other": {"seed": 1}}.items()
    )
    for name in ("frames-3x32x32.npy", "index.json", "meta.json", "position-3x32x32.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert a.lengths == b.lengths
    np.testing.assert_array_equal(more.clip(2, 0, 40).frames, a.clip(2, 0, 40).frames)
    assert (other.clip(0, 0, 40).frames != a.clip(0, 0, 40).frames).any()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"videos": 0}, "videos must be at least 1"),
        ({"size": 10}, "do not fit frames of 10 px"),
        ({"speed_min": 4.0}, "speeds 4.0…3.0 px per frame must be ordered"),
        ({"speed_max": 60.0}, "at most the 46 px"),
        ({"grey": 256}, "grey in 0…255"),
    ],
)
def test_impossible_scenes_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        BouncingConfig(**settings)


@pytest.mark.parametrize("settings", [{"palette": "seven"}, {"test_videos": -1}])
def test_invalid_settings_are_refused(settings):
    with pytest.raises(UserError, match="bouncing: need palette six or saturated and test_videos at least 0"):
        BouncingConfig(**settings)
