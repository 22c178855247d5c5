"""Folders of image pairs: lists prescribe the splits, and invalid files are refused."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.frames import Frames
from framecast.data.readers.pairs import Pairs
from framecast.data.store import pack
from framecast.media.images import write_image


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        for frame in (1, 2):
            write_image(rng.integers(0, 256, (3, 6, 8), np.uint8), tmp_path / "p" / f"00000000{i:02d}_im{frame}.png")
    return tmp_path / "p"


def ids(*numbers):
    return "\n".join(f"00000000{i:02d}" for i in numbers)


def test_pairs_are_videos_of_two_frames(folder):
    source = open_path(folder)
    assert isinstance(source, Pairs)
    assert (source.names[3], source.lengths, len(source)) == ("0000000003", [2] * 12, 12)
    clip = source.clip(3, 0, 2)
    assert clip.frames.shape == (2, 3, 6, 8)
    np.testing.assert_array_equal(source.clip(3, 1, 1).frames[0], clip.frames[1])
    with pytest.raises(IndexError):
        source.clip(3, 1, 2)


def test_lists_prescribe_the_parts(folder, tmp_path):
    (folder / "train.txt").write_text(ids(0, 1, 2, 3) + "\n")
    (folder / "test.txt").write_text(ids(4, 5).replace("\n", " "))
    (folder / "visualize.txt").write_text(ids(6))
    source = open_path(folder)
    assert len(source) == 7  # what no list names is left out
    splits = {k: [source.names[s.video][-1] for s in v] for k, v in source.splits(2).items()}
    assert splits == {"train": ["0", "1", "2", "3"], "val": ["6"], "test": ["4", "5"]}
    assert pack(source, tmp_path / "packed").splits(2).keys() == splits.keys()


def test_visualise_list_overrides_train(folder):
    (folder / "train.txt").write_text(ids(0, 1, 2))
    (folder / "test.txt").write_text(ids(3))
    (folder / "visualize.txt").write_text(ids(2, 3))
    assert open_path(folder).fixed == {
        "0000000000": "train",
        "0000000001": "train",
        "0000000002": "val",
        "0000000003": "test",
    }


def test_other_folders_of_frames_are_not_pairs(folder):
    (folder / "cover.png").write_bytes((folder / "0000000000_im1.png").read_bytes())
    assert isinstance(open_path(folder), Frames)


def test_missing_image_of_a_pair_is_refused(folder):
    (folder / "0000000007_im2.png").unlink()
    with pytest.raises(UserError, match=r"0000000007_im1.png: 0000000007_im2.png is missing"):
        open_path(folder)


def test_list_with_unknown_id_is_refused(folder):
    (folder / "test.txt").write_text("0000000099")
    with pytest.raises(UserError, match=r"test.txt: names '0000000099', but 0000000099_im1.png and"):
        open_path(folder)


def test_image_of_another_size_is_refused(folder):
    write_image(np.zeros((3, 6, 6), np.uint8), folder / "0000000005_im2.png")
    with pytest.raises(UserError, match=r"0000000005_im2.png: is 6x6 but 0000000000_im1.png is 6x8"):
        open_path(folder)


def test_binary_list_is_refused(folder):
    (folder / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"train.txt: is not a text file of ids"):
        open_path(folder)


def test_only_pairs_that_cannot_be_read_are_left_out(folder):
    (folder / "train.txt").write_text(ids(0, 1, 2))
    (folder / "test.txt").write_text(ids(3, 4))
    (folder / "0000000000_im1.png").write_bytes(b"nothing")
    (folder / "0000000003_im2.png").unlink()
    source = open_path(folder, ReadOptions(skip_bad=True))
    assert source.fixed == {"0000000001": "train", "0000000002": "train", "0000000004": "test"}
    assert source.meta()["skipped"] == ["0000000000", "0000000003"]
