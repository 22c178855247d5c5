"""Pixels survive, each mode follows its stated rule, and what is no image gets its sentence."""

import numpy as np
import pytest
from PIL import Image

from framecast.core.errors import UserError
from framecast.media.images import image_size, is_image, natural_key, on_black, read_image, to_uint8, write_image


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
