"""The packed store: what goes in comes out, whole or not at all, and damage has its sentence."""

import errno
import json
import os

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Clip, ClipSpec
from framecast.data.base import SPLITS
from framecast.data.npy_files import NpyFile
from framecast.data.options import ReadOptions
from framecast.data.splits import split_videos
from framecast.data.store import DatasetWriter, Store, estimate, is_store, pack, require_space
from framecast.data.writer import channels_first


def video(t, c=3, h=6, w=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (t, c, h, w), dtype=np.uint8)


class Memory:
    """A source held in memory."""

    def __init__(self, videos, arrays=None, broken=(), actions=None):
        self.videos, self.arrays, self.broken = videos, arrays or [{} for _ in videos], broken
        self.names = [f"v{i}" for i in range(len(videos))]
        self.lengths = [len(v) for v in videos]
        _, c, h, w = videos[0].shape
        extras = {k: a.shape[1:] for k, a in self.arrays[0].items() if k != "actions"}
        self.spec = ClipSpec(channels=c, height=h, width=w, fps=12.0, actions=actions, extras=extras)

    def __len__(self):
        return len(self.videos)

    def clip(self, index, start, length, stride=1):
        stop = start + (length - 1) * stride + 1
        if index in self.broken and stop > 3:
            raise UserError(f"{self.names[index]}: frame 3 cannot be decoded; repair the file")
        cut = slice(start, stop, stride)
        arrays = {k: a[cut] for k, a in self.arrays[index].items()}
        return Clip(frames=self.videos[index][cut], arrays=arrays, name=self.names[index], fps=12.0, meta={"i": index})

    def splits(self, window):
        return split_videos(self.names, self.lengths, window)

    def meta(self):
        return {"generator": "memory"}


def write(folder, **settings):
    """Two videos with actions and states, one of another size."""
    with DatasetWriter(folder, fps=25, meta={"lab": "x"}, **settings) as w:
        w.add(video(5), actions=[0, 2, 1, 0, 1], states=np.arange(10.0).reshape(5, 2), meta={"who": "ann"})
        w.add(video(4, seed=1), actions=np.array([1, 1, 0, 2]), states=np.zeros((4, 2)), name="second", fps=10)
        w.add(video(3, h=4, w=4 + 1, seed=2), actions=[0, 0, 0], states=np.ones((3, 2)), name="third")
    return Store(folder)


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


# ----------------------------------------------------------------------------------------------------- what comes out


def test_stored_videos_are_read_back(tmp_path):
    store = write(tmp_path / "s")
    assert (list(store.names), list(store.lengths), len(store)) == (["video-00000", "second", "third"], [5, 4, 3], 3)
    assert (store.spec.channels, store.spec.height, store.spec.width, store.spec.fps) == (3, 6, 8, 25.0)
    assert store.spec.actions == ActionSpec(kind="discrete", size=3)
    assert store.spec.extras == {"states": (2,)}
    assert store.shapes == [(3, 6, 8), (3, 6, 8), (3, 4, 5)]
    assert store.meta() == {"lab": "x"}
    for i, expected in enumerate((video(5), video(4, seed=1), video(3, h=4, w=5, seed=2))):
        clip = store.clip(i, 0, len(expected))
        np.testing.assert_array_equal(clip.frames, expected)
        assert set(clip.arrays) == {"actions", "states"}
    assert store.clip(0, 0, 1).meta == {"who": "ann"}
    clip = store.clip(1, 1, 2, stride=2)
    np.testing.assert_array_equal(clip.frames, video(4, seed=1)[1::2])
    np.testing.assert_array_equal(clip.arrays["actions"], [1, 2])
    assert (clip.name, clip.fps) == ("second", 5.0)


def test_clips_are_read_only_views_of_the_mapped_file(tmp_path):
    store = write(tmp_path / "s")
    a, b = store.clip(0, 0, 5).frames, store.clip(0, 2, 2).frames
    assert np.shares_memory(a, b)
    assert not a.flags.writeable


def test_clips_beyond_the_end_are_refused(tmp_path):
    store = write(tmp_path / "s")
    for start, length, stride in ((1, 5, 1), (0, 3, 3), (-1, 2, 1), (0, 0, 1)):
        with pytest.raises(IndexError, match="got frames"):
            store.clip(0, start, length, stride)


