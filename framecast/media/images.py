"""Reading and writing of still images, and natural ordering of numbered files."""

from __future__ import annotations

import functools
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from framecast.core.commit import replaced_file
from framecast.core.errors import UserError
from framecast.core.io import check_name

#: Images and video frames above this many pixels (8192 x 8192) are refused: a few bytes can claim any size.
MAX_PIXELS = 2**26
#: Bytes of floats that are converted to uint8 together.
_CONVERTED_AT_ONCE = 2**26

#: Formats that Pillow decodes without other programs or files (unlike EPS and WMF).
FORMATS = (
    *("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "ICO", "JPEG2000", "AVIF", "PCX", "SGI"),
    *("QOI", "DDS", "XBM"),
)

#: Image suffixes. Files with other suffixes are considered only in folders without any of these.
IMAGE_SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"),
        *(".pnm", ".ico", ".jp2", ".j2k", ".avif", ".pcx", ".sgi", ".rgb", ".bw", ".qoi", ".dds", ".tga"),
    )
)

#: What Pillow raises for damaged files: its plugins parse with struct, zlib and their own code.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError, LookupError),
    *(AttributeError, ArithmeticError, AssertionError, struct.error, zlib.error, MemoryError),
    Image.DecompressionBombError,
)

_ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 exchange rows and columns


_SUFFIX = re.compile(r"\.(?:[a-z]{1,8}|mp4|m4v|f4v|m2ts?|m2v|3gp|3g2|h26[45]|jp2|j2k|y4m|h5|hdf5)$", re.IGNORECASE)
# A decimal: not part of a longer chain of numbers such as a date or version, 2024.01.31. 2e-05: not part of a word.
_NUMBERS = re.compile(r"((?<![A-Za-z\d.])\d(?:\.\d+)?[eE][+-]\d+(?![\d.])|(?<![\d.])\d+\.\d+(?!\.?\d)|\d+|/)")
_WHOLE_NUMBERS = re.compile(r"(\d+|/)")
_FLOAT = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]\d+|-?\d+,\d+")  # 12e-05, or with a decimal comma
_HEXADECIMAL = re.compile(r"[\da-f]+|[\dA-F]+", re.ASCII)


def natural_key(
    name: str | os.PathLike[str], decimals: bool = True, signs: bool = False
) -> tuple[tuple[int, Decimal, str], ...]:
    """Sort key under which numbers are compared as numbers, decimals included, and letters regardless of case.

    frame2 comes before frame10 and 0.125 before 0.25; a minus at the beginning of a name is a sign. The suffix of a
    file decides only between equal stems, the plain spelling between equal keys.

    name: file name or path; a path is compared part by part.
    decimals: whether 1.25 is one number; otherwise it is two, as in shot1.25.
    signs: whether a minus inside a name is a sign, as in frame_-5; never between numbers, as in 2024-01-31.
    """
    text = os.fspath(name).replace("\\", "/")
    parts: list[tuple[int, Decimal, str]] = []
    nothing = Decimal(0)
    stem = _SUFFIX.sub("", text).replace("\N{MINUS SIGN}", "-")
    numbers = _NUMBERS if decimals else _WHOLE_NUMBERS
    for folder in stem.split("/"):
        if _FLOAT.fullmatch(folder):
            parts += [(1, Decimal(folder.replace(",", ".")), ""), (0, nothing, "")]
            continue
        pieces = numbers.split(folder)  # texts and numbers in turn
        for at in range(0, len(pieces), 2):
            words, number = pieces[at], pieces[at + 1] if at + 1 < len(pieces) else ""
            negative = bool(number) and words.endswith("-") and (at == 0 if words == "-" else signs)
            if words := words[: len(words) - negative]:
                parts.append((2, nothing, words.casefold()))
            if number:
                parts.append((1, -Decimal(number) if negative else Decimal(number), ""))
        parts.append((0, nothing, ""))  # a folder comes before longer names
    return (*parts[:-1], (-1, nothing, text))


