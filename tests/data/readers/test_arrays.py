"""NumPy files: axes, dtypes, companions, and nothing that could run or explode."""

import zipfile

import numpy as np
import pytest
from films import numbered, numbers

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.arrays import Arrays, guess_axes, load_arrays

LETTERS = {"n": 3, "t": 10, "c": 3, "h": 12, "w": 16}


def stored(path, axes, dtype=np.uint8):
    """A file with such axes, and the same as (n, t, c, h, w)."""
    full = np.random.default_rng(0).integers(0, 256, tuple(LETTERS.values()), np.uint8)
    cut = full[tuple(slice(None) if letter in axes else 0 for letter in "ntchw")]
    kept = [letter for letter in "ntchw" if letter in axes]
    array = cut.transpose([kept.index(letter) for letter in axes])
    np.save(path, array if dtype == np.uint8 else array.astype(dtype) / 255)
    return full[: 3 if "n" in axes else 1, :, : 3 if "c" in axes else 1]


@pytest.mark.parametrize("axes", ["tchw", "thwc", "nthwc", "ntchw", "tnhw", "thw", "chwt", "whtnc"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_axes_order_is_read(tmp_path, axes, dtype):
    full = stored(tmp_path / "a.npy", axes, dtype)
    source = Arrays(tmp_path / "a.npy", ReadOptions(axes=axes))
    assert len(source) == len(full)
    assert source.names == (["a/0", "a/1", "a/2"] if len(full) > 1 else ["a"])
    assert set(source.lengths) == {10}
    assert (source.spec.channels, source.spec.height, source.spec.width) == full.shape[2:]
    for index in range(len(full)):
        clip = source.clip(index, 1, 4, stride=2)
        assert clip.frames.dtype == np.uint8
        assert np.array_equal(clip.frames, full[index][1:8:2])


@pytest.mark.parametrize("axes", ["tchw", "thwc", "nthwc", "ntchw", "thw"])
def test_guessed_axes(tmp_path, axes):
    full = stored(tmp_path / "a.npy", axes)
    assert np.array_equal(Arrays(tmp_path / "a.npy").clip(0, 0, 10).frames, full[0])


def test_ambiguous_axes_are_refused(tmp_path):
    for shape in ((20, 30, 64, 64), (4, 3, 8, 3), (9, 9)):
        with pytest.raises(UserError, match=r"a\.npy: the axes of shape .* are ambiguous; use --axes"):
            guess_axes(shape, tmp_path / "a.npy")
    stored(tmp_path / "a.npy", "tchw")
    with pytest.raises(UserError, match=r"has 4 axes .* but --axes thw names 3"):
        Arrays(tmp_path / "a.npy", ReadOptions(axes="thw"))
    for axes in ("tthw", "chw", "xthw", ""):
        with pytest.raises(UserError, match="is not valid"):
            Arrays(tmp_path / "a.npy", ReadOptions(axes=axes))


def test_npy_is_mapped_not_copied(tmp_path):
    stored(tmp_path / "a.npy", "tchw")
    frames = Arrays(tmp_path / "a.npy").clip(0, 2, 3).frames
    base = frames
    while not isinstance(base, np.memmap) and base.base is not None:
        base = base.base
    assert isinstance(base, np.memmap)
    assert not frames.flags.writeable


def test_dtypes(tmp_path):
    np.save(tmp_path / "b.npy", np.array([[[True, False]]] * 3))
    assert Arrays(tmp_path / "b.npy").clip(0, 0, 3).frames[0, 0].tolist() == [[255, 0]]
    for values, sentence in (
        (np.full((3, 4, 4), 200.0), r"holds floats from 200 to 200 in frame 0, outside 0…1"),
        (np.full((3, 4, 4), np.nan), r"holds NaN in frame 0"),
        (np.full((3, 4, 4), 7, np.int64), r"holds int64; save frames as uint8"),
        (np.zeros((0, 4, 4), np.uint8), r"holds no frames"),
    ):
        np.save(tmp_path / "x.npy", values)
        with pytest.raises(UserError, match=rf"x\.npy {sentence}"):
            Arrays(tmp_path / "x.npy").clip(0, 0, 1)


def test_npz_per_frame_arrays_are_read(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    np.savez_compressed(
        tmp_path / "e.npz",
        frames=frames,
        actions=np.arange(9) % 4,
        rewards=np.linspace(0, 1, 9),
        pose=np.zeros((9, 2, 3)),
        note=np.array("words"),
        other=np.zeros(4),
    )
    source = Arrays(tmp_path / "e.npz", ReadOptions(fps=15))
    assert source.spec.actions.kind == "discrete"
    assert source.spec.action_size == 4
    assert source.spec.extras == {"rewards": (), "pose": (2, 3)}
    clip = source.clip(0, 2, 3, stride=2)
    assert np.array_equal(clip.frames, frames.transpose(0, 3, 1, 2)[2:7:2])
    assert clip.arrays["actions"].tolist() == [2, 0, 2]
    assert set(clip.arrays) == {"actions", "rewards", "pose"}
    assert clip.fps == 7.5


def test_continuous_actions_one_shorter_than_frames(tmp_path):
    actions = np.array([[0.5, -1], [2, 0], [1, 1]])
    np.savez(tmp_path / "e.npz", video=np.zeros((4, 3, 8, 8), np.uint8), actions=actions)
    source = Arrays(tmp_path / "e.npz")
    spec = source.spec.actions
    assert (spec.kind, spec.size, spec.low, spec.high) == ("continuous", 2, (0.5, -1.0), (2.0, 1.0))
    assert np.array_equal(source.clip(0, 0, 4).arrays["actions"][:3], actions)


def test_many_videos_in_one_npz(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "m.npz", obs=frames, actions=np.arange(30).reshape(5, 6, 1) % 3)
    source = Arrays(tmp_path / "m.npz")
    assert len(source) == 5
    assert np.array_equal(source.clip(3, 1, 2).frames, frames[3, 1:3])
    assert source.clip(3, 1, 2).arrays["actions"].tolist() == [19 % 3, 20 % 3]


def test_a_folder_of_episodes(tmp_path):
    for i in (10, 9, 1):
        np.savez(tmp_path / f"ep{i}.npz", frames=np.full((4 + i, 3, 8, 8), i, np.uint8), actions=np.zeros((4 + i, 2)))
    source = Arrays(tmp_path)
    assert source.names == ["ep1", "ep9", "ep10"]
    assert source.lengths == [5, 13, 14]
    assert source.clip(1, 0, 2).frames.max() == 9
    splits = source.splits(3)
    assert sorted(s.video for parts in splits.values() for s in parts) == [0, 1, 2]
    np.savez(tmp_path / "ep11.npz", frames=np.zeros((5, 3, 8, 8), np.uint8))
    with pytest.raises(UserError, match="expected actions of the same shape for every video"):
        Arrays(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", frames=np.array([{"a": 1}], object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(UserError, match=rf"{name.replace('.', chr(92) + '.')} holds Python objects; save plain"):
            Arrays(tmp_path / name)


def test_damaged_and_oversized_files_are_refused(tmp_path, monkeypatch):
    stored(tmp_path / "a.npy", "tchw")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:500])
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("cut.npy", "text.npz"):
        with pytest.raises(UserError, match="is damaged; save plain arrays"):
            load_arrays(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999, 3, 9999, 9999), }"
        archive.writestr("frames.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(
        UserError, match=r"claim\.npz: frames\.npy unpacks to \d+ MB, more than 64 times .*; save it as \.npy"
    ):
        load_arrays(tmp_path / "claim.npz")
    np.savez_compressed(tmp_path / "bomb.npz", frames=np.zeros((30, 3, 32, 32), np.uint8))
    monkeypatch.setattr("framecast.core.npy.FREE_BYTES", 1000)
    with pytest.raises(UserError, match="unpacks to"):
        load_arrays(tmp_path / "bomb.npz")


def test_frames_array_of_npz_is_identified(tmp_path):
    np.savez(tmp_path / "a.npz", clip=np.zeros((4, 8, 8, 3), np.uint8), mask=np.zeros((4, 8, 8)))
    assert Arrays(tmp_path / "a.npz").lengths == [4]
    np.savez(tmp_path / "b.npz", p=np.zeros((4, 8, 8, 3), np.uint8), q=np.zeros((4, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="has no array called frames, but p, q; name the video frames"):
        Arrays(tmp_path / "b.npz")


def test_invalid_actions_are_refused(tmp_path):
    frames = np.zeros((4, 3, 8, 8), np.uint8)
    for actions, sentence in (
        (np.zeros(9), "actions have 9 rows for 4 frames"),
        (np.array([0, 1, -1, 0]), "discrete actions must be 0 to"),
        (np.array([0.0, np.inf, 0, 0]), "actions is not a finite number at frame 1"),
    ):
        np.savez(tmp_path / "a.npz", frames=frames, actions=actions)
        with pytest.raises(UserError, match=sentence):
            Arrays(tmp_path / "a.npz")


def test_ends(tmp_path):
    stored(tmp_path / "a.npy", "tchw")
    with pytest.raises(IndexError, match="has 10 frames"):
        Arrays(tmp_path / "a.npy").clip(0, 8, 3)


def test_values_are_checked_when_data_are_opened(tmp_path):
    frames = np.random.default_rng(0).random((60, 8, 8, 3)).astype(np.float32)
    frames[50, 2, 3, 1] = np.nan
    np.save(tmp_path / "a.npy", frames)
    with pytest.raises(UserError, match=r"a\.npy holds NaN in frame 50; replace"):
        Arrays(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.nan_to_num(frames) * 255)
    with pytest.raises(UserError, match=r"b\.npy holds floats from .* to 25.* in frame 0, outside 0…1"):
        Arrays(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", (np.nan_to_num(frames) * 255).astype(np.int16))
    with pytest.raises(UserError, match=r"c\.npy holds int16"):
        Arrays(tmp_path / "c.npy")
    states = np.zeros((60, 2))
    states[7, 1] = np.inf
    np.savez(tmp_path / "d.npz", frames=np.zeros((60, 8, 8, 3), np.uint8), states=states)
    with pytest.raises(UserError, match="states is not a finite number at frame 7"):
        Arrays(tmp_path / "d.npz")


def test_only_files_that_cannot_be_read_are_left_out(tmp_path):
    frames = numbered(6).transpose(0, 2, 3, 1)
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", frames)
    (tmp_path / "3.npy").write_bytes(b"nothing")
    np.save(tmp_path / "4.npy", np.full((6, 8, 8, 3), np.nan))
    np.savez(tmp_path / "5.npz", frames=frames, states=np.full((6, 2), np.inf))
    with pytest.raises(UserError, match=r"3\.npy is damaged"):
        open_path(tmp_path)
    source = open_path(tmp_path, ReadOptions(skip_bad=True))
    assert (source.names, source.meta()["skipped"]) == (["0", "1", "2"], ["3.npy", "4.npy", "5.npz"])
    assert numbers(source.clip(2, 0, 6).frames) == list(range(6))


@pytest.mark.parametrize("shape", [(20, 7, 64, 64), (20, 7, 64, 64, 1), (20, 7, 1, 64, 64)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_copies_of_the_published_moving_digits(tmp_path, shape, suffix):
    array, path = np.zeros(shape, np.uint8), tmp_path / f"moving_mnist.{suffix}"
    array[:] = np.arange(20, dtype=np.uint8).reshape(20, *([1] * (len(shape) - 1)))
    np.save(path, array) if suffix == "npy" else np.savez(path, array)
    source = open_path(path)
    assert (source.lengths, set(source.fixed.values())) == ([20] * 7, {"test"})
    assert source.clip(3, 0, 20).frames[:, 0, 0, 0].tolist() == list(range(20))


def test_one_video_is_not_taken_for_many_of_one_frame(tmp_path):
    np.save(tmp_path / "a.npy", numbered(12).transpose(0, 2, 3, 1)[:, None])
    with pytest.raises(UserError, match="may be 12 videos of one frame or one video of 12 frames"):
        open_path(tmp_path / "a.npy")
    source = open_path(tmp_path / "a.npy", ReadOptions(axes="tnhwc"))
    assert numbers(source.clip(0, 0, 12).frames) == list(range(12))


def test_stacks_of_four_frames_are_not_taken_for_colour(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 4, 84, 84), np.uint8))
    with pytest.raises(UserError, match="stacks of 4 grey frames; of stacks save the newest"):
        Arrays(tmp_path / "a.npy")
    assert Arrays(tmp_path / "a.npy", ReadOptions(axes="tchw")).spec.channels == 4


def test_one_image_is_not_taken_for_many_narrow_frames(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(UserError, match="one image with channels last"):
        Arrays(tmp_path / "a.npy")
    assert Arrays(tmp_path / "a.npy", ReadOptions(axes="thw")).lengths == [32]


def test_names_in_the_singular(tmp_path):
    np.savez(
        tmp_path / "a.npz", frames=np.zeros((6, 8, 8, 3), np.uint8), action=np.arange(6) % 3, state=np.ones((6, 2))
    )
    spec = Arrays(tmp_path / "a.npz").spec
    assert (spec.actions.kind, spec.actions.size, spec.extras) == ("discrete", 3, {"states": (2,)})
