"""Per-frame arrays next to the images are read, and invalid ones are refused."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.core.tables import read_table
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.store import pack
from framecast.media.images import write_image

FRAMES = 5
PIXELS = np.array([[2.0, 1.0], [18.0, 9.0], [10.0, 5.0]])  # of frames of 10x20
JOINTS = np.repeat(PIXELS[None], FRAMES, 0) + np.arange(FRAMES)[:, None, None] * [0.5, 0.25]


@pytest.fixture
def people(tmp_path):
    """Three folders of five frames of 10x20, without sidecar files."""
    for video in range(3):
        for i in range(FRAMES):
            frame = np.full((3, 10, 20), 40 + 30 * video, np.uint8)
            frame[:, i, 2 * i] = 250
            write_image(frame, tmp_path / "people" / f"p{video}" / f"{i}.png")
    return tmp_path / "people"


def open_with(people, save):
    for folder in people.iterdir():
        save(folder)
    return open_path(people)


def expected():
    return (2 * JOINTS / [20, 10] - 1).astype(np.float32)


def test_joints_in_pixels_become_coordinates(people):
    source = open_with(people, lambda folder: np.save(folder / "joints.npy", JOINTS))
    assert source.spec.extras == {"joints": (3, 2), "visibility": (3,)}
    clip = source.clip(1, 1, 2, 2)
    np.testing.assert_allclose(clip.arrays["joints"], expected()[1::2], atol=1e-6)
    assert (clip.arrays["visibility"] == 1).all()


def test_joints_in_coordinates_stay(people):
    source = open_with(people, lambda folder: np.save(folder / "joints.npy", expected()))
    np.testing.assert_array_equal(source.clip(0, 0, FRAMES).arrays["joints"], expected())


def test_joints_of_a_table_with_visibility(people):
    rated = np.concatenate([JOINTS, np.ones((FRAMES, 3, 1))], 2)
    rated[2, 1, 2] = 0

    def save(folder):
        heading = "".join(f"x{j},y{j},v{j}," for j in range(3))[:-1]
        np.savetxt(folder / "joints.csv", rated.reshape(FRAMES, 9), "%.4f", ",", header=heading, comments="")
        (folder / "remarks.csv").write_text("taken on a Monday\n")

    clip = open_with(people, save).clip(0, 0, FRAMES)
    assert clip.arrays["visibility"].tolist() == (rated[..., 2]).tolist()
    np.testing.assert_array_equal(clip.arrays["joints"][2, 1], [0, 0])
    np.testing.assert_allclose(clip.arrays["joints"][0], expected()[0], atol=1e-5)


def test_missing_joints_are_zero_and_invisible(people):
    holes = JOINTS.copy()
    holes[3, 0] = np.nan
    clip = open_with(people, lambda folder: np.save(folder / "joints.npy", holes)).clip(0, 0, FRAMES)
    assert clip.arrays["visibility"][3].tolist() == [0, 1, 1]
    assert np.isfinite(clip.arrays["joints"]).all()


def test_actions_states_and_masks(people):
    rng = np.random.default_rng(0)
    states, masks = rng.normal(size=(FRAMES, 4)), rng.integers(0, 2, (FRAMES, 10, 20), dtype=np.uint8)

    def save(folder):
        np.savetxt(folder / "actions.csv", np.arange(FRAMES) % 3, "%d", header="action", comments="")
        np.savez(folder / "more.npz", states=states, masks=masks)

    source = open_with(people, save)
    assert (source.spec.actions.kind, source.spec.actions.size) == ("discrete", 3)
    assert source.spec.extras == {"states": (4,), "masks": (10, 20)}
    clip = source.clip(2, 1, 3)
    np.testing.assert_array_equal(clip.arrays["actions"], [1, 2, 0])
    np.testing.assert_array_equal(clip.arrays["masks"], masks[1:4])


def test_packing_resizes_joints(people, tmp_path):
    open_with(people, lambda folder: np.save(folder / "joints.npy", JOINTS))
    square = pack(open_path(people, ReadOptions(size=(10, 10), fit="crop")), tmp_path / "packed")
    np.testing.assert_allclose(square.clip(0, 0, FRAMES).arrays["joints"][..., 0], expected()[..., 0] * 2, atol=1e-5)
    np.testing.assert_allclose(square.clip(0, 0, FRAMES).arrays["joints"][..., 1], expected()[..., 1], atol=1e-5)


def test_skipped_frames_drop_their_rows(people):
    (people / "p1" / "2.png").write_text("not an image")
    source = open_skipping(people)
    np.testing.assert_array_equal(source.clip(1, 0, 4).arrays["states"][:, 0], [0, 1, 3, 4])


def open_skipping(people):
    for folder in people.iterdir():
        np.save(folder / "states.npy", np.arange(FRAMES, dtype=np.float32)[:, None])
    return open_path(people, ReadOptions(skip_bad=True))


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("joints.npy", JOINTS[:3], r"joints.npy: joints has 3 rows for 5 frames; give one per frame"),
        ("joints.npy", np.zeros((FRAMES, 3, 4)), r"joints must be \(frames, joints, 2\)"),
        ("joints.npy", np.zeros((FRAMES, 5)), r"joints must be \(frames, joints, 2\)"),
        ("a b.npy", np.zeros((FRAMES, 5)), r"'a b' is not a valid array name"),
        ("names.npy", np.array(["x"] * FRAMES), r"names must be numbers, one row per frame"),
        ("states.npy", np.array([[0.0], [1], [np.nan], [3], [4]]), r"states is not a finite number at frame 2"),
    ],
)
def test_invalid_arrays_are_refused(people, name, values, sentence):
    with pytest.raises(UserError, match=sentence):
        open_with(people, lambda folder: np.save(folder / name, values))


def test_invalid_tables_are_refused(people):
    with pytest.raises(UserError, match=r"states.csv is not a table of numbers"):
        open_with(people, lambda folder: (folder / "states.csv").write_text("a,b\n1,2\n3,x\n"))


def test_videos_with_different_arrays_are_refused(people):
    np.save(people / "p1" / "states.npy", np.zeros((FRAMES, 2)))
    with pytest.raises(UserError, match=r"p1 has the per-frame arrays states \[2\] but .*p0 has none"):
        open_path(people)


def test_tables_named_in_the_singular_with_byte_order_mark_and_decimal_commas(people):
    def save(folder):
        rows = [f"{i},5;-{i},25" for i in range(FRAMES)]
        (folder / "action.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["x;y", *rows]).encode())

    source = open_with(people, save)
    assert source.spec.actions.size == 2
    assert source.clip(0, 0, FRAMES).arrays["actions"][2].tolist() == [2.5, -2.25]


@pytest.mark.parametrize(
    "text",
    [
        ",x,y\n0,1.5,2\n1,2.5,3\n",  # as pandas writes it, with an index
        "sep=;\nx;y\n1,5;2\n2,5;3\n",
        "1.5;2;\n2.5;3;\n",
        "2x,y\n1.5,2\n2.5,3\n",
    ],
)
def test_tables_of_spreadsheets(text):
    assert read_table(text, "a.csv")[1] == [["1.5", "2"], ["2.5", "3"]]
