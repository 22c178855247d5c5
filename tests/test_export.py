"""Weights that travel: what is written, that it opens, that it says nothing of this machine."""

import errno
import json

import pytest
import torch
from cli_support import copy_run, store, tiny_run

import framecast
from framecast.export import export
from framecast.held_out import evaluate
from framecast.run import open_run
from framecast.types import UserError


def future(run):
    context = torch.rand(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return framecast.load(run).predict(context, 2)


def test_the_export_predicts_what_the_run_predicts(tmp_path):
    folder = export(open_run(tiny_run()), tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert torch.equal(future(folder), future(tiny_run()))


def test_half_precision_is_half_the_size_and_nearly_the_same(tmp_path):
    whole, half = (export(open_run(tiny_run()), tmp_path / name, half=name == "half") for name in ("whole", "half"))
    sizes = [(f / "model.safetensors").stat().st_size for f in (whole, half)]
    assert 0.4 < sizes[1] / sizes[0] < 0.65
    assert torch.allclose(future(half), future(whole), atol=1e-2)


def test_no_local_path_and_the_scores_with_their_protocol(tmp_path):
    run = open_run(copy_run())
    evaluate(run, horizon=2, clips=2)
    folder = export(run, tmp_path / "out")
    text = "".join(p.read_text() for p in folder.iterdir() if p.suffix in (".json", ".md"))
    assert str(store().parent) not in text
    assert json.loads((folder / "scores.json").read_text())["protocol"]["horizon"] == 2
    card = (folder / "README.md").read_text()
    assert "## Protocol" in card
    assert "- horizon: 2" in card
    assert "| copy-last |" in card


def test_what_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder; choose another --out"):
        export(open_run(copy_run()), tmp_path)
    with pytest.raises(UserError, match="not an empty folder"):
        export(open_run(copy_run()), tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("framecast.export.write_weights", full)
    with pytest.raises(UserError, match="No space left on device"):
        export(open_run(tiny_run()), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