def natural_order(files: Iterable[Path]) -> list[Path]:
    """Files of one folder, sorted by `natural_key` of their names, read as all of them together suggest.

    Where two names differ only in zeros after a point (shot1.1 and shot1.10), points separate whole numbers. Where
    names differ only in a minus before a number (t=-1 and t=1), it is a sign. Numbers with letters from a to f, all
    of one width or in equal steps, are hexadecimal.
    """
    there = list(files)
    stems = {_SUFFIX.sub("", file.name) for file in there}
    if hexadecimal := _hexadecimal_values(stems):
        return sorted(there, key=lambda f: (hexadecimal[_SUFFIX.sub("", f.name)], natural_key(f.name)))
    decimals, signs = True, False
    if any("." in stem for stem in stems):
        values = {natural_key(stem)[:-1] for stem in stems}
        decimals = len(values) >= len({natural_key(stem, decimals=False)[:-1] for stem in stems})
    if any("-" in stem or "\N{MINUS SIGN}" in stem for stem in stems):
        signs = _kinds(stems, signs=True) < _kinds(stems, signs=False)
    return sorted(there, key=lambda file: natural_key(file.name, decimals, signs))


def _kinds(stems: Iterable[str], signs: bool) -> int:
    """How many different names there are apart from their numbers."""
    return len({tuple(words for kind, _, words in natural_key(s, signs=signs)[:-1] if kind == 2) for s in stems})


