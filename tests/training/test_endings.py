"""Ends and beginnings of runs: kills between checkpoint and snapshot, half-made folders, two writers."""

import pytest
import torch
from small_models import Plain, TwoStage, rows_of, same_run, small_config, write_store

from framecast.core.errors import UserError
from framecast.core.lease import Held, one_writer
from framecast.core.types import Loss
from framecast.training import trainer as trainer_module
from framecast.training.checkpoint import finished_step
from framecast.training.train import train


class Late(TwoStage):
    """The validation loss of the first stage is lowest at step 5."""

    def vision_loss(self, batch, step):
        found = super().vision_loss(batch, step)
        return found if self.training else Loss(torch.tensor(float(abs(step - 5))), found.parts)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "grey")


def weights_of(folder):
    return {p.parent.name: p.read_bytes() for p in folder.rglob("model.safetensors")}


@pytest.mark.parametrize("moment", ["save_snapshot", "write_image", "write_finished"])
def test_a_kill_after_the_last_checkpoint_does_not_change_the_end(grey, tmp_path, monkeypatch, moment):
    """The final validation of a stage with patience chooses the weights; it is repeated."""

    def go(out):
        config = small_config(Late, steps=5, validate_every=2, stage_steps=None, patience=9)
        return train(Late, grey, out=out, config=config, quiet=True)

    whole = go(tmp_path / "whole")
    with monkeypatch.context() as patch:

        def kill(*_, **__):
            raise Killed

        patch.setattr(trainer_module, moment, kill)
        with pytest.raises(Killed):
            go(tmp_path / "killed")
    again = go(tmp_path / "killed")
    same_run(whole, again)
    assert weights_of(again) == weights_of(whole)
    assert sum(bool(r.get("last")) for r in rows_of(again)) == sum(bool(r.get("last")) for r in rows_of(whole)) == 1
    assert {p.name for p in (again / "previews").iterdir()} == {p.name for p in (whole / "previews").iterdir()}


def test_finished_run_is_left_unchanged_by_the_same_command(grey, tmp_path):
    config = small_config(Plain, steps=2)
    run = train(Plain, grey, out=tmp_path / "run", config=config, quiet=True)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.rglob("*.pt")}
    train(Plain, grey, out=run, config=config, quiet=True)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.rglob("*.pt")} == before


def test_folder_with_only_an_unfinished_config_is_used(grey, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.part").write_text("{")
    train(Plain, grey, out=tmp_path / "run", config=small_config(Plain, steps=1), quiet=True)
    assert not (tmp_path / "run" / ".config.json.part").exists()
    assert not (tmp_path / "run" / ".lock").exists()


def test_overwrite_killed_at_any_moment_can_be_repeated(grey, tmp_path, monkeypatch):
    go = dict(config=small_config(Plain, steps=1), quiet=True, overwrite=True)
    run = train(Plain, grey, out=tmp_path / "run", **go)
    import framecast.training.train as module

    with monkeypatch.context() as patch:

        def kill(*_):
            raise Killed

        patch.setattr(module, "write_config", kill)
        with pytest.raises(Killed):
            train(Plain, grey, out=run, **go)
    assert (run / "config.json").is_file()
    train(Plain, grey, out=run, **go)
    assert not [p for p in run.iterdir() if p.name.startswith(".")]


def test_second_process_on_a_run_is_refused_with_the_first(grey, tmp_path):
    run = train(Plain, grey, out=tmp_path / "run", config=small_config(Plain, steps=1), quiet=True)
    with (
        one_writer(run / ".lock", "this run"),
        pytest.raises(Held, match=r"run: process \d+ on .* is writing this run"),
    ):
        train(Plain, grey, out=run, config=small_config(Plain, steps=2), quiet=True)


def test_refused_start_removes_the_folder_that_it_made(grey, tmp_path):
    with pytest.raises(UserError, match="no length of training"):
        train(Plain, grey, out=tmp_path / "a" / "run", config=small_config(Plain), quiet=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"order": "shards", "shuffle_shards": 0}, r"--train.shuffle-shards must be at least 1, got 0"),
        ({"order": "shards"}, r"--train.order shards is for packed stores of format 2"),
    ],
)
def test_refused_order_of_clips_leaves_no_folder_so_that_a_corrected_command_starts(grey, tmp_path, settings, sentence):
    def start(**order):
        return train(Plain, grey, out=tmp_path / "run", config=small_config(Plain, steps=1, **order), quiet=True)

    with pytest.raises(UserError, match=sentence):
        start(**settings)
    assert list(tmp_path.iterdir()) == []
    assert finished_step(start(order="epoch")) == 1
