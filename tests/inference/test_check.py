"""Verification of runs, stores and exports."""

import shutil

import pytest
from cli_support import done, refused, store, tiny_run  # noqa: F401

from framecast.inference.check import check_folder
from framecast.inference.export import save_pretrained
from framecast.training.run_folder import packaged


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.fixture
def folders(tmp_path):
    shutil.copytree(tiny_run(), tmp_path / "run")
    shutil.copytree(store(), tmp_path / "store")
    save_pretrained(tiny_run(), tmp_path / "export")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("run", "checkpoint.pt"),
        ("run", "weights/step-2/model.safetensors"),
        ("store", "frames-3x32x32.npy"),
        ("store", "meta.json"),
        ("export", "model.safetensors"),
        ("export", "config.json"),
    ],
)
def test_damage_is_found_and_named(folders, done, refused, kind, file):  # noqa: F811
    found = check_folder(folders / kind)
    assert (found["kind"], found["damaged"], found["unchecked"]) == (kind, [], [])
    assert found["verified"] >= 2
    assert f"{kind}, {found['verified']} files verified" in done("check", folders / kind)
    flip(folders / kind / file)
    assert file in refused("check", folders / kind)


def test_folders_of_older_versions_are_listed_as_unchecked(folders, done):  # noqa: F811
    (folders / "store" / "checksums.json").unlink()
    assert "no checksum (written by an older version)" in done("check", folders / "store")


def test_other_folders_are_refused(tmp_path, refused):  # noqa: F811
    assert "holds no run, packed store or export" in refused("check", tmp_path)
    assert "is no folder" in refused("check", tmp_path / "nowhere")


def test_packaged_weights_are_verified_by_name(done):  # noqa: F811
    for name in packaged():
        assert f"{name}: export, " in (printed := done("check", name))
        assert "no checksum" not in printed
