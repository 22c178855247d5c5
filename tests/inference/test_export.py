"""Exported weights: files, loading, and no trace of the machine that wrote them."""

import errno
import json
import shutil

import pytest
import torch
from cli_support import copy_run, done, mine, store, tiny_run  # noqa: F401
from test_models_contract import build, moving_blobs

import framecast
from framecast.core.errors import UserError
from framecast.evaluation.evaluate import evaluate
from framecast.inference.export import export, from_pretrained, save_pretrained
from framecast.models import MODELS
from framecast.models.base import count_parameters
from framecast.models.registry import find_model
from framecast.training.run_folder import open_run


def future(run):
    context = torch.rand(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return framecast.load(run).predict(context, 2)


def test_the_export_predicts_what_the_run_predicts(tmp_path):
    folder = export(open_run(tiny_run()), tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "checksums.json",
        "config.json",
        "model.safetensors",
    ]
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
    assert "float32" in card
    assert "| copy-last |" in card


def test_existing_files_are_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder; choose another --out"):
        export(open_run(copy_run()), tmp_path)
    with pytest.raises(UserError, match="not an empty folder"):
        export(open_run(copy_run()), tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("framecast.inference.export.write_weights", full)
    with pytest.raises(UserError, match="No space left on device"):
        export(open_run(tiny_run()), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------- from Python, and lean


@pytest.mark.parametrize("name", MODELS)
def test_every_model_reloads_identically_offline(name, tmp_path):
    model = build(name).eval()
    folder = save_pretrained(model, tmp_path / "out")
    again = from_pretrained(folder)
    batch = moving_blobs(model, b=1)
    actions = model.batch_actions(batch, 1)
    want, got = (
        m.predict(batch.context, 1, actions=actions, generator=torch.Generator().manual_seed(0)) for m in (model, again)
    )
    assert torch.equal(want, got)
    assert again.config == model.config
    assert again.spec.actions == model.spec.actions
    assert open_run(folder).config.name in MODELS


def test_half_precision_is_widened_when_it_is_loaded(tmp_path):
    folder = save_pretrained(tiny_run(), tmp_path / "half", half=True)
    assert {p.dtype for p in from_pretrained(folder).parameters()} == {torch.float32}
    assert "float16 on disk and widened" in (folder / "README.md").read_text()


def test_inference_only_weights_predict_the_same(tmp_path):
    whole, inference_only = (
        save_pretrained(tiny_run(), tmp_path / str(inference_only), inference_only=inference_only)
        for inference_only in (False, True)
    )
    assert set(count_parameters(from_pretrained(whole))) == {"generator", "discriminator"}
    assert set(count_parameters(from_pretrained(inference_only))) == {"generator"}
    assert torch.equal(future(inference_only), future(whole))
    assert (inference_only / "model.safetensors").stat().st_size < (whole / "model.safetensors").stat().st_size
    again = save_pretrained(inference_only, tmp_path / "again", inference_only=True)  # nothing left to leave out
    assert torch.equal(future(again), future(inference_only))


def test_export_keeps_training_steps_and_time(tmp_path):
    run = shutil.copytree(tiny_run(), tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"step": 1, "seconds": 300.5}\n{"step": 2, "val/loss": 1}\n')
    folder = save_pretrained(run, tmp_path / "out")
    assert open_run(folder).trained == open_run(run).trained == (2, 300.5)
    assert "for 2 steps, 5 minutes" in (folder / "README.md").read_text()
    assert open_run(save_pretrained(folder, tmp_path / "again")).trained == (2, 300.5)


def test_export_of_a_custom_model_loads_with_its_class(tmp_path):
    model_class = find_model(f"{mine(tmp_path)}:Mine")
    model = model_class(model_class.Config(), framecast.load(tiny_run()).spec)
    folder = save_pretrained(model, tmp_path / "out")
    with pytest.raises(UserError, match="belongs to the outside model"):
        from_pretrained(folder)
    assert from_pretrained(folder, model=model_class).gain == 1


def test_hub_names_open_cached_weights(tmp_path, monkeypatch):
    """The hub's own cache, laid out as it does, without a network: a revision by name."""
    snapshot = tmp_path / "models--somebody--clips" / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    save_pretrained(tiny_run(), snapshot)
    refs = tmp_path / "models--somebody--clips" / "refs"
    refs.mkdir()
    for name in ("main", "v1"):
        (refs / name).write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("hf://somebody/clips", "hf://somebody/clips@v1"):
        assert torch.equal(future(name), future(tiny_run()))
    with pytest.raises(UserError, match="hf://somebody/clips@v2: cannot be fetched"):
        from_pretrained("hf://somebody/clips@v2")


def test_command_writes_the_same_as_the_function(done, tmp_path):  # noqa: F811
    result = done("export", tiny_run(), "--out", tmp_path / "out", "--half", "--inference-only")
    assert str(tmp_path / "out") in result
    want = save_pretrained(tiny_run(), tmp_path / "python", half=True, inference_only=True)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (want / "model.safetensors").read_bytes()
