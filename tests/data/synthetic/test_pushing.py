"""Pushing: the arm follows its commands, and the stored poses match the frames."""

import importlib.util

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.readers.tfrecords import TFRecords
from framecast.data.store import Store
from framecast.data.synthetic.push_scene import NOVEL_KINDS, REACH, SEEN_KINDS, things
from framecast.data.synthetic.pushing import Pushing, PushingConfig
from framecast.data.tfrecord_writer import write_records

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("needs mujoco", allow_module_level=True)

CONFIG = PushingConfig(train=5, val=1, test=1, novel=2, size=48, seed=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushing") / "store"
    Pushing(CONFIG).prepare(folder)
    return Store(folder)


def clips(store):
    return [store.clip(video, 0, 20) for video in range(len(store))]


def test_counts_shapes_and_splits(store):
    assert store.lengths == [20] * 9
    assert store.spec.fps == 10
    assert store.spec.actions.names == ("x", "y", "z", "pitch", "yaw")
    assert store.spec.extras == {"joints": (7,), "masks": (48, 48), "objects": (5, 7), "states": (5,)}
    splits = {name: [store.names[s.video] for s in part] for name, part in store.splits(4).items()}
    assert {name: len(part) for name, part in splits.items()} == {"train": 5, "val": 1, "test": 3}
    assert [store.subsets[name] for name in splits["test"]] == ["seen", "novel", "novel"]


def test_actions_are_the_next_states(store):
    """Absolute poses: action i is where the paddle is at frame i + 1, but for the motors' lag."""
    errors, moves = [], []
    for clip in clips(store):
        actions, states = clip.arrays["actions"], clip.arrays["states"]
        errors.append(np.abs(actions[:-1] - states[1:]))
        moves.append(np.abs(actions[:-1] - states[:-1]))
    errors, moves = np.concatenate(errors), np.concatenate(moves)
    assert np.median(errors[:, :2]) < 0.005
    assert np.median(errors[:, 3:]) < 0.03
    assert (errors[:, :2].mean(0) < 0.5 * moves[:, :2].mean(0)).all()
    low, high = np.array(REACH).T
    commands = np.concatenate([clip.arrays["actions"][:, :3] for clip in clips(store)])
    assert (commands >= low - 1e-6).all()
    assert (commands <= high + 1e-6).all()


def test_joints_and_states_agree(store):
    """The same angles give the same pose, near angles a near one."""
    joints = np.concatenate([clip.arrays["joints"] for clip in clips(store)])
    states = np.concatenate([clip.arrays["states"] for clip in clips(store)])
    for i in range(0, len(joints), 7):
        apart = np.abs(joints - joints[i]).max(1)
        near = apart < 0.02
        assert np.abs(states[near] - states[i])[:, :3].max() < 0.05


def test_aimed_pushes_move_objects(store):
    moved = {True: [], False: []}
    for clip in clips(store):
        places = clip.arrays["objects"][:, :, :2]
        moved[clip.meta["aimed"]].append(np.linalg.norm(places[-1] - places[0], axis=1).max() > 0.01)
    assert moved[True]
    assert moved[False]
    assert all(moved[True])
    assert np.mean(moved[True] + moved[False]) >= 0.5


def test_objects_stay_in_the_bin_and_absent_ones_are_zero(store):
    for clip in clips(store):
        objects, count = clip.arrays["objects"], len(clip.meta["things"])
        assert (objects[:, count:] == 0).all()
        assert (np.abs(objects[:, :count, 2]) < 0.2).all()
        np.testing.assert_allclose(np.linalg.norm(objects[:, :count, 3:], axis=2), 1, atol=1e-4)


def test_masks_match_the_frames(store):
    """What is scene before and after does not change, for neither camera nor light move; the arm is in most frames."""
    for clip in clips(store):
        masks, count = clip.arrays["masks"], len(clip.meta["things"])
        assert masks.max() <= 1 + count
        assert (masks == 1).any((1, 2)).mean() > 0.8
        still = (masks[1:] == 0) & (masks[:-1] == 0)
        change = np.abs(np.diff(clip.frames.astype(int), axis=0)).max(1)
        assert (change[still] > 40).mean() < 0.005  # the rims of things, half covered
        for number in range(count):
            assert (masks == 2 + number).any()


def test_novel_objects_are_not_in_train(store):
    kinds = {part: set() for part in ("seen", "novel")}
    for clip in clips(store):
        kinds["novel" if store.subsets.get(clip.name) == "novel" else "seen"] |= set(clip.meta["things"])
    assert kinds["seen"] <= set(SEEN_KINDS)
    assert kinds["novel"] <= set(NOVEL_KINDS)
    assert not set(SEEN_KINDS) & set(NOVEL_KINDS)
    seen, novel = things(60, False, 0), things(24, True, 0)
    assert {t.kind for t in seen} == set(SEEN_KINDS)
    assert {t.kind for t in novel} == set(NOVEL_KINDS)
    gaps = [np.abs(np.subtract(a.rgb, b.rgb)).max() for a in seen for b in novel]
    assert min(gaps) > 0.1


def test_more_clips_leave_earlier_ones_unchanged(store, tmp_path):
    Pushing(PushingConfig(train=2, val=0, test=0, novel=0, size=48, seed=3, masks=False)).prepare(tmp_path / "few")
    few = Store(tmp_path / "few")
    assert "masks" not in few.spec.extras
    for video in range(2):
        np.testing.assert_array_equal(few.clip(video, 0, 20).frames, store.clip(video, 0, 20).frames)


def test_robot_push_records_of_pushing(store, tmp_path):
    write_records(store, tmp_path / "records", "robot-push")
    source = TFRecords(tmp_path / "records")
    assert source.spec.actions == store.spec.actions
    assert source.spec.extras == {"states": (5,), "joints": (7,)}
    assert sorted(source.subsets.values()) == ["novel", "novel", "seen"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"frames": 1}, "frames must be at least 2"),
        ({"things_max": 9}, "things_max ≤ 8"),
        ({"fps": 100}, "fps must be in 1…50"),
        ({"size": 4}, "size must be in 8…1024"),
        ({"aimed": 2}, "aimed in 0…1"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=f"pushing: .*{sentence}"):
        PushingConfig(**settings)
