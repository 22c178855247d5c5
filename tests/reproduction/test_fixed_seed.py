"""The comparison of fixed-seed runs sees what differs, and the stored file covers every trained model."""

import json

import torch
from safetensors.torch import save_file

from framecast.models import MODELS, UNTRAINED
from reproduction import fixed_seed


def run_folder(folder, loss=0.5, weight=1.0, phase="generator"):
    snapshot = folder / "weights" / f"step-{fixed_seed.STEPS}"
    snapshot.mkdir(parents=True)
    save_file({"a": torch.full((2,), weight)}, snapshot / "model.safetensors")
    rows = [{"step": 49, "seconds": 1.0, f"{phase}/total": 1.0}, {"step": 50, "seconds": 2.0, f"{phase}/total": loss}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_a_run_is_summarised_by_its_last_losses_and_digests(tmp_path):
    found = fixed_seed.summary(run_folder(tmp_path / "a"))
    assert found["last"] == {"generator": 0.5}
    assert fixed_seed.differences({"x": found}, {"x": fixed_seed.summary(run_folder(tmp_path / "b"))}) == []


def test_another_loss_or_another_weight_differs(tmp_path):
    stored = {"x": fixed_seed.summary(run_folder(tmp_path / "a"))}
    for name, changed in {"b": {"loss": 0.5000001}, "c": {"weight": 1.0000001}}.items():
        found = {"x": fixed_seed.summary(run_folder(tmp_path / name, **changed))}
        assert fixed_seed.differences(found, stored) == ["x"]
    assert fixed_seed.differences({"y": stored["x"]}, stored) == ["y"]


def test_runs_of_renamed_phases_compare(tmp_path):
    old, new = (fixed_seed.summary(run_folder(tmp_path / phase, phase=phase)) for phase in ("fool", "generator"))
    assert old == new


def test_the_stored_file_covers_every_trained_model():
    stored = json.loads(fixed_seed.STORED.read_text(encoding="utf-8"))["runs"]
    trained = set(MODELS) - set(UNTRAINED)
    assert trained == set(fixed_seed.MODELS)
    assert set(stored) == {f"{model}:{profile}" for model in trained for profile in fixed_seed.PROFILES}
