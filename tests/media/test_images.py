"""Pixels survive, each mode follows its stated rule, and what is no image gets its sentence."""

import contextlib
import os

import numpy as np
import pytest
from PIL import Image

from framecast.core.errors import UserError
from framecast.media.animation import frame_count
from framecast.media.images import image_size, is_image, natural_key, on_black, read_image, to_uint8, write_image
from framecast.media.video import probe


def test_natural_order():
    names = ["f10.png", "f2.png", "F1.png", "a/frame_2.png", "a/frame_10.png", "f2b.png", "07.png", "8.png"]
    ordered = sorted(names, key=natural_key)
    assert ordered.index("f2.png") < ordered.index("f10.png")
    assert ordered.index("F1.png") < ordered.index("f2.png")
    assert ordered.index("a/frame_2.png") < ordered.index("a/frame_10.png")
    assert ordered.index("07.png") < ordered.index("8.png")
    assert natural_key("1.png") != natural_key("01.png")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 1, 1), (3, 3, 3)])
def test_lossless_round_trip(tmp_path, suffix, shape):
    frame = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = write_image(frame, tmp_path / f"x{suffix}")
    assert np.array_equal(read_image(path), frame)
    assert image_size(path) == shape[1:]
    assert [p.name for p in tmp_path.iterdir()] == [f"x{suffix}"]


def test_grey_is_repeated_and_floats_are_scaled(tmp_path):
    grey = np.array([[[0.0, 0.5, 1.0, 2.0]]], np.float32)
    frame = read_image(write_image(grey, tmp_path / "g.png"))
    assert frame.shape == (3, 1, 4)
    assert frame[:, 0].tolist() == [[0, 128, 255, 255]] * 3


def test_alpha_is_composited_on_black(tmp_path):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (0, 128, 255)
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [0, round(200 * 128 / 255), 200]
    assert on_black(rgba)[0, :, 0].tolist() == [0, 100, 200]


def test_sixteen_bits_are_scaled(tmp_path):
    wide = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "w.png")
    assert read_image(tmp_path / "w.png")[1, 0].tolist() == [round(v * 255 / 65535) for v in wide[0].tolist()]


def test_palette_and_its_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png")[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60]]
    image.save(tmp_path / "t.png", transparency=1)
    assert read_image(tmp_path / "t.png")[:, 0].T.tolist() == [[10, 20, 30], [0, 0, 0]]


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (20, 8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "o.jpg", exif=exif)
    assert image_size(tmp_path / "o.jpg") == (20, 8)
    assert read_image(tmp_path / "o.jpg").shape == (3, 20, 8)


def test_float_tiff_must_be_in_range(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5]], np.float32)).save(tmp_path / "f.tif")
    assert read_image(tmp_path / "f.tif")[0, 0].tolist() == [0, 128]
    Image.fromarray(np.array([[0.0, 7.5]], np.float32)).save(tmp_path / "g.tif")
    with pytest.raises(UserError, match=r"g\.tif holds floats outside"):
        read_image(tmp_path / "g.tif")


def test_content_decides_not_the_name(tmp_path):
    Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "x.bmp")
    (tmp_path / "x.bmp").rename(tmp_path / "x.jpg")
    assert read_image(tmp_path / "x.jpg")[:, 0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 40, b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_text_named_png(tmp_path, content):
    (tmp_path / "t.png").write_bytes(content)
    with pytest.raises(UserError, match=r"t\.png is not an image although it is named like one; remove it"):
        read_image(tmp_path / "t.png")
    assert not is_image(tmp_path / "t.png")


def test_cut_image_and_missing_image(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (3, 64, 64), np.uint8)
    whole = write_image(noise, tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"c\.png is a damaged image"):
        read_image(tmp_path / "c.png")
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "none.png")


def test_claimed_size_is_bounded(tmp_path):
    (tmp_path / "huge.pgm").write_bytes(b"P5 9000 9000 255\n")
    (tmp_path / "bomb.pgm").write_bytes(b"P5 90000 90000 255\n")
    for name in ("huge.pgm", "bomb.pgm"):
        with pytest.raises(UserError, match="claims"):
            read_image(tmp_path / name)


def test_frames_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="1, 3 or 4 channels"):
        write_image(np.zeros((2, 4, 4), np.uint8), tmp_path / "x.png")
    with pytest.raises(UserError, match=r"cannot be written as \.xyz"):
        write_image(np.zeros((3, 4, 4), np.uint8), tmp_path / "x.xyz")
    with pytest.raises(UserError, match="not finite"):
        to_uint8(np.array([np.nan]))
    with pytest.raises(UserError, match="got int64"):
        to_uint8(np.array([3]))


@pytest.mark.parametrize(
    "names",
    [
        ["0.0.png", "0.125.png", "0.25.png", "0.5.png", "1.0.png", "1.75.png", "10.5.png"],
        ["t-2.5.png", "t-10.png"],
        ["-1.5.png", "-0.5.png", "0.png", "2.png"],
        ["a.png", "a1.jpg", "a2.png", "a10.bmp"],
        ["1.png", "1b.png", "2.jpg"],
        ["2023.12.31.png", "2024.1.2.png", "2024.1.10.png"],
        ["1403636579.763555527.png", "1403636579.813555527.png"],
        ["frame.9", "frame.10"],
        ["s1.take2", "s1.take10"],
        ["0.25x/a.png", "0.5/b.png", "2/a.png", "10/a.png"],
    ],
)
def test_numbers_are_compared_as_numbers(names):
    assert sorted(reversed(names), key=natural_key) == names


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_one_size_for_every_orientation(tmp_path, suffix):
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[:4] = 200
    edge = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        Image.fromarray(pixels).save(path, exif=exif)
        found = read_image(path)
        assert found.shape[1:] == image_size(path) == ((24, 40) if orientation < 5 else (40, 24))
        sides = {"top": found[:, 0], "bottom": found[:, -1], "left": found[..., 0], "right": found[..., -1]}
        assert max(sides, key=lambda side: sides[side].mean()) == edge[orientation]


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_images_cut_anywhere_raise_nothing_but_a_sentence(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    images = [Image.fromarray(np.roll(noise, i)) for i in range(3)]
    path = tmp_path / f"a.{suffix}"
    images[0].save(path, **({"save_all": True, "append_images": images[1:]} if suffix in ("gif", "webp") else {}))
    content = path.read_bytes()
    assert image_size(path)  # whole, it is read
    assert read_image(path).shape[-2:] == (12, 16)
    for cut in np.linspace(0, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:cut])
        for reader in (read_image, image_size, frame_count, probe):
            with contextlib.suppress(UserError):
                reader(path)


def test_names_that_are_no_text(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xe9.png")
    with pytest.raises(UserError, match="a name that is not UTF-8; rename it"):
        read_image(next(tmp_path.iterdir()))
