"""Files of packed stores while they are written: growing .npy files, one per array and frame size (format 1)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from framecast.core.errors import UserError

#: Valid names of per-frame arrays, which become part of file names.
ARRAY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

HEADER_BYTES = 256  #: of every .npy file written here, so that the length can be written at the end


class DiskFull(UserError):
    """No disk space left; in contrast to a bad video, it cannot be skipped."""


class NpyFile:
    """A .npy file that grows by rows; the length in its header is written at the end."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.shape, self.dtype, self.rows = path, tuple(shape), dtype.newbyteorder("<"), 0
        self._file: BinaryIO = path.open("w+b")
        self._file.write(self._header())

    def _header(self) -> bytes:
        return npy_header((self.rows, *self.shape), self.dtype)

    def append(self, array: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(array, dtype=self.dtype).data)
        self.rows += len(array)

    def truncate(self, rows: int) -> None:
        self.rows = rows
        # On a full disk the buffer cannot be flushed: drop it with the handle, then truncate the file.
        self.close()
        self._file = self.path.open("r+b")
        self._file.truncate(HEADER_BYTES + rows * int(np.prod(self.shape)) * self.dtype.itemsize)
        self._file.seek(0, os.SEEK_END)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())
        self._file.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk and is already reported
            self._file.close()

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Header of a .npy file, `HEADER_BYTES` long whatever its contents."""
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.encode("latin1").ljust(HEADER_BYTES - 11) + b"\n"


class Layout(Protocol):
    """Files of an unfinished store, by format; every video is committed or rolled back."""

    version: int

    def expect(self, frames: int, array_bytes: int) -> None:
        """Announce the next video: its number of frames and the bytes of its arrays per frame."""

    def add_frames(self, key: str, array: np.ndarray) -> None:
        """Append frames, uint8 (t, c, h, w), of the size `key`, to the video being written."""

    def commit(self, key: str, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Append the arrays of the video and return the fields of its entry in the index that locate it."""

    def roll_back(self) -> None:
        """Remove what was appended since the last commit."""

    def finish(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Finish all files: further fields of the index, and file name -> checksum where it was computed meanwhile."""

    def close(self) -> None:
        """Close all files of a store that is given up."""


class PlainFiles:
    """Format 1: one file per array and frame size, which all videos share.

    Args:
        folder: Folder of the unfinished store.
    """

    version = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[tuple[str, str], NpyFile] = {}
        self._before: dict[tuple[str, str], int] = {}

    def expect(self, frames: int, array_bytes: int) -> None:
        """Nothing, as a file has no limit."""

    def add_frames(self, key: str, array: np.ndarray) -> None:
        """Append frames to the file of their size."""
        self._append("frames", key, array)

    def commit(self, key: str, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Append the arrays; the entry has the row of the first frame as "offset"."""
        for k, array in arrays.items():
            self._append(k, key, array)
        offset = self._before.get(("frames", key), 0)
        self._before = {k: file.rows for k, file in self._files.items()}
        return {"offset": offset}

    def _append(self, name: str, key: str, array: np.ndarray) -> None:
        if (name, key) not in self._files:
            self._files[name, key] = NpyFile(self.folder / f"{name}-{key}.npy", array.shape[1:], array.dtype)
        self._files[name, key].append(array)

    def roll_back(self) -> None:
        """Truncate every file to the rows of committed videos."""
        for key in list(self._files):
            if key in self._before:
                self._files[key].truncate(self._before[key])
            else:
                self._files.pop(key).discard()

    def finish(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Write the lengths into the headers."""
        for file in self._files.values():
            file.finish()
        return {}, {}

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Context in which a full disk and other file system errors become a `UserError` about `folder`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"the disk is full while writing {folder}; free some space or use another folder") from error
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) or error.errno == errno.EROFS:
            raise UserError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
        raise


def require_space(folder: Path | str, size: int) -> None:
    """Check that `size` bytes are free on the disk of `folder`.

    Raises:
        UserError: Disk space is too small.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f"{folder} needs {bytes_in_words(size)} but only {bytes_in_words(free)} are free there; "
            "choose another folder, fewer frames, or a smaller --size"
        )


def bytes_in_words(size: int) -> str:
    """1.2 GB, 3.4 MB, 5.6 kB or 7 bytes."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def write_index(path: Path, value: Any) -> None:
    """Write a value as JSON with the same bytes on every system: sorted keys, UTF-8, line feeds."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
