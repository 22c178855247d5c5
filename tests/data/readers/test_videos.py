"""Video files: every clip equals the frames of the file, in any order of reading."""

import pickle

import numpy as np
import pytest
from films import numbered, numbers
from PIL import Image

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.videos import Videos, video_files
from framecast.media.images import write_image
from framecast.media.video import iter_frames, read_video, write_video


def video(count=20, height=24, width=32, seed=0):
    start = np.random.default_rng(seed).integers(0, 120, (1, 3, 1, 1))
    frames = np.broadcast_to(start + 5 * np.arange(count)[:, None, None, None], (count, 3, height, width))
    return frames.astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i, suffix in enumerate((".mp4", ".avi", ".gif", ".webm", ".mkv")):
        write_video(video(20 + i, seed=i), tmp_path / "set" / f"clip{i + 7}{suffix}", 25)
    (tmp_path / "set" / "notes.txt").write_text("not a video")
    write_image(video(1)[0], tmp_path / "set" / "still.webp")
    return tmp_path / "set"


def test_folder_of_videos(folder):
    source = Videos(folder)
    assert list(source.names) == ["clip7", "clip8", "clip9", "clip10", "clip11"]
    assert list(source.lengths) == [20, 21, 22, 23, 24]
    assert len(source) == 5
    assert (source.spec.channels, source.spec.height, source.spec.width, source.spec.fps) == (3, 24, 32, 25)
    for index, file in enumerate(video_files(folder)):
        clip = source.clip(index, 3, 4, stride=2)
        assert np.array_equal(clip.frames, read_video(file).frames[3:10:2])
        assert clip.frames.dtype == np.uint8
        assert (clip.name, clip.fps) == (source.names[index], 12.5)
    splits = source.splits(4)
    assert {name: len(parts) for name, parts in splits.items()} == {"train": 3, "val": 1, "test": 1}
    assert "seeded hash" in source.split_rule(4)
    assert source.meta()["path"] == "set"


def test_one_file_is_cut_in_time(folder):
    source = Videos(folder / "clip11.mkv")
    assert source.names == ["clip11"]
    splits = source.splits(2)
    frames = [f for parts in splits.values() for s in parts for f in range(s.start, s.stop)]
    assert len(frames) == len(set(frames))
    assert all(splits.values())


def test_sequential_clips_continue_the_decoder(folder, monkeypatch):
    opened = []

    def counted(*args, **kwargs):
        opened.append(args)
        return iter_frames(*args, **kwargs)

    monkeypatch.setattr("framecast.data.readers.videos.iter_frames", counted)
    source = Videos(folder / "clip11.mkv")
    whole = read_video(folder / "clip11.mkv").frames
    pieces = [source.clip(0, start, 6).frames for start in range(0, 24, 6)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert len(opened) == 1
    assert np.array_equal(source.clip(0, 2, 3).frames, whole[2:5])
    assert len(opened) == 2
    assert np.array_equal(pickle.loads(pickle.dumps(source)).clip(0, 5, 1).frames, whole[5:6])


def test_size_and_rate(folder):
    source = Videos(folder, ReadOptions(fps=5, size=(12, 12), fit="crop"))
    assert (source.spec.height, source.spec.width, source.spec.fps) == (12, 12, 5)
    assert source.lengths == [4, 5, 5, 5, 5]
    clip = source.clip(0, 0, 4)
    assert clip.frames.shape == (4, 3, 12, 12)
    assert clip.fps == 5
    assert np.array_equal(clip.frames, read_video(folder / "clip7.mp4", size=(12, 12), fps=5).frames)
    assert Videos(folder, ReadOptions(size=16)).spec.width == 21


def test_train_and_test_folders(tmp_path):
    for name in ("TRAIN/a", "TRAIN/b", "TRAIN/c", "test/a"):
        write_video(video(8), tmp_path / f"{name}.mp4")
    source = Videos(tmp_path)
    assert source.fixed == {"test/a": "test", "TRAIN/a": "train", "TRAIN/b": "train", "TRAIN/c": "train"}
    splits = source.splits(3)
    assert [source.names[s.video] for s in splits["test"]] == ["test/a"]
    assert len(splits["val"]) == 1


def test_equal_stems_keep_their_suffixes(tmp_path):
    for suffix in (".mp4", ".gif"):
        write_video(video(4), tmp_path / f"a{suffix}")
    assert Videos(tmp_path).names == ["a.gif", "a.mp4"]


def test_bad_files_stop_or_are_skipped(folder):
    (folder / "clip1.mp4").write_text("this is no video at all")
    noise = np.random.default_rng(0).integers(0, 256, (21, 3, 24, 32), np.uint8)
    cut = write_video(noise, folder / "clip8.avi", 25).read_bytes()
    (folder / "clip8.avi").write_bytes(cut[: len(cut) * 2 // 3])
    with pytest.raises(UserError, match=r"clip1\.mp4 is text, not a video"):
        Videos(folder)
    source = Videos(folder, ReadOptions(skip_bad=True))
    assert source.skipped == ["clip1.mp4"]
    assert source.lost > 0
    assert source.lengths[1] + source.lost == 21
    assert source.clip(1, 0, source.lengths[1]).meta == {"lost": source.lost}
    assert source.meta()["skipped"] == ["clip1.mp4"]
    only = folder.parent / "only"
    only.mkdir()
    (only / "x.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of its 1 videos can be read, first x\.mp4"):
        Videos(only, ReadOptions(skip_bad=True))


def test_ends_and_single_frames(folder, tmp_path):
    source = Videos(folder)
    with pytest.raises(IndexError, match="has 20 frames"):
        source.clip(0, 18, 3)
    write_video(video(1), tmp_path / "one.mp4")
    single = Videos(tmp_path / "one.mp4")
    assert single.clip(0, 0, 1).frames.shape == (1, 3, 24, 32)
    with pytest.raises(UserError, match=r"one\.mp4 holds a single frame, expected at least two; give a video"):
        single.clip(0, 0, 4)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no video"):
        Videos(tmp_path / "none")


@pytest.mark.parametrize("suffix", [".apng", ".png", ".avif", ".tif"])
def test_images_of_several_frames_are_videos(tmp_path, suffix):
    pictures = [Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))) for frame in numbered(9)]
    form = "PNG" if suffix == ".apng" else None
    one = tmp_path / f"one{suffix}"
    pictures[0].save(one, format=form, save_all=True, append_images=pictures[1:], duration=40)
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}{suffix}").write_bytes(one.read_bytes())
    assert open_path(folder).lengths == [9, 9]
    source = open_path(one)
    assert numbers(source.clip(0, 0, 9).frames) == list(range(9))
    assert source.spec.fps == (10 if suffix == ".tif" else 25)  # a TIFF stores no times


def test_pages_of_two_sizes_are_one_image(tmp_path):
    pages = [Image.fromarray(np.full((size, size), 90, np.uint8)) for size in (32, 16, 8)]
    for name in ("0.tif", "1.tif", "2.tif"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    source = open_path(tmp_path)
    assert source.lengths == [3]
    assert (source.spec.height, source.spec.width) == (32, 32)
