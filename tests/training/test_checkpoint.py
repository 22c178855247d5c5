"""Checkpoints and snapshots: whole or not at all, and every damage is a sentence."""

import json
import os
import signal
import zipfile

import numpy as np
import pytest
import torch
from small_models import Group, Plain, advance, build, forked, same, weights
from torch import nn

from framecast.core.errors import UserError
from framecast.core.types import FORMAT
from framecast.training.checkpoint import (
    check_format,
    load_checkpoint,
    load_matching,
    load_weights,
    restore,
    save_checkpoint,
    save_snapshot,
    snapshots,
    write_weights,
)
from framecast.training.state import TrainState


@pytest.fixture
def state():
    made = TrainState.create(build(Group))
    advance(made, 2)
    return made


def test_loaded_state_equals_saved_state(state, tmp_path):
    path = save_checkpoint(tmp_path, state)
    assert (
        {p.name for p in tmp_path.iterdir()} == {path.name, "checkpoint.json"} == {"checkpoint.pt", "checkpoint.json"}
    )
    other = TrainState.create(build(Group, seed=1))
    assert restore(tmp_path, other)
    same(other.state_dict(), state.state_dict())


def test_folder_without_checkpoint_gives_none(state, tmp_path):
    assert load_checkpoint(tmp_path) is None
    before = weights(state.model)
    assert not restore(tmp_path, state)
    same(weights(state.model), before)


def harm(path, kind):
    whole = path.read_bytes()
    if kind == "cut in half":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "garbage":
        path.write_bytes(os.urandom(4096))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "other contents":
        torch.save([1, 2, 3], path)
    elif kind == "without format":
        torch.save({"step": 3}, path)


@pytest.mark.parametrize("kind", ["cut in half", "garbage", "empty", "text", "other contents", "without format"])
def test_damaged_checkpoint_is_one_sentence_with_a_fix(state, tmp_path, kind):
    path = save_checkpoint(tmp_path, state)
    harm(path, kind)
    with pytest.raises(UserError, match=r"checkpoint\.pt: the checkpoint is damaged .*--init-from") as error:
        load_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_damaged_newest_checkpoint_falls_back_to_the_one_before(state, tmp_path, capsys):
    save_checkpoint(tmp_path, state)
    before = load_checkpoint(tmp_path)
    advance(state, 1)
    path = save_checkpoint(tmp_path, state)
    assert load_checkpoint(tmp_path)["step"] == 3
    flip(path, path.stat().st_size // 2)
    same(load_checkpoint(tmp_path), before)
    assert "its checksum is wrong); resuming from the one before it, step 2" in capsys.readouterr().err
    path.unlink()
    same(load_checkpoint(tmp_path), before)
    assert "checkpoint.pt: is missing; resuming from the one before it" in capsys.readouterr().err
    flip(tmp_path / "checkpoint-previous.pt", 1000)
    with pytest.raises(UserError, match=r"checkpoint-previous\.pt: the checkpoint is damaged"):
        load_checkpoint(tmp_path)


def flip(path, at, bit=3):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["checkpoint.pt", "weights/step-2/model.safetensors"])
def test_every_flipped_bit_is_noticed(state, tmp_path, name):
    save_checkpoint(tmp_path, state)
    path = save_snapshot(tmp_path, state.ema, {}, 2) / "model.safetensors"
    load_weights(state.ema, path)
    whole = (tmp_path / name).read_bytes()
    for at in np.random.default_rng(0).integers(len(whole), size=40):
        (tmp_path / name).write_bytes(whole)
        flip(tmp_path / name, int(at), int(at) % 8)
        with pytest.raises(UserError, match="damaged"):
            load_checkpoint(tmp_path) if name == "checkpoint.pt" else load_weights(state.ema, path)


@pytest.mark.parametrize("number", range(4))
def test_a_kill_at_any_moment_of_a_save_leaves_a_valid_checkpoint(state, tmp_path, monkeypatch, number):
    """The kill comes before the replacement of checksums, of the previous checkpoint or of the newest one."""

    class Killed(BaseException):
        pass

    calls = []

    def replace(source, target):
        if len(calls) == number:
            raise Killed
        calls.append(target)
        os_replace(source, target)

    save_checkpoint(tmp_path, state)
    advance(state, 1)
    save_checkpoint(tmp_path, state)
    advance(state, 1)
    os_replace = os.replace
    monkeypatch.setattr(os, "replace", replace)
    if number < 3:
        with pytest.raises(Killed):
            save_checkpoint(tmp_path, state)
    else:
        save_checkpoint(tmp_path, state)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["step"] == (4 if number == 3 else 3)
    (tmp_path / "checkpoint.pt").unlink()
    assert load_checkpoint(tmp_path)["step"] == (2 if number < 2 else 3)


def test_links_in_place_of_temporary_files_are_not_followed(state, tmp_path):
    (tmp_path / "secret").write_text("mine")
    run = tmp_path / "run"
    run.mkdir()
    for name in (
        ".checkpoint.pt.tmp",
        ".config.json.part",
        "checkpoint.pt",
        "checkpoint-previous.pt",
        "checkpoint.json",
    ):
        (run / name).symlink_to(tmp_path / "secret")
    save_checkpoint(run, state)
    save_checkpoint(run, state)
    assert (tmp_path / "secret").read_text() == "mine"
    assert load_checkpoint(run)["step"] == 2
    assert not (run / ".checkpoint.pt.tmp").is_symlink()