def _hexadecimal_values(stems: set[str]) -> dict[str, int]:
    """Stem -> the hexadecimal number behind the common beginning, if all have one; otherwise empty."""
    ends = zip(min(stems, default=""), max(stems, default=""), strict=False)  # their beginning is common to all
    start = next((at for at, (one, two) in enumerate(ends) if one != two), 0)
    rests = {stem: stem[start:] for stem in stems}
    if len(stems) < 3 or not all(map(_HEXADECIMAL.fullmatch, rests.values())):
        return {}
    if all(rest.isdecimal() for rest in rests.values()):
        return {}
    found = {stem: int(rest, 16) for stem, rest in rests.items()}
    steps = np.diff(sorted(found.values())) if max(map(len, rests.values())) < 15 else np.zeros(0)
    even = len(steps) > 0 and steps[0] > 0 and bool((steps == steps[0]).all())
    return found if even or len({len(rest) for rest in rests.values()}) == 1 else {}


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Pixels of an image file, uint8 (3, h, w), RGB.

    The file's content decides its format, not its ending; of an animation the first frame is taken. Grey is repeated
    three times, transparency is composited on black, 16 bits are scaled by 255/65535 and rounded, floats are taken as
    0…1, palettes, CMYK and YCbCr are converted to RGB, and the EXIF orientation is applied.
    Raises: UserError if the file is missing, not an image, damaged, or larger than `MAX_PIXELS`.
    """
    with open_image(path) as image:
        return np.ascontiguousarray(to_rgb(image, path).transpose(2, 0, 1))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) that `read_image` would give, from the file's header alone.

    Raises: UserError as `read_image`, except for damage behind the header.
    """
    with open_image(path) as image:
        return upright_size(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an open image as `to_rgb` returns it: its EXIF orientation applied, whatever its format."""
    width, height = image.size
    turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    tags = getattr(image, "tag_v2", {})
    if (tags.get(256), tags.get(257)) == (height, width):  # newer Pillow gives the upright size of a TIFF
        turned = False
    return (width, height) if turned else (height, width)


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether the header of a file is that of a readable image."""
    try:
        image_size(path)
    except UserError:
        return False
    return True


def to_rgb(image: Image.Image, path: str | os.PathLike[str] = "image") -> np.ndarray:
    """Pixels of an open Pillow image, uint8 (h, w, 3), by the rules of `read_image`.

    Raises: UserError naming `path` if the image is a float one with values outside 0…1.
    """
    if image.format != "TIFF":  # Pillow turns TIFF itself
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return np.repeat(((wide * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        grey = np.asarray(image)
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise UserError(f"{path} holds floats outside 0…1; scale it to 0…1 or save it with 8 bits")
        return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return on_black(rgba)
    return np.asarray(image.convert("RGB"))


def on_black(rgba: np.ndarray) -> np.ndarray:
    """Transparency composited on black: uint8 (..., 4) to uint8 (..., 3), colour times alpha, rounded."""
    product = rgba[..., :3].astype(np.uint16) * rgba[..., 3:]
    colours: np.ndarray = ((product + 127) // 255).astype(np.uint8)
    return colours


def write_image(frame: Any, path: str | os.PathLike[str]) -> Path:
    """Write one frame; the ending chooses the format. The file appears whole or not at all.

    frame: uint8, or float 0…1, (c, h, w) with 1, 3 or 4 channels; numpy or torch.
    Returns: the path.  Raises: UserError for another shape, an unknown ending, or a disk that refuses.
    """
    path = Path(path)
    pixels = to_uint8(frame)
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4):
        raise UserError(f"{path}: an image needs a frame (c, h, w) with 1, 3 or 4 channels, got shape {pixels.shape}")
    Image.init()
    kind = Image.EXTENSION.get(path.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise UserError(f"{path}: images cannot be written as {path.suffix or 'a file without ending'}; use .png")
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if len(pixels) > 1 else pixels[0])
    try:
        with replaced_file(path, durable=False) as part:
            image.save(part, format=kind)
    except OSError as error:
        raise UserError(f"{path} could not be written ({error}); free some space or choose another path") from error
    return path


def to_uint8(frames: Any) -> np.ndarray:
    """Frames as uint8: floats 0…1 are clipped, times 255, rounded; uint8 and bool pass. numpy or torch, any shape.

    Raises: UserError for values that are not finite, and for other dtypes.
    """
    if hasattr(frames, "detach"):
        frames = frames.detach().cpu()
        frames = (frames.float() if frames.is_floating_point() else frames).numpy()
    array = np.asarray(frames)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"frames must be uint8, or floats in 0…1, got {array.dtype}; convert them first")
    if array.ndim > 3 and array.nbytes > _CONVERTED_AT_ONCE:  # copies of all frames would take four times their memory
        return np.stack([to_uint8(part) for part in array])
    if not np.isfinite(array).all():
        raise UserError("frames hold values that are not finite; check the model or data they come from")
    rounded: np.ndarray = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    return rounded


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that this build of Pillow can read, of those that are allowed."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def open_image(file: str | os.PathLike[str] | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """Within: the open image, its format and size checked; what Pillow raises while it is decoded is a UserError too.

    file: a path, or an open file such as io.BytesIO.  name: what to call it in a complaint; the path if not given.
    Raises: UserError as `read_image`.
    """
    inside = not isinstance(file, str | os.PathLike)
    path = name or ("image" if inside else os.fspath(file))  # type: ignore[arg-type]
    fix = "write it again" if inside else "remove it or save it again"
    formats = _formats()
    if path.lower().endswith(".tga"):  # has no magic number, so any text could pass for it
        formats = (*formats, "TGA")
    if not inside:
        check_name(path)
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(f"{path} is no regular file; give an image")
    try:
        with Image.open(file, formats=formats) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{path} claims {image.width}x{image.height} pixels, more than {MAX_PIXELS}; scale it down"
                )
            yield image
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path") from error
    except UnidentifiedImageError as error:
        named = "is no JPEG or other image" if inside else "is not an image although it is named like one"
        raise UserError(f"{path} {named}; {fix}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} claims more than the {MAX_PIXELS} pixels allowed; scale it down") from error
    except DECODE_ERRORS as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is a damaged image ({error}); {fix}") from error
