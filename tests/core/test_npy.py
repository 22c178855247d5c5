"""NumPy files: bounded memory, no code, and every damage in one sentence."""

import os
import zipfile

import numpy as np
import pytest

from framecast.core import npy
from framecast.core.errors import UserError
from framecast.core.npy import map_npy, read_npz


def with_header(path, text, data=b""):
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999, 99999, 99999)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**30},)}}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': ('x',)}",
        "{'descr': 'zz', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order'",
        "'''",
        "((((",
        "(" * 400,
    ],
)
def test_absurd_headers_are_one_sentence(tmp_path, header):
    with pytest.raises(UserError, match=r"a\.npy (is damaged|holds Python objects); save plain arrays") as error:
        map_npy(with_header(tmp_path / "a.npy", header, b"1234"))
    assert "\n" not in str(error.value)


def test_zip_named_npy_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(UserError, match="is damaged"):
        map_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("name", ["frames.npy", "frames", "x.txt"])
def test_members_are_bounded_by_the_file_whatever_their_name(tmp_path, monkeypatch, name):
    monkeypatch.setattr(npy, "FREE_BYTES", 1000)
    np.save(tmp_path / "zeros.npy", np.zeros(1_000_000, np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "zeros.npy", name)
    with pytest.raises(UserError, match="more than 64 times the file's size"):
        read_npz(tmp_path / "a.npz")


def test_many_small_members_are_bounded_together(tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "FREE_BYTES", 1000)
    np.savez_compressed(tmp_path / "a.npz", **{f"a{i}": np.zeros(20_000, np.uint8) for i in range(30)})
    with pytest.raises(UserError, match="more than 64 times the file's size"):
        read_npz(tmp_path / "a.npz")


def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(UserError, match="is neither a file nor a folder, but a pipe or device"):
        map_npy(tmp_path / "a.npy")