def test_files_of_an_older_version_open_with_a_note(state, tmp_path, capsys):
    save_checkpoint(tmp_path, state)
    path = save_snapshot(tmp_path, state.ema, {}, 2) / "model.safetensors"
    (tmp_path / "checkpoint.json").unlink()
    (path.parent / "checksums.json").unlink()
    assert load_checkpoint(tmp_path)["step"] == 2
    load_weights(state.ema, path)
    notes = capsys.readouterr().err.splitlines()
    assert [str(n).startswith("note: ") and "has no checksum" in n for n in notes] == [True, True]


def test_compressed_checkpoints_are_refused(state, tmp_path):
    path = save_checkpoint(tmp_path, state)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "new", "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
    (tmp_path / "new").replace(path)
    (tmp_path / "checkpoint.json").unlink()
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(tmp_path)


def test_weights_have_the_mode_of_other_files(state, tmp_path):
    folder = save_snapshot(tmp_path, state.ema, {}, 2)
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1


def test_loading_executes_no_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made-by-loading"),)

    torch.save({"format": FORMAT, "step": Harmful()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "made-by-loading").exists()


def test_newer_format_is_refused(state, tmp_path):
    torch.save({**state.state_dict(), "format": FORMAT + 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=rf"is of format {FORMAT + 1}, this version knows up to {FORMAT}; upgrade"):
        load_checkpoint(tmp_path)
    for number in (None, "1", True, 0):
        with pytest.raises(UserError, match="no valid format number"):
            check_format(number, tmp_path)


def test_checkpoint_of_another_model_is_refused(state, tmp_path):
    save_checkpoint(tmp_path, state)
    with pytest.raises(UserError, match=r"does not fit this model .*--overwrite"):
        restore(tmp_path, TrainState.create(build(Plain)))


def test_full_disk_is_one_sentence_and_keeps_previous_files(state, tmp_path):
    resource = pytest.importorskip("resource", reason="no limit on file sizes here")
    save_checkpoint(tmp_path, state)
    save_snapshot(tmp_path, state.ema, {}, 2)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        match = r"checkpoint\.pt: the checkpoint could not be written .*the previous one is intact"
        with pytest.raises(UserError, match=match):
            save_checkpoint(tmp_path, state)
        with pytest.raises(UserError, match="step-9: the weights could not be written"):
            save_snapshot(tmp_path, state.ema, {}, 9)

    process = forked(fill)  # the limit cannot be lifted again
    process.join()
    assert process.exitcode == 0
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    other = TrainState.create(build(Group, seed=1))
    assert restore(tmp_path, other)
    same(other.state_dict(), state.state_dict())


def test_failed_write_keeps_the_previous_checkpoint(state, tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(data, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        UserError, match=r"could not be written \(No space left on device\); the previous one is intact"
    ):
        save_checkpoint(tmp_path, state)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "checkpoint.json"}


def test_last_snapshots_are_kept_in_order_of_steps(state, tmp_path):
    for step in (2, 9, 10, 100):
        save_snapshot(tmp_path, state.ema, {"step": step}, step, keep=2)
    assert [p.name for p in snapshots(tmp_path)] == ["step-10", "step-100"]
    (tmp_path / "weights" / "step-notes").mkdir()
    (tmp_path / "weights" / ".step-11.tmp").mkdir()  # left by a kill
    save_snapshot(tmp_path, state.ema, {"step": "again"}, 100, keep=2)
    assert [p.name for p in snapshots(tmp_path)] == ["step-10", "step-100"]
    assert json.loads((snapshots(tmp_path)[-1] / "config.json").read_text()) == {"step": "again"}
    assert not list((tmp_path / "weights").glob(".*"))


def test_half_precision_weights_are_widened(state, tmp_path):
    write_weights(tmp_path, state.model, {}, half=True)
    other = build(Group, seed=1)
    load_weights(other, tmp_path / "model.safetensors")
    for name, value in other.state_dict().items():
        assert value.dtype == state.model.state_dict()[name].dtype
        torch.testing.assert_close(value, state.model.state_dict()[name], rtol=1e-3, atol=1e-3)


def test_matching_tensors_are_loaded_and_counted(state, tmp_path):
    class Wider(Group):
        def __init__(self, config, spec):
            super().__init__(config, spec)
            self.predictor, self.extra = nn.Conv2d(4, 2, 1), nn.Linear(2, 2)

    write_weights(tmp_path, state.model, {})
    model = build(Wider, seed=1)
    before = weights(model)
    filled = load_matching(model, tmp_path / "model.safetensors")
    assert filled == len(state.model.state_dict()) - 2
    assert torch.equal(model.encoder[0].weight, state.model.encoder[0].weight)
    for name in ("predictor.weight", "extra.weight"):
        assert torch.equal(model.state_dict()[name], before[name])


@pytest.mark.parametrize("load", [load_weights, load_matching])
def test_invalid_weights_files_are_refused(state, tmp_path, load):
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="the weights file is missing"):
        load(state.model, path)
    write_weights(tmp_path, state.model, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="the weights file is damaged"):
        load(state.model, path)
    write_weights(tmp_path, nn.Linear(2, 2), {})
    with pytest.raises(UserError, match=r"do not fit the model|no tensor fits the model"):
        load(state.model, path)