def test_the_same_videos_give_the_same_bytes(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_any_program_can_read_the_arrays(tmp_path):
    write(tmp_path / "s")
    frames = np.load(tmp_path / "s" / "frames-3x6x8.npy")
    np.testing.assert_array_equal(frames, np.concatenate([video(5), video(4, seed=1)]))
    np.testing.assert_array_equal(np.load(tmp_path / "s" / "actions-3x6x8.npy"), [0, 2, 1, 0, 1, 1, 1, 0, 2])


def test_frames_in_any_usual_axes_order_are_accepted(tmp_path):
    frames = video(4)
    with DatasetWriter(tmp_path / "s") as w:
        w.add(frames)
        w.add(frames.transpose(0, 2, 3, 1))
        w.add(iter(frames))
        w.add(list(frames.transpose(0, 2, 3, 1)))
        w.add(frames, axes="tchw")
    store = Store(tmp_path / "s")
    for i in range(5):
        np.testing.assert_array_equal(store.clip(i, 0, 4).frames, frames)
    with DatasetWriter(tmp_path / "grey") as w:
        w.add(frames[:, 0])
        w.add(iter(frames[:, 0]))
    np.testing.assert_array_equal(Store(tmp_path / "grey").clip(1, 0, 4).frames, frames[:, :1])


def test_channels_axis_rule():
    assert channels_first((9, 3, 64, 64), "v")
    assert not channels_first((9, 64, 64, 3), "v")
    for shape in ((9, 3, 3, 3), (9, 16, 16, 16)):
        with pytest.raises(UserError, match="axes='tchw' or axes='thwc'"):
            channels_first(shape, "v")


def test_frames_are_streamed_and_lists_may_fill_meanwhile(tmp_path):
    held, rewards = [], []

    def play():
        for i in range(50):
            held.append(i)
            rewards.append(float(i))
            yield np.full((3, 6, 8), i, np.uint8)

    with DatasetWriter(tmp_path / "s") as w:
        w.add(play(), rewards=rewards)
    clip = Store(tmp_path / "s").clip(0, 0, 50)
    np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], np.arange(50))
    np.testing.assert_array_equal(clip.arrays["rewards"], np.arange(50.0))


