"""Checkpoints at an address: a run that was lost resumes from them as if unbroken, and a cut copy loses nothing."""

import shutil

import fsspec
import pytest
import torch
from cli_support import done, refused, tiny_run  # noqa: F401 - fixtures come by import
from safetensors.torch import load_file
from small_models import Plain, same_run, small_config, write_store

from framecast.core.errors import UserError
from framecast.core.remote import RemoteFolder
from framecast.training.checkpoint import load_checkpoint, snapshots
from framecast.training.mirror import MIRROR
from framecast.training.train import train

ADDRESS = "memory://bucket/runs/one"


@pytest.fixture
def files():
    """The files in memory, empty."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "grey")


def run(data, out, steps, **settings):
    config = small_config(Plain, steps=steps, save_every=2, **settings)
    return train(Plain, data, out=out, config=config, quiet=True)


def test_a_lost_run_resumes_from_the_address_as_if_unbroken(files, data, tmp_path):
    unbroken = run(data, tmp_path / "unbroken", 8)
    lost = run(data, tmp_path / "lost", 4, mirror=ADDRESS)
    shutil.rmtree(lost)
    again = run(data, tmp_path / "lost", 8, mirror=ADDRESS)
    same_run(unbroken, again)
    one, other = (load_file(snapshots(f)[-1] / "model.safetensors") for f in (unbroken, again))
    assert all(torch.equal(one[k], other[k]) for k in one)
    copies = {name.partition("/")[0] for name in RemoteFolder(ADDRESS).names()}
    assert copies == {MIRROR, "step-000000006", "step-000000008"}  # the last two


def test_a_copy_that_is_cut_leaves_the_one_before(files, data, tmp_path, monkeypatch):
    run(data, tmp_path / "run", 2, mirror=ADDRESS)

    def refuse(self, name, data):
        raise PermissionError("Forbidden")

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "pipe_file", refuse)
        with pytest.raises(UserError, match=r"mirror.json: access was refused or credentials are missing"):
            run(data, tmp_path / "run", 4, mirror=ADDRESS)
    assert load_checkpoint(tmp_path / "run")["step"] == 4  # nothing is lost here
    shutil.rmtree(tmp_path / "run")
    run(data, tmp_path / "run", 2, mirror=ADDRESS)
    assert load_checkpoint(tmp_path / "run")["step"] == 2


def test_damaged_copies_are_refused(files, data, tmp_path):
    shutil.rmtree(run(data, tmp_path / "run", 2, mirror=ADDRESS))
    path = next(p for p in files.store if p.endswith("checkpoint.pt"))
    good = files.cat_file(path)
    files.pipe_file(path, good[:-1] + b"x")
    with pytest.raises(UserError, match=r"checkpoint.pt: its checksum is wrong"):
        run(data, tmp_path / "run", 2, mirror=ADDRESS)
    files.pipe_file(path, good)
    remote = RemoteFolder(ADDRESS)
    remote.write(MIRROR, b'{"folder": "..", "files": {"../../x": "0"}}')
    with pytest.raises(UserError, match=r"mirror.json: is damaged"):
        run(data, tmp_path / "run", 2, mirror=ADDRESS)
    with pytest.raises(UserError, match=r"--train.mirror some/folder: is no address"):
        run(data, tmp_path / "run", 2, mirror="some/folder")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.pt"))


def test_overwriting_with_an_address_that_cannot_be_used_leaves_the_old_run(files, data, tmp_path, monkeypatch):
    run(data, tmp_path / "run", 2)
    before = {path.relative_to(tmp_path): path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    def refuse(self, path, **_):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(type(files), "exists", refuse)
    config = small_config(Plain, steps=4, save_every=2, mirror=ADDRESS)
    with pytest.raises(UserError, match=r"access was refused or credentials are missing"):
        train(Plain, data, out=tmp_path / "run", config=config, overwrite=True, quiet=True)
    after = {path.relative_to(tmp_path): path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_weights_are_exported_to_an_address(files, done, refused):  # noqa: F811
    done("export", tiny_run(), "--out", "memory://bucket/weights")
    assert {"config.json", "model.safetensors"} <= set(RemoteFolder("memory://bucket/weights").names())
    assert "already holds files" in refused("export", tiny_run(), "--out", "memory://bucket/weights")


def test_folders_are_made_at_addresses_that_have_them(tmp_path, done):  # noqa: F811
    done("export", tiny_run(), "--out", f"{tmp_path.as_uri()}/new/weights")
    assert {"config.json", "model.safetensors"} <= {path.name for path in (tmp_path / "new" / "weights").iterdir()}
