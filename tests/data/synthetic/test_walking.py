"""Walking: bodies, cameras and splits; joints and masks are where the frame shows them."""

import importlib.util

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.readers.tfrecords import TFRecords
from framecast.data.store import Store
from framecast.data.synthetic.walk_scene import SITES, subject
from framecast.data.synthetic.walking import Walking, WalkingConfig
from framecast.data.tfrecord_writer import write_records

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("needs mujoco", allow_module_level=True)

CONFIG = WalkingConfig(subjects=4, takes=1, cameras=2, frames=16, size=48, seed=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walking") / "store"
    Walking(CONFIG).prepare(folder)
    return Store(folder)


def clips(store):
    return [store.clip(video, 0, 16) for video in range(len(store))]


def test_counts_and_shapes(store):
    assert store.lengths == [16] * 8
    assert store.spec.fps == 12.5
    assert store.spec.actions is None
    assert store.spec.extras == {"joints": (16, 2), "masks": (48, 48), "states": (5,), "visibility": (16,)}
    assert store.meta()["joints"] == list(SITES)
    assert store.clip(3, 0, 1).meta == {"subject": "S2", "action_name": "waving", "camera": "camera1"}
    assert WalkingConfig().frames >= 263  # 5 of context and 127 more, every second frame


def test_splits_are_by_person_and_keep_cameras_together(store):
    splits = {name: {store.names[s.video][:2] for s in part} for name, part in store.splits(8).items()}
    assert splits == {"train": {"S1", "S2"}, "val": {"S3"}, "test": {"S4"}}
    assert len(set(store.groups.values())) == 4
    assert set(store.cameras.values()) == {"camera0", "camera1"}


def test_more_people_may_be_held_out(tmp_path):
    Walking(WalkingConfig(subjects=6, held_out=2, takes=1, cameras=1, frames=4, size=16)).prepare(tmp_path / "store")
    store = Store(tmp_path / "store")
    splits = {name: {store.names[s.video][:2] for s in part} for name, part in store.splits(4).items()}
    assert splits == {"train": {"S1", "S2"}, "val": {"S3", "S4"}, "test": {"S5", "S6"}}
    with pytest.raises(UserError, match="2 people for testing and as many for validation need at least 6 subjects"):
        WalkingConfig(subjects=5, held_out=2)


def test_masks_are_the_person(store):
    """A single upright figure of a quarter to two thirds of the frame, and all that changes is near it."""
    for clip in clips(store):
        masks = clip.arrays["masks"]
        assert set(np.unique(masks)) == {0, 1}
        heights = np.array([np.ptp(np.nonzero(mask)[0]) + 1 for mask in masks]) / 48
        assert 0.2 < np.median(heights) < 0.67
        change = np.abs(np.diff(clip.frames.astype(int), axis=0)).max(1) > 25
        near = np.zeros_like(change)
        for y in (-1, 0, 1):
            for x in (-1, 0, 1):
                near |= np.roll(masks[1:] | masks[:-1], (y, x), (1, 2)).astype(bool)
        assert change[~near].mean() < 0.002


def test_visible_joints_are_on_the_person(store):
    inside, shown = 0, 0
    for clip in clips(store):
        joints, visible = clip.arrays["joints"], clip.arrays["visibility"]
        assert set(np.unique(visible)) <= {0, 1}
        assert (np.abs(joints[visible > 0]) <= 1).all()
        pixels = np.clip(((joints + 1) / 2 * 48).astype(int), 0, 47)
        for mask, places, seen in zip(clip.arrays["masks"], pixels, visible > 0, strict=True):
            grown = np.stack([np.roll(mask, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]).max(0)
            inside += grown[places[seen, 1], places[seen, 0]].sum()
            shown += seen.sum()
    assert inside / shown > 0.98
    assert shown / (8 * 16 * 16) > 0.6


def test_heads_are_above_hips_above_ankles(store):
    for clip in clips(store):
        y = {name: clip.arrays["joints"][:, SITES.index(name), 1] for name in ("head", "pelvis", "left_ankle")}
        assert (y["head"] < y["pelvis"]).all()
        assert (y["pelvis"] < y["left_ankle"]).all()


def test_people_differ_and_are_deterministic():
    people = [subject(number, 0) for number in range(7)]
    assert people == [subject(number, 0) for number in range(7)]
    assert [person.name for person in people] == [f"S{n}" for n in range(1, 8)]
    shirts = np.array([person.shirt for person in people])
    gaps = np.abs(shirts[:, None] - shirts[None]).max(-1) + np.eye(7)
    assert gaps.min() > 0.1
    assert np.ptp([person.height for person in people]) > 0.15


def test_more_takes_keep_the_same_people(store, tmp_path):
    Walking(WalkingConfig(subjects=1, takes=2, cameras=1, frames=8, size=48, seed=2, masks=False)).prepare(
        tmp_path / "s"
    )
    found = Store(tmp_path / "s")
    assert found.names == ["S1-00-walking-camera0", "S1-01-waving-camera0"]
    assert "masks" not in found.spec.extras
    np.testing.assert_array_equal(found.clip(0, 0, 8).frames, store.clip(0, 0, 8).frames)


def test_published_records_of_walking(store, tmp_path):
    write_records(store, tmp_path / "records")
    source = TFRecords(tmp_path / "records")
    assert source.spec.extras == store.spec.extras
    assert source.spec.actions is None
    assert source.spec.fps == 12.5
    splits = source.splits(8)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [4, 2, 2]
    clip = source.clip(splits["test"][0].video, 0, 16)
    assert clip.meta["subject"] == "S4"
    original = next(c for c in clips(store) if c.name == clip.meta["name"])
    for name, values in original.arrays.items():
        np.testing.assert_array_equal(clip.arrays[name], values)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"cameras": 5}, "cameras must be in 1…4"),
        ({"takes": 0}, "takes must be at least 1"),
        ({"size": 2000}, "size must be in 8…1024"),
        ({"fps": 0.5}, "fps must be in 1…60"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=f"walking: {sentence}"):
        WalkingConfig(**settings)