def test_the_last_action_may_be_left_out(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        w.add(video(4), actions=np.array([[0.5, 1], [2, 3], [4, 5]]))
    store = Store(tmp_path / "s")
    assert store.spec.actions == ActionSpec(kind="continuous", size=2)
    np.testing.assert_array_equal(store.clip(0, 0, 4).arrays["actions"][:3], [[0.5, 1], [2, 3], [4, 5]])


def test_named_actions_are_kept(tmp_path):
    spec = ActionSpec(kind="discrete", size=3, names=("stay", "left", "right"))
    assert write(tmp_path / "s", actions=spec).spec.actions == spec


def test_stores_with_terminals_are_read_with_terminated(tmp_path):
    ends = [False, False, True]
    with DatasetWriter(tmp_path / "s") as writer:
        for over in (ends, [False] * 4, [*ends, True]):
            writer.add(np.zeros((len(over), 4, 4), np.uint8), terminals=np.array(over))
    store = Store(tmp_path / "s")
    assert set(store.spec.extras) == {"terminated"}
    found = [store.clip(i, 0, n).arrays["terminated"].tolist() for i, n in enumerate(store.lengths)]
    assert found == [[False, True, False], [False] * 4, [False, True, False, False]]


def test_prescribed_splits_and_episodes_are_kept(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        for i, split in enumerate(["train", "train", "val", "test"]):
            w.add(video(5), split=split, name=f"v{i}")
    splits = Store(tmp_path / "s").splits(2)
    assert [[s.video for s in splits[name]] for name in SPLITS] == [[0, 1], [2], [3]]
    with DatasetWriter(tmp_path / "cameras") as w:
        for i in range(12):
            w.add(video(5), episode=f"e{i // 2}", camera=("left", "right")[i % 2])
    store = Store(tmp_path / "cameras")
    assert store.cameras["video-00001"] == "right"
    assert [len(store.splits(2)[name]) for name in SPLITS] == [8, 2, 2]
    assert "4 / 1 / 1 episodes" in store.split_rule(2)


# -------------------------------------------------------------------------------------------------- whole or not at all


def fail_after_one(folder, **settings):
    with DatasetWriter(folder, **settings) as w:
        w.add(video(5))
        raise RuntimeError


def test_exception_leaves_no_folder(tmp_path):
    with pytest.raises(RuntimeError):
        fail_after_one(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_store_appears_only_when_complete(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        w.add(video(5))
        assert not (tmp_path / "s").exists()
    assert is_store(tmp_path / "s")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_an_earlier_store_stays_unless_overwritten(tmp_path):
    write(tmp_path / "s")
    before = bytes_of(tmp_path / "s")
    with pytest.raises(UserError, match="already holds a store"):
        DatasetWriter(tmp_path / "s")
    with pytest.raises(RuntimeError):
        fail_after_one(tmp_path / "s", overwrite=True)
    assert bytes_of(tmp_path / "s") == before
    with DatasetWriter(tmp_path / "s", overwrite=True) as w:
        w.add(video(2))
    assert Store(tmp_path / "s").lengths == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        DatasetWriter(tmp_path / "file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("x")
    with pytest.raises(UserError, match="holds other files"):
        DatasetWriter(tmp_path / "photos", overwrite=True)


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    dead = tmp_path / f".s.part-{2**22 + 12345}"
    dead.mkdir()
    (dead / "frames-3x6x8.npy").write_bytes(b"half")
    write(tmp_path / "s")
    assert not dead.exists()


def test_two_writers_of_one_folder_are_independent(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        w.add(video(5))
        with pytest.raises(UserError, match="is writing s; wait for it, or stop it"):
            DatasetWriter(tmp_path / "s")
    assert Store(tmp_path / "s").lengths == [5]


def test_failed_video_leaves_the_others(tmp_path):
    def bad():
        yield video(1)[0]
        yield video(1, h=5)[0]

    with DatasetWriter(tmp_path / "s") as w:
        w.add(video(5))
        with pytest.raises(UserError, match="frame 1 is 3x5x8, those before 3x6x8"):
            w.add(bad(), name="bad")
        with pytest.raises(UserError, match="actions has 7 rows for 4 frames"):
            w.add(video(4), actions=range(7), name="long")
        w.add(video(3, seed=3), name="good")
    store = Store(tmp_path / "s")
    assert store.names == ["video-00000", "good"]
    np.testing.assert_array_equal(store.clip(1, 0, 3).frames, video(3, seed=3))
    assert [p.name for p in sorted((tmp_path / "s").iterdir())] == [
        "checksums.json",
        "frames-3x6x8.npy",
        "index.json",
        "meta.json",
    ]


@pytest.mark.parametrize("moment", ["append", "finish"])
def test_full_disk_is_reported_and_earlier_store_kept(tmp_path, monkeypatch, moment):
    write(tmp_path / "s")
    before = bytes_of(tmp_path / "s")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(NpyFile, moment, full)
    with (
        pytest.raises(UserError, match=r"disk is full while writing .*s; free some space"),
        DatasetWriter(tmp_path / "s", overwrite=True) as w,
    ):
        w.add(video(5))
    assert bytes_of(tmp_path / "s") == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_insufficient_space_is_reported_in_advance(tmp_path):
    with pytest.raises(UserError, match=r"needs .* but only .* are free"):
        require_space(tmp_path / "s", 1 << 60)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"frames": video(3).astype(np.float32)}, "must be uint8"),
        ({"frames": np.zeros((2, 3, 4, 5, 6), np.uint8)}, r"must be \(t, c, h, w\)"),
        ({"frames": []}, "has no frames"),
        ({"frames": video(3), "axes": "cthw"}, "axes must be"),
        ({"frames": video(3), "fps": 0}, "fps must be above 0"),
        ({"frames": video(3), "split": "dev"}, "split must be train, val or test"),
        ({"frames": video(3), "name": ""}, "is empty or already used"),
        ({"frames": video(3), "actions": ["a", "b", "c"]}, "must be an array of numbers"),
        ({"frames": video(3), "actions": [0, -1, 0]}, "action indices -1…0"),
        ({"frames": video(3), "states": [0, np.nan, 0]}, "not finite"),
        ({"frames": video(3), "a/b": [0, 1, 2]}, "is not a valid array name"),
        ({"frames": video(3), "frames-": [0, 1, 2]}, "is not a valid array name"),
    ],
)
def test_invalid_videos_are_refused(tmp_path, settings, sentence):
    w = DatasetWriter(tmp_path / "s")
    with pytest.raises(UserError, match=sentence):
        w.add(**settings)
    with pytest.raises(UserError, match="no video was added"):
        w.close()
    assert list(tmp_path.iterdir()) == []


def test_all_videos_of_a_store_have_the_same_arrays(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        w.add(video(3), states=np.zeros((3, 2)))
        with pytest.raises(UserError, match="has arrays none but the first has states"):
            w.add(video(3))
        with pytest.raises(UserError, match=r"states float32 \[3\] but the first has states float32 \[2\]"):
            w.add(video(3), states=np.zeros((3, 3)))


def test_duplicate_names_are_refused(tmp_path):
    with DatasetWriter(tmp_path / "s") as w:
        w.add(video(3), name="a")
        with pytest.raises(UserError, match="'a' is empty or already used"):
            w.add(video(3), name="a")


def edit(folder, change):
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "index.json").unlink(), "index.json is missing"),
        (lambda f: (f / "meta.json").unlink(), "meta.json is missing"),
        (lambda f: (f / "index.json").write_text("{"), "index.json is damaged"),
        (lambda f: (f / "index.json").write_text("[]"), "index.json is damaged"),
        (lambda f: edit(f, lambda i: i.update(format=99)), "has format 99, this program reads up to 2"),
        (lambda f: edit(f, lambda i: i.pop("format")), "has format None, expected 1"),
        (lambda f: edit(f, lambda i: i.update(videos=[])), "lists no videos"),
        (lambda f: edit(f, lambda i: i["videos"][1].update(frames="4")), r"index.json is damaged \(video 1\)"),
        (lambda f: edit(f, lambda i: i["videos"][1].update(offset=-1)), r"index.json is damaged \(video 1\)"),
        (lambda f: edit(f, lambda i: i["videos"][1].update(size="../../x")), r"index.json is damaged \(video 1\)"),
        (
            lambda f: edit(f, lambda i: i["videos"][1].update(frames=400)),
            r"frames-3x6x8.npy holds .* index.json has",
        ),
        (lambda f: edit(f, lambda i: i["arrays"].update({"../x": []})), "names an array"),
        (lambda f: edit(f, lambda i: i["actions"].update(size=0)), "actions: ActionSpec.size"),
        (lambda f: (f / "frames-3x6x8.npy").unlink(), "frames-3x6x8.npy is missing"),
        (lambda f: os.truncate(f / "frames-3x6x8.npy", 400), "frames-3x6x8.npy is damaged or cut short"),
        (lambda f: os.truncate(f / "frames-3x6x8.npy", 0), "frames-3x6x8.npy is damaged or cut short"),
        (lambda f: np.save(f / "states-3x6x8.npy", np.zeros((2, 2))), "has .2,. rows but index.json has 9"),
        (
            lambda f: np.save(f / "frames-3x6x8.npy", np.array([{}] * 9), allow_pickle=True),
            "frames-3x6x8.npy is damaged",
        ),
    ],
)
def test_damage_is_reported(tmp_path, damage, sentence):
    write(tmp_path / "s")
    damage(tmp_path / "s")
    with pytest.raises(UserError, match=sentence):
        Store(tmp_path / "s")


