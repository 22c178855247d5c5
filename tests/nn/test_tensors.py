"""Weights of other programs: read by name, never executed."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from framecast.core.errors import UserError
from framecast.nn import tensors
from framecast.nn.tensors import read_tensors

TABLE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_every_kind_of_file_gives_the_same_tensors(tmp_path):
    save_file(TABLE, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **{k: v.numpy() for k, v in TABLE.items()})
    torch.save(TABLE, tmp_path / "a.pt")
    torch.save({"state_dict": TABLE, "epoch": 3}, tmp_path / "a.pth")
    for suffix in ("safetensors", "npz", "pt", "pth"):
        found = read_tensors(tmp_path / f"a.{suffix}", "")
        assert found.keys() == TABLE.keys()
        assert all(torch.equal(found[k], v) for k, v in TABLE.items())


def test_other_files_are_refused_and_no_code_runs(tmp_path, monkeypatch):
    def refused(name, sentence):
        with pytest.raises(UserError, match=rf"{name}: {sentence}.*; give another"):
            read_tensors(tmp_path / name, "give another")

    torch.save({"a": torch.ones(1), "b": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    refused("evil.pt", r"cannot be read as weights \(UnpicklingError\)")
    np.savez(tmp_path / "evil.npz", a=np.array([Evil(tmp_path / "ran")], object))
    refused("evil.npz", r"cannot be read as weights \(ValueError\)")
    assert not (tmp_path / "ran").exists()
    torch.save([1, 2], tmp_path / "list.pt")
    refused("list.pt", "has no named tensors")
    torch.save({"a": 3}, tmp_path / "number.pt")
    refused("number.pt", "has no named tensors")
    save_file(TABLE, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-4])
    refused("cut.safetensors", r"cannot be read as weights \(SafetensorError\)")
    refused("none.pt", "no such weights file")
    monkeypatch.setattr(tensors, "_LIMIT", 100)
    refused("list.pt", "has 0 MB, more than the 0 read")
