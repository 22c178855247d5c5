"""Folders of frames in every shape people keep them."""

import numpy as np
import pytest
from PIL import Image

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.frames import Frames, frame_folders
from framecast.media.images import write_image


def write(folder, count, size=(6, 8), names="{}.png", first=0):
    for i in range(count):
        write_image(np.full((3, *size), first + i, np.uint8), folder / names.format(i))


def values(clip):
    return clip.frames[:, 0, 0, 0].tolist()


def test_flat_folder_in_natural_order(tmp_path):
    write(tmp_path / "ep", 12, names="frame{}.png")
    (tmp_path / "ep" / ".hidden.png").write_text("x")
    (tmp_path / "ep" / "Thumbs.db").write_text("x")
    (tmp_path / "ep" / "notes.txt").write_text("x")
    source = Frames(tmp_path / "ep", ReadOptions(fps=10))
    assert (source.names, source.lengths) == (["ep"], [12])
    assert (source.spec.channels, source.spec.height, source.spec.width, source.spec.fps) == (3, 6, 8, 10)
    clip = source.clip(0, 1, 4, stride=3)
    assert values(clip) == [1, 4, 7, 10]
    assert clip.fps == pytest.approx(10 / 3)


def test_nested_folders_with_different_sizes(tmp_path):
    write(tmp_path / "b10", 3, (211, 160))
    write(tmp_path / "b2" / "left", 4, first=50)
    write(tmp_path / "b2" / "right", 5, first=90)
    source = Frames(tmp_path)
    assert source.names == ["b2/left", "b2/right", "b10"]
    assert source.lengths == [4, 5, 3]
    assert source.sizes == [(6, 8), (6, 8), (211, 160)]
    assert (source.spec.height, source.spec.width) == (6, 8)
    assert source.clip(2, 0, 3).frames.shape == (3, 3, 211, 160)
    assert values(source.clip(1, 2, 2)) == [92, 93]
    scaled = Frames(tmp_path, ReadOptions(size=(4, 4)))
    assert scaled.clip(2, 0, 3).frames.shape == (3, 3, 4, 4)


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("train", "TEST"), ("training", "testing")])
def test_train_and_test_layout(tmp_path, train, test):
    for i in range(3):
        write(tmp_path / train / f"ep{i}", 5)
    write(tmp_path / test / "ep0", 5)
    source = Frames(tmp_path)
    splits = source.splits(3)
    assert [source.names[s.video] for s in splits["test"]] == [f"{test}/ep0"]
    assert {source.names[s.video].split("/")[0] for s in splits["train"] + splits["val"]} == {train}
    assert "train and test as prescribed" in source.split_rule(3)


def test_frames_directly_in_train_and_test(tmp_path):
    write(tmp_path / "Train", 30)
    write(tmp_path / "Test", 6)
    source = Frames(tmp_path)
    assert source.fixed == {"Test": "test", "Train": "train"}
    assert len(source.splits(2)["val"]) == 1


@pytest.mark.parametrize("names", ["{:04d}", "img.{:d}", "{}.JPG", "shot ({}) ünï.bmp", "{}.frame"])
def test_any_names_and_suffixes(tmp_path, names):
    for i in range(11):
        image = Image.new("RGB", (8, 6), (20 * i, 0, 0))
        with (tmp_path / names.format(i)).open("wb") as file:
            image.save(file, format="BMP")
    found = values(Frames(tmp_path).clip(0, 0, 11))
    assert found == [20 * i for i in range(11)]


def test_tiny_images(tmp_path):
    write(tmp_path, 2, (3, 3))
    assert Frames(tmp_path).clip(0, 0, 2).frames.shape == (2, 3, 3, 3)


def test_two_sizes_in_one_video_are_refused(tmp_path, monkeypatch):
    write(tmp_path, 6)
    write_image(np.zeros((3, 7, 8), np.uint8), tmp_path / "3.png")
    sentence = r"3\.png is 8x7 but 0\.png of the same video is 8x6; bring them to one size"
    with pytest.raises(UserError, match=sentence):
        Frames(tmp_path)
    # In folders too large to check every header, reading the clip reports it.
    monkeypatch.setattr("framecast.data.readers.frames._CHECKED_AT_ONCE", 3)
    source = Frames(tmp_path)
    with pytest.raises(UserError, match=sentence):
        source.clip(0, 2, 3)


def test_text_named_png_is_refused_or_skipped(tmp_path):
    write(tmp_path, 5)
    (tmp_path / "2.png").write_text("this is text")
    with pytest.raises(UserError, match=r"2\.png is not an image although it is named like one"):
        Frames(tmp_path)
    source = Frames(tmp_path, ReadOptions(skip_bad=True))
    assert values(source.clip(0, 0, 4)) == [0, 1, 3, 4]
    assert source.meta()["skipped"] == ["2.png"]


def test_unreadable_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no image"):
        Frames(tmp_path)
    write(tmp_path, 2)
    write(tmp_path / "more", 2)
    with pytest.raises(UserError, match="has images next to folders of images such as more; give each video"):
        Frames(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("x")
    with pytest.raises(UserError, match=r"none of its 1 images can be read, first a\.png"):
        Frames(tmp_path / "bad", ReadOptions(skip_bad=True))
    with pytest.raises(UserError, match="fps must be above 0"):
        Frames(tmp_path / "more", ReadOptions(fps=0))


def test_ends_and_single_frames(tmp_path):
    write(tmp_path / "a", 4)
    write(tmp_path / "b", 1)
    source = Frames(tmp_path)
    with pytest.raises(IndexError, match="has 4 frames"):
        source.clip(0, 2, 3)
    with pytest.raises(UserError, match=r"b holds a single frame, expected at least two"):
        source.clip(1, 0, 2)


def test_frame_folders_skips_hidden_ones(tmp_path):
    write(tmp_path / "a", 1)
    write(tmp_path / ".cache", 1)
    write(tmp_path / "__MACOSX", 1)
    assert [folder.name for folder in frame_folders(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    "names",
    [
        [f"shot1.{i}" for i in range(1, 13)],
        [str(i * 2e-05) for i in range(12)],
        [str(i * 0.125).replace(".", ",") for i in range(12)],
        [f"{i / 4:.2f}" for i in range(12)],
        [f"frame_{i}" for i in range(-6, 6)],
        [f"t={i / 4}" for i in range(-3, 9)],
        [f"x -{5 - i}" if i < 5 else f"x {i - 5}" for i in range(12)],
        [f"frame_{i * 2e-05:g}" for i in range(12)],
        [f"{i:02x}" for i in range(5, 17)],
        [f"frame_{i:x}" for i in range(5, 17)],
        [f"2024-01-{i}" for i in range(1, 13)],
    ],
)
def test_numbers_of_any_notation_order_the_frames(tmp_path, names):
    for i, name in enumerate(names):
        write_image(np.full((3, 8, 8), 10 * i, np.uint8), tmp_path / f"{name}.png")
    clip = open_path(tmp_path).clip(0, 0, len(names))
    assert clip.frames[:, 0, 0, 0].tolist() == [10 * i for i in range(len(names))]


@pytest.mark.parametrize("second", ["{}_mask.png", "{}.bmp", "depth_{:03d}.png"])
def test_two_series_in_one_folder_are_refused(tmp_path, second):
    for i in range(4):
        for name in ("{}.png", second):
            write_image(np.zeros((3, 8, 8), np.uint8), tmp_path / name.format(i))
    with pytest.raises(UserError, match="holds 2 series of images with the same numbers"):
        open_path(tmp_path)
