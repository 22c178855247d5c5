"""Links, thumbnails and odd files in folders."""

import os

import numpy as np
import pytest
from films import film, numbered, numbers

from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data.base import Segment
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.folders import fixed_splits, visible_files
from framecast.data.store import pack
from framecast.data.windows import Windows
from framecast.media.images import write_image


def images(folder, names):
    for name, frame in zip(names, numbered(len(names)), strict=True):
        write_image(frame, folder / name)


def test_decimal_names_are_the_order_of_frames(tmp_path):
    images(tmp_path / "v", [f"{i / 8}.png" for i in range(20)])
    assert numbers(open_path(tmp_path / "v").clip(0, 0, 20).frames) == list(range(20))


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    data, away = tmp_path / "data", tmp_path / "away"
    for name in ("a", "b", "c"):
        images(away / name, ["0.png", "1.png"])
    images(data / "Test" / "d", ["0.png", "1.png"])
    (data / "Train").symlink_to(away)
    (data / "again").symlink_to(data / "Test")
    (away / "loop").symlink_to(data)
    (away / "up").symlink_to(tmp_path)
    source = open_path(data)
    assert source.names == ["Test/d", "Train/a", "Train/b", "Train/c"]
    assert source.fixed["Test/d"] == "test"


def test_thumbnails_and_pipes_are_no_data(tmp_path):
    film(tmp_path / "a.mts", 4, format="mpegts")
    film(tmp_path / "b.mp4", 4)
    film(tmp_path / "c.3gp", 4, "mpeg4", format="3gp")
    (tmp_path / "@eaDir").mkdir()
    film(tmp_path / "@eaDir" / "b.mp4", 4)
    assert open_path(tmp_path).names == ["a", "b", "c"]
    os.mkfifo(tmp_path / "pipe.txt")
    assert len(open_path(tmp_path)) == 3
    with pytest.raises(UserError, match="is a pipe or device"):
        open_path(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=r"https://host/a\.mp4 is an address; download it"):
        open_path("https://host/a.mp4")
    assert all(f.parent == tmp_path for f in visible_files(tmp_path))


def test_only_files_at_fault_are_skipped(tmp_path):
    film(tmp_path / "a.mp4", 4)
    film(tmp_path / "b.gif", 4, "gif", pix_fmt="rgb8")
    content = (tmp_path / "b.gif").read_bytes()
    (tmp_path / "b.gif").write_bytes(content[:20])
    os.rename(film(tmp_path / "c.mp4", 4), os.fsencode(tmp_path) + b"/\xff.mp4")
    with pytest.raises(UserError):
        open_path(tmp_path)
    source = open_path(tmp_path, ReadOptions(skip_bad=True))
    assert source.names == ["a"]
    store = pack(source, tmp_path / "store", ReadOptions(skip_bad=True))
    assert "\ufffd.mp4" in store.meta()["skipped"]


def test_pauses_reach_the_store_and_the_windows(tmp_path):
    film(tmp_path / "a.mkv", 60, rate=10, pts=[*range(40), *range(640, 660)], bf=0)
    store = pack(open_path(tmp_path / "a.mkv"), tmp_path / "store", ReadOptions(cuts=False))
    assert store.breaks == {"a": [40]}
    assert any("pauses" in note for note in store.meta()["notes"])
    windows = Windows(store, [Segment(0, 0, 60)], ClipRequest(context=2, future=2))
    starts = {int(windows.at(np.array([i]))[1][0]) for i in range(windows.count)}
    assert not starts & {37, 38, 39}
    assert 36 in starts


def test_pictures_that_are_not_used_are_counted(tmp_path):
    times = [0, 40, 80, 120, 125, 160, 200, 240, 247, 280, 320, 360, 372, 400]
    source = open_path(film(tmp_path / "a.mkv", len(times), rate=1000, pts=times, bf=0))
    (note,) = source.meta()["notes"]
    assert "left out" in note
    assert "of 14 pictures" in note


def test_split_folders_at_any_depth():
    names = ["walking/Train/a", "walking/TEST/b", "running/train/c", "running/validation/d"]
    assert list(fixed_splits(names).values()) == ["train", "test", "train", "val"]
    assert fixed_splits(["set/train/a", "set/val/b"]) == {"set/train/a": "train", "set/val/b": "val"}
    assert fixed_splits(["train/a", "plane/b", "car/c"]) == {}  # a class of that name
    assert fixed_splits(["train", "test", "holiday"]) == {}  # names of videos
    with pytest.raises(UserError, match="'extra/c' lies beside folders for training and test"):
        fixed_splits(["Train/a", "Test/b", "extra/c"])
