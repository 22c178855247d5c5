"""A path is opened by the right reader, or refused with a specific error."""

import json

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.arrays import Arrays
from framecast.data.readers.frames import Frames
from framecast.data.readers.videos import Videos
from framecast.data.store import Store, pack
from framecast.media.images import write_image
from framecast.media.video import write_video

FILM = np.zeros((4, 3, 8, 8), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None, None] * 60


@pytest.fixture
def shelf(tmp_path):
    """One of everything."""
    write_video(FILM, tmp_path / "a.mp4")
    write_video(FILM, tmp_path / "videos" / "x.gif")
    write_video(FILM, tmp_path / "videos" / "deep" / "y.mkv")
    write_video(FILM, tmp_path / "frames" / "ep1")
    write_video(FILM, tmp_path / "flat")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "a.npy", FILM)
    np.savez(tmp_path / "arrays" / "e.npz", frames=FILM)
    pack(Videos(tmp_path / "a.mp4"), tmp_path / "store")
    for i in range(3):
        write_image(FILM[i], tmp_path / "gifs" / f"{i}.gif")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "names"),
    [
        ("a.mp4", Videos, ["a"]),
        ("videos", Videos, ["deep/y", "x"]),
        ("frames", Frames, ["ep1"]),
        ("flat", Frames, ["flat"]),
        ("gifs", Frames, ["gifs"]),
        ("a.npy", Arrays, ["a"]),
        ("arrays", Arrays, ["e"]),
        ("store", Store, ["a"]),
    ],
)
def test_reader_is_chosen_by_content(shelf, name, kind, names):
    source = open_path(shelf / name)
    assert isinstance(source, kind)
    assert list(source.names) == names
    assert source.clip(0, 0, 2).frames.shape == (2, 3, 8, 8)


def test_options_reach_the_reader(shelf):
    assert open_path(shelf / "videos", ReadOptions(size=4)).spec.height == 4
    assert open_path(shelf / "flat", ReadOptions(fps=5)).spec.fps == 5
    assert open_path(shelf / "a.npy", ReadOptions(axes="tchw")).spec.channels == 3
    with pytest.raises(UserError, match=r"a\.mp4 holds videos, whose axes are known; --axes is for \.npy"):
        open_path(shelf / "a.mp4", ReadOptions(axes="tchw"))


def test_video_with_unknown_suffix_opens(shelf):
    (shelf / "a.mp4").rename(shelf / "recording")
    assert open_path(shelf / "recording").lengths == [4]


def test_missing_path_suggests_the_nearest_name(shelf):
    with pytest.raises(UserError, match=r"a\.mp5 does not exist; did you mean .*a\.mp4\?"):
        open_path(shelf / "a.mp5")
    with pytest.raises(UserError, match=r"vidoes does not exist; did you mean .*videos\?"):
        open_path(shelf / "vidoes" / "x.gif")
    with pytest.raises(UserError, match=r"zzzzzzzz does not exist; check the path"):
        open_path(shelf / "zzzzzzzz")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], r"is an empty folder; give a packed store"),
        ([".hidden"], r"is an empty folder"),
        (["notes.txt"], r"holds only other files, such as notes\.txt; give a packed store"),
        (["a.tfrecord"], r"a\.tfrecord: ends in the middle of record 0; copy the file again"),
        (["a.zip"], r"holds archives such as a\.zip; unpack them first"),
    ],
)
def test_folders_without_video(tmp_path, files, sentence):
    for name in files:
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=sentence):
        open_path(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.tfrecords", b"x", r"a\.tfrecords: ends in the middle of record 0"),
        ("a.tar", b"x", r"a\.tar is an archive; unpack it and give the folder"),
        ("a.png", b"x", r"a\.png is a single image, expected several frames"),
        ("a.txt", b"words", r"a\.txt is text, not a video"),
        ("a.mp4", b"", r"a\.mp4 is empty"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        open_path(tmp_path / name)


def test_mixed_content_is_refused(shelf):
    with pytest.raises(UserError, match=r"holds 3 videos and \d+ images and \d+ arrays, expected one kind"):
        open_path(shelf)


def test_skip_bad_reaches_the_reader(shelf):
    (shelf / "videos" / "bad.mp4").write_text("text")
    with pytest.raises(UserError, match=r"bad\.mp4"):
        open_path(shelf / "videos")
    assert open_path(shelf / "videos", ReadOptions(skip_bad=True)).meta()["skipped"] == ["bad.mp4"]


@pytest.mark.parametrize("name", ["codebase_version", "robot_type"])
def test_a_damaged_lerobot_dataset_is_not_taken_for_a_folder_of_videos(tmp_path, name):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(json.dumps({name: "v3.0", "fps": 30}))
    videos = tmp_path / "videos" / "observation.image" / "chunk-000"
    videos.mkdir(parents=True)
    write_video(np.zeros((4, 3, 16, 16), np.uint8), videos / "file-000.mp4", 30)
    with pytest.raises(UserError, match=r"info\.json is damaged: it holds no features"):
        open_path(tmp_path)
    (tmp_path / "meta" / "info.json").write_text('{"of": "another program"}')
    assert len(open_path(tmp_path)) == 1