# -------------------------------------------------------------------------------------------------------------- packing


def test_packing_keeps_everything(tmp_path):
    arrays = [{"actions": np.array([0, 1, 2] * 50), "masks": np.zeros((150, 2, 2), bool)} for _ in range(2)]
    source = Memory([video(150), video(150, seed=1)], arrays, actions=ActionSpec(kind="discrete", size=3))
    source.fixed = {"v0": "train", "v1": "test"}
    reports = []
    store = pack(source, tmp_path / "s", progress=lambda done, total: reports.append((done, total)))
    for i in range(2):
        clip = store.clip(i, 0, 150)
        np.testing.assert_array_equal(clip.frames, source.videos[i])
        np.testing.assert_array_equal(clip.arrays["actions"], arrays[i]["actions"])
        assert clip.arrays["masks"].dtype == bool
        assert (clip.fps, clip.meta) == (12.0, {"i": i})
    assert store.meta() == {"generator": "memory"}
    assert store.fixed == source.fixed
    assert reports[-1] == (300, 300)
    assert reports == sorted(reports)
    on_disk = sum(p.stat().st_size for p in (tmp_path / "s").glob("frames-*"))
    assert estimate(Memory(source.videos)) == 2 * 150 * 3 * 6 * 8 == on_disk - 256


@pytest.mark.parametrize(("size", "shape"), [((4, 4), (4, 4)), (3, (3, 4)), (100, (6, 8)), (None, (6, 8))])
def test_packing_resizes_frames(tmp_path, size, shape):
    source = Memory([video(3)])
    store = pack(source, tmp_path / "s", ReadOptions(size=size))
    assert store.shapes == [(3, *shape)]
    assert store.clip(0, 0, 3).frames.shape == (3, 3, *shape)
    assert estimate(source, size) == 3 * 3 * shape[0] * shape[1]


def test_bad_videos_raise_or_are_skipped_and_listed(tmp_path):
    source = Memory([video(100), video(100, seed=1), video(100, seed=2)], broken=(1,))
    with pytest.raises(UserError, match="v1: frame 3 cannot be decoded"):
        pack(source, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
    store = pack(source, tmp_path / "s", ReadOptions(skip_bad=True))
    assert store.names == ["v0", "v2"]
    assert store.meta()["skipped"] == ["v1"]
    np.testing.assert_array_equal(store.clip(1, 0, 100).frames, video(100, seed=2))
    with pytest.raises(UserError, match="none of the 1 videos could be read"):
        pack(Memory([video(9)], broken=(0,)), tmp_path / "t", ReadOptions(skip_bad=True))
