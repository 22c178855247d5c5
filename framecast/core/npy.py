"""Reading of NumPy files: nothing is unpickled, and memory is bounded by the size of the file."""

from __future__ import annotations

import errno
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy_format

from framecast.core.errors import UserError
from framecast.core.io import require_regular

T = TypeVar("T")

#: An archive may unpack to this multiple of its size, plus a fixed number of bytes for small ones.
EXPANSION, FREE_BYTES = 64, 1 << 26

#: What NumPy and zipfile raise for damaged files: headers are parsed as Python text.
_DAMAGE = (
    *(OSError, ValueError, TypeError, EOFError, SyntaxError, OverflowError, RecursionError, MemoryError, KeyError),
    *(IndexError, AttributeError, RuntimeError, NotImplementedError, tokenize.TokenError, struct.error),
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError),
)


def map_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped and read-only.

    Raises:
        UserError: the file is missing, damaged or holds Python objects.
    """

    def opened() -> np.ndarray:
        shape, dtype, offset = _header(path)
        size = math.prod(shape) * dtype.itemsize
        if offset + size > path.stat().st_size:
            raise ValueError("is cut short")
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped

    return _reported(path, opened)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, in memory: at most `EXPANSION` times the file's size plus `FREE_BYTES`.

    Raises:
        UserError: the file is missing, damaged, holds Python objects, or unpacks to more than that.
    """

    def opened() -> dict[str, np.ndarray]:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            limit = EXPANSION * path.stat().st_size + FREE_BYTES
            claimed = 0
            for member in members:
                with archive.open(member) as stream:
                    shape, dtype, _ = _described(stream)
                claimed += max(member.file_size, math.prod(shape) * dtype.itemsize)
                if claimed > limit:
                    raise UserError(
                        f"{path}: {member.filename[:80]} unpacks to {claimed >> 20} MB, more than {EXPANSION} times "
                        "the file's size; save it as .npy"
                    )
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    return _reported(path, opened)


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    with path.open("rb") as file:
        return _described(file)


def _described(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and offset of the data of an open .npy file."""
    version = npy_format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy_format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = npy_format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"npy version {version}")
    if dtype.hasobject:
        raise ValueError("Python objects")
    if any(n < 0 for n in shape):
        raise ValueError("negative shape")
    return shape, dtype, stream.tell()


def _reported(path: Path, opened: Callable[[], T]) -> T:
    require_regular(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path")
    try:
        return opened()
    except _DAMAGE as error:
        if isinstance(error, UserError):
            raise
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EIO):
            raise UserError(f"{path} cannot be read ({error.strerror})") from error
        objects = any(words in str(error) for words in ("Python objects", "Object arrays", "allow_pickle"))
        what = "holds Python objects" if objects else "is damaged"
        raise UserError(f"{path} {what}; save plain arrays with numpy.save or numpy.savez") from error
