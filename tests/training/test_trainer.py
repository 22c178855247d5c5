"""Training runs: resuming, kills and signals, unusable folders, two processes."""

import dataclasses
import functools
import json
import os
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_models import (
    CPU,
    Acting,
    Group,
    Noisy,
    Plain,
    TwoStage,
    forked,
    rows_of,
    same,
    same_run,
    small_config,
    torchrun,
    write_store,
)

import framecast
from framecast import cli
from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.core.schedules import Cosine
from framecast.core.types import Loss, Optimiser, StopCondition
from framecast.data.store import DatasetWriter, Store
from framecast.media.video import read_video
from framecast.models.baselines import CopyLast
from framecast.models.direct.predictor import Direct
from framecast.training.checkpoint import CHECKPOINT_SUMS, load_checkpoint, snapshots
from framecast.training.config import resolve_length
from framecast.training.device import Device
from framecast.training.log import read_metrics
from framecast.training.presets import preset
from framecast.training.signals import Interrupted, Signals
from framecast.training.state import TrainState
from framecast.training.step import NotFinite
from framecast.training.train import settle, train
from framecast.training.trainer import Trainer


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "grey")


@pytest.fixture(scope="module")
def acting(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "acting", actions=True)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "colour", side=40, channels=3, frames=20)


def run(model_class, data, out, **settings):
    return train(model_class, data, out=out, config=small_config(model_class, **settings), quiet=True)


GAN = functools.partial(
    train,
    "multiscale-gan",
    profile="tiny",
    quiet=True,
    precision="fp32",
    stats_every=1,
    validate_every=3,
    save_every=4,
    tensorboard=False,
)


# ------------------------------------------------------------------------------------------- resumed = unbroken


def test_resumed_adversarial_run_equals_unbroken_run(colour, tmp_path):
    unbroken = GAN(data=colour, out=tmp_path / "unbroken", steps=9)
    for steps in (2, 5, 9):
        stopped = GAN(data=colour, out=tmp_path / "stopped", steps=steps)
    same_run(unbroken, stopped)
    names = set(rows_of(unbroken)[0])
    assert {"generator/total", "discriminator/total"} <= names
    assert set(load_checkpoint(unbroken)["optimisers"]) == {"generator", "discriminator"}
    assert read_file(stopped / "config.json")["train"]["steps"] == 9


def test_a_snapshot_that_could_not_be_written_is_made_by_the_resumed_run(grey, tmp_path, monkeypatch):
    whole = run(Plain, grey, tmp_path / "whole", steps=6, save_every=2)

    def full(*arguments, **settings):
        raise UserError("the weights could not be written (No space left on device)")

    with monkeypatch.context() as disk:
        disk.setattr("framecast.training.trainer.save_snapshot", full)
        with pytest.raises(UserError, match="No space left"):
            run(Plain, grey, tmp_path / "stopped", steps=6, save_every=2)
    stopped = run(Plain, grey, tmp_path / "stopped", steps=6, save_every=2)
    assert [path.name for path in snapshots(stopped)] == ["step-2", "step-4", "step-6"]
    for one, other in zip(snapshots(whole), snapshots(stopped), strict=True):
        same(load_file(one / "model.safetensors"), load_file(other / "model.safetensors"))


def test_calibration_on_validation_clips_is_in_the_snapshot_and_not_in_the_state(tmp_path):
    with DatasetWriter(tmp_path / "still", fps=10) as writer:
        for seed in range(3):
            frame = np.random.default_rng(seed).integers(256, size=(1, 3, 24, 24), dtype=np.uint8)
            writer.add(np.repeat(frame, 20, 0))
    short = functools.partial(train, "direct", data=Store(tmp_path / "still"), profile="tiny", quiet=True)
    folder = short(out=tmp_path / "run", steps=4, validate_every=2, tensorboard=False)
    shares = load_file(folder / "weights" / "step-4" / "model.safetensors")["shares"]
    assert shares.shape == (4,)
    assert ((shares > 0) & (shares < 1)).all()  # nothing moves there: every predicted change is wrong
    assert torch.equal(load_checkpoint(folder)["ema"]["shares"], torch.ones(4))


def test_a_run_that_stops_early_where_it_is_saved_is_calibrated_too(tmp_path, monkeypatch):
    monkeypatch.setattr("framecast.training.trainer.Trainer._validate", lambda *_, **__: True)  # impatient at once
    data = str(tmp_path / "still")
    with DatasetWriter(data, fps=10) as writer:
        for seed in range(3):
            frame = np.random.default_rng(seed).integers(256, size=(1, 3, 24, 24), dtype=np.uint8)
            writer.add(np.repeat(frame, 20, 0))
    folder = train(
        "direct",
        data=data,
        out=tmp_path / "run",
        profile="tiny",
        steps=9,
        validate_every=4,
        tensorboard=False,
        quiet=True,
    )
    made = sorted(path.name for path in (folder / "weights").iterdir())
    assert made == ["step-4"]
    shares = load_file(folder / "weights" / "step-4" / "model.safetensors")["shares"]
    assert ((shares > 0) & (shares < 1)).all()  # nothing moves there: every predicted change is wrong


def test_a_run_killed_while_it_is_calibrated_equals_an_unbroken_run(colour, tmp_path, monkeypatch):
    short = functools.partial(
        train, "direct", data=colour, profile="tiny", steps=4, validate_every=2, quiet=True, tensorboard=False
    )
    with monkeypatch.context() as patch:
        patch.setattr("framecast.training.trainer.calibrated", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            short(out=tmp_path / "killed")
    files = [short(out=tmp_path / name) / "weights" / "step-4" / "model.safetensors" for name in ("killed", "unbroken")]
    same(*(load_file(file) for file in files))


@pytest.mark.parametrize("at", [4, 6, 7, 8])
def test_run_resumed_around_a_stage_border_equals_unbroken_run(grey, tmp_path, at):
    unbroken = run(TwoStage, grey, tmp_path / "unbroken", steps=10, validate_every=4)
    run(TwoStage, grey, tmp_path / "stopped", steps=at, validate_every=4)
    same_run(unbroken, run(TwoStage, grey, tmp_path / "stopped", steps=10, validate_every=4))
    stages = [row["stage"] for row in rows_of(unbroken) if "val/loss" not in row]
    assert stages == ["vision"] * 6 + ["memory"] * 4


@pytest.mark.parametrize(("model_class", "actions"), [(Acting, True), (Noisy, False), (Group, False)])
def test_resumed_noise_statistics_and_rare_phases_equal_unbroken_run(grey, acting, tmp_path, model_class, actions):
    data = acting if actions else grey
    unbroken = run(model_class, data, tmp_path / "unbroken", steps=8, order="epoch")
    run(model_class, data, tmp_path / "stopped", steps=4, order="epoch")
    same_run(unbroken, run(model_class, data, tmp_path / "stopped", steps=8, order="epoch"))


class Overfit(TwoStage):
    """Validation of the first stage gets worse from the third validation on."""

    def vision_loss(self, batch, step):
        found = super().vision_loss(batch, step)
        return found if self.training else Loss(torch.tensor(float(abs(step - 4))), found.parts)


def test_patience_ends_a_stage_with_its_best_weights_and_their_latents(grey, tmp_path):
    seen = {}

    def build(out, steps, **settings):
        config = small_config(Overfit, stage_steps=None, patience=2, steps=steps, validate_every=2, **settings)
        return train(Overfit, grey, out=out, config=config, quiet=True)

    unbroken = build(tmp_path / "unbroken", 12)
    rows = rows_of(unbroken)
    assert [r["step"] for r in rows if "val/loss" in r and r["stage"] == "vision"] == [2, 4, 6, 8]
    assert [r["stage"] for r in rows if r["step"] == 9] == ["memory"]
    border = load_file(unbroken / "weights" / "step-8" / "model.safetensors")
    best = load_file(build(tmp_path / "best", 4) / "weights" / "step-4" / "model.safetensors")
    same(border, best)
    model = framecast.load(unbroken / "weights" / "step-8", model=Overfit)
    latents = np.load(unbroken / "latents" / "memory" / "z-1.npy")
    assert latents.shape == (24, 6)
    frames = torch.from_numpy(np.array(grey.clip(1, 0, 24).frames))[None].float() / 255
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(latents), model.encode(frames)[0])
    for steps in (7, 8, 10, 12):
        seen[steps] = build(tmp_path / "stopped", steps)
    same_run(unbroken, seen[12])


def test_ended_last_stage_is_not_resumed(grey, tmp_path):
    class Short(Plain):
        def stages(self):
            (stage,) = super().stages()
            return [dataclasses.replace(stage, until=dataclasses.replace(stage.until, steps=3))]

    config = small_config(Short, steps=10)
    folder = train(Short, grey, out=tmp_path / "run", config=config, quiet=True)
    before = load_checkpoint(folder)
    assert (before["step"], before["ended"]) == (3, True)
    train(Short, grey, out=folder, config=config, quiet=True)
    same(load_checkpoint(folder), before)


def test_snapshot_has_the_best_weights_of_a_stage_with_patience(grey, tmp_path, monkeypatch):
    class Patient(TwoStage):
        def stages(self):
            first, second = super().stages()
            return [first, dataclasses.replace(second, until=StopCondition(patience=9))]

    losses = iter([3.0, 1.0, 2.0, 5.0, 4.0])
    seen = []

    def validate(state, *rest):
        seen.append({k: v.clone() for k, v in state.ema.state_dict().items()})
        return {"val/loss": next(losses)}

    monkeypatch.setattr("framecast.training.trainer.validate", validate)
    config = small_config(Patient, steps=10, validate_every=2, stage_steps=2)
    train(Patient, grey, config=config, out=tmp_path / "run", quiet=True)
    kept = load_file(tmp_path / "run" / "weights" / "step-10" / "model.safetensors")
    # the first validation closes the first stage; of the second stage's, the first was the best
    assert all(torch.equal(kept[name], value) for name, value in seen[1].items())
    assert any(not torch.equal(kept[name], value) for name, value in seen[-1].items())


class Patient(Plain):
    """Keeps the best weights of its only stage."""

    def stages(self):
        (stage,) = super().stages()
        return [dataclasses.replace(stage, until=dataclasses.replace(stage.until, patience=9))]


def test_last_weights_are_validated_before_the_best_are_selected(grey, tmp_path, monkeypatch):
    losses = {2: 3.0, 4: 2.0, 5: 1.0}

    def validate(state, *rest):
        return {"val/loss": losses[state.step]}

    monkeypatch.setattr("framecast.training.trainer.validate", validate)
    last = {}
    for value in (1.0, 9.0):
        losses[5] = value
        config = small_config(Patient, steps=5, validate_every=2, save_every=2, keep=9)
        folder = train(Patient, grey, config=config, out=tmp_path / str(value), quiet=True)
        last[value] = load_file(folder / "weights" / "step-5" / "model.safetensors")
        assert [r["val/loss"] for r in rows_of(folder) if "val/loss" in r] == [3.0, 2.0, value]
        train(Patient, grey, config=config, out=folder, quiet=True)  # again: nothing is left to do
        assert [r["val/loss"] for r in rows_of(folder) if "val/loss" in r] == [3.0, 2.0, value]
    same(last[9.0], load_file(tmp_path / "9.0" / "weights" / "step-4" / "model.safetensors"))
    assert any(not torch.equal(last[1.0][name], weights) for name, weights in last[9.0].items())


def test_final_validation_does_not_affect_a_resumed_run(grey, tmp_path):
    unbroken = run(Patient, grey, tmp_path / "unbroken", steps=8, validate_every=3)
    run(Patient, grey, tmp_path / "stopped", steps=4, validate_every=3)
    same_run(unbroken, run(Patient, grey, tmp_path / "stopped", steps=8, validate_every=3))


def test_stage_with_a_step_limit_is_validated_at_its_end(grey, tmp_path):
    class Both(TwoStage):
        def stages(self):
            first, second = super().stages()
            return [dataclasses.replace(first, until=StopCondition(steps=3, patience=9)), second]

    folder = train(Both, grey, config=small_config(Both, steps=6, validate_every=2), out=tmp_path / "run", quiet=True)
    assert [(r["step"], r["stage"]) for r in rows_of(folder) if "val/loss" in r][:2] == [(2, "vision"), (3, "vision")]


def test_model_is_initialized_from_a_batch_once(grey, tmp_path):
    batches = []

    class Recording(Plain):
        def initialize_from_batch(self, batch):
            batches.append(batch.context.shape[0])
            self.net.bias.fill_(0.25)

    config = small_config(Recording, steps=1, lr=0.0)
    first = train(Recording, grey, config=config, out=tmp_path / "a", quiet=True)
    assert batches == [config.train.batch_size]
    kept = load_file(first / "weights" / "step-1" / "model.safetensors")
    assert (kept["net.bias"] == 0.25).all()
    train(Recording, grey, config=config, out=tmp_path / "a", quiet=True, steps=2)  # resumes
    train(Recording, grey, config=config, out=tmp_path / "b", quiet=True, init_from=first)
    assert len(batches) == 1


def test_initialization_batch_has_standardised_actions(tmp_path):
    batches = []

    class Recording(Acting):
        def initialize_from_batch(self, batch):
            batches.append(batch.actions)

    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "arm") as writer:
        for _ in range(3):
            moves = 100 + rng.normal(size=(24, 2)).astype(np.float32)
            writer.add(rng.integers(0, 256, (24, 1, 12, 12), np.uint8), actions=moves)
    run(Recording, Store(tmp_path / "arm"), tmp_path / "run", steps=1)
    assert batches[0].abs().max() < 5


def test_final_videos_show_the_longest_held_out_segment(grey, tmp_path):
    class Showing(Plain):
        def final_videos(self, frames, actions=None):
            assert frames.min() >= 0
            return {"negative": 1 - frames}

    run = train(Showing, grey, config=small_config(Showing, steps=1), out=tmp_path / "run", quiet=True)
    film = read_video(run / "final_videos" / "negative.gif")
    longest = max(s.stop - s.start for s in grey.splits(3)["val"])
    assert len(film.frames) == longest
    assert film.fps == pytest.approx(grey.spec.fps, rel=0.02)


def test_run_may_end_with_a_stage(grey, tmp_path):
    class Patient(TwoStage):
        def stages(self):
            first, second = super().stages()
            return [first, dataclasses.replace(second, until=StopCondition(patience=3))]

    folder = run(Patient, grey, tmp_path / "run", steps=3, stage_steps=3)
    assert (load_checkpoint(folder)["stage"], load_checkpoint(folder)["stage_step"]) == (1, 0)
    run(Patient, grey, folder, steps=5, stage_steps=3)
    assert load_checkpoint(folder)["stage_step"] == 2


class Clock:
    """A clock that advances by 0.25 s at every reading, in place of `time` in the trainer."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr("framecast.training.trainer.time", self)

    def monotonic(self):
        self.now += 0.25
        return self.now

    def __getattr__(self, name):
        return getattr(time, name)


def test_processes_agree_on_the_time_by_one_collective_per_step(grey, tmp_path, monkeypatch):
    """A collective operation that only one process calls would block it forever."""
    asked = []

    class Slow(Device):
        def maximum(self, value):
            asked.append(value)
            return value + 1.0  # the other process is a second behind

        def any(self, flag):
            return flag

    Clock(monkeypatch)
    config = settle(small_config(Plain, budget="10s"), grey, Plain)
    state = TrainState.create(Plain(config.model, config.spec))
    Trainer(config, grey, tmp_path, Slow(CPU.device), state, quiet=True).run()
    assert state.seconds >= 10
    assert state.seconds == asked[-1] + 1.0
    assert len(asked) == state.step


def test_fractions_divide_a_run_among_its_stages(grey, tmp_path):
    class Shared(TwoStage):
        def stages(self):
            first, second = super().stages()
            return [
                dataclasses.replace(first, until=dataclasses.replace(first.until, steps=None, max_fraction=0.3)),
                second,
            ]

    config = small_config(Shared, steps=10)
    rows = rows_of(train(Shared, grey, out=tmp_path / "run", config=config, quiet=True))
    assert [r["stage"] for r in rows] == ["vision"] * 3 + ["memory"] * 7


class Scheduled(TwoStage):
    """AdamW with warm-up and cosine in both stages; `seen` has stage, step, elapsed share of the loss and rate."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.seen = []

    def noted(self, stage, loss):
        def call(batch, step):
            if self.training:
                self.seen.append((stage, step, batch.elapsed))
            return loss(batch, step)

        return call

    def stages(self):
        optimiser = Optimiser(kind="adamw", lr=0.1, warmup=3, schedule=Cosine(), weight_decay=0.1)
        return [
            dataclasses.replace(
                stage,
                phases=[
                    dataclasses.replace(p, optimiser=optimiser, loss=self.noted(stage.name, p.loss))
                    for p in stage.phases
                ],
            )
            for stage in super().stages()
        ]


def trained(model_class, data, out, monkeypatch, **settings):
    """The trained model and its run folder."""
    models = []
    original = TrainState.create.__func__

    def create(cls, *arguments):
        state = original(cls, *arguments)
        models.append(state)
        return state

    monkeypatch.setattr(TrainState, "create", classmethod(create))
    folder = run(model_class, data, out, **settings)
    return models[-1], folder


def test_loss_and_rate_know_the_elapsed_share_of_the_stage(grey, tmp_path, monkeypatch):
    state, _ = trained(Scheduled, grey, tmp_path / "run", monkeypatch, steps=10, stage_steps=4)
    assert state.model.seen == [
        *(("vision", k, k / 4) for k in range(4)),
        *(("memory", k, pytest.approx(k / 6)) for k in range(6)),
    ]
    rate = state.optimisers["memory"].param_groups[0]["lr"]
    assert rate == pytest.approx(0.1 * Cosine()(5 / 6))


def test_share_of_a_stage_with_a_fraction_ends_at_the_fraction(grey, tmp_path, monkeypatch):
    class Shared(Scheduled):
        def stages(self):
            first, second = super().stages()
            return [dataclasses.replace(first, until=StopCondition(max_fraction=0.4)), second]

    state, _ = trained(Shared, grey, tmp_path / "run", monkeypatch, steps=10)
    assert [share for stage, _, share in state.model.seen if stage == "vision"] == pytest.approx([0, 0.25, 0.5, 0.75])
    assert [share for stage, _, share in state.model.seen if stage == "memory"] == pytest.approx(np.arange(6) / 6)


@pytest.mark.parametrize("at", [2, 4, 7])
def test_resumed_schedule_equals_unbroken_schedule(grey, tmp_path, monkeypatch, at):
    settings = dict(steps=10, stage_steps=4)
    unbroken = run(Scheduled, grey, tmp_path / "unbroken", **settings)
    with monkeypatch.context() as patch:
        interrupt_when(patch, "_log_step", lambda trainer: trainer.state.step == at)
        with pytest.raises(Interrupted):
            run(Scheduled, grey, tmp_path / "stopped", **settings)
    assert load_checkpoint(tmp_path / "stopped")["step"] == at
    same_run(unbroken, run(Scheduled, grey, tmp_path / "stopped", **settings))


def test_schedule_under_a_budget_continues_where_the_run_stopped(grey, tmp_path, monkeypatch):
    class Timed(Plain):
        def phases(self):
            (phase,) = super().phases()
            return [dataclasses.replace(phase, optimiser=Optimiser(kind="adamw", lr=1.0, schedule=self.note))]

        def note(self, share):
            shares.append(share)
            return 1 - share

    shares = []
    Clock(monkeypatch)
    with monkeypatch.context() as patch:
        interrupt_when(patch, "_log_step", lambda trainer: trainer.state.step == 5)
        with pytest.raises(Interrupted):
            run(Timed, grey, tmp_path / "run", budget="10s")
    saved = load_checkpoint(tmp_path / "run")
    assert 0 < saved["seconds"] < 10
    assert shares[0] == 0
    before = len(shares)
    run(Timed, grey, tmp_path / "run", budget="10s")
    resumed = [share for share in shares[before:] if share]  # 0 where the optimiser is made, before it is restored
    assert resumed[0] == pytest.approx(saved["seconds"] / 10)
    assert shares[before - 1] < resumed[0]
    assert shares[:before] + resumed == sorted(shares[:before] + resumed)
    assert 0.9 < resumed[-1] < 1


def test_validation_knows_the_elapsed_share(grey, tmp_path):
    class Watching(Plain):
        def loss(self, batch, step=0):
            found = super().loss(batch, step)
            return found if self.training else Loss(torch.tensor(batch.elapsed), found.parts)

    folder = run(Watching, grey, tmp_path / "run", steps=4, validate_every=2)
    assert [r["val/loss"] for r in rows_of(folder) if "val/loss" in r] == [0.5, 1.0]


@pytest.mark.parametrize("select", ["loss", "skill"])
def test_selected_weights_are_saved_and_survive_a_resume(grey, tmp_path, select, monkeypatch):
    """The gradient is followed upwards from step 4 on, so that the best validation is not the last."""

    class Worse(Plain):
        def rate(self, step):
            return 0.05 if step < 4 else -0.05

    settings = dict(validate_every=2, select=select, select_horizon=3, keep=9, save_every=2, ema=0.0)
    unbroken = run(Worse, grey, tmp_path / "unbroken", steps=9, **settings)
    rows = [r for r in rows_of(unbroken) if "val/loss" in r]
    assert [r["step"] for r in rows] == [2, 4, 6, 8, 9]
    best = min(rows, key=lambda r: r["val/loss"] if select == "loss" else -r["val/skill"])["step"]
    assert best == 4
    kept = load_file(unbroken / "weights" / "step-9" / "model.safetensors")
    same(kept, load_file(unbroken / "weights" / f"step-{best}" / "model.safetensors"))
    assert any(not torch.equal(v, kept[k]) for k, v in load_checkpoint(unbroken)["ema"].items())
    with monkeypatch.context() as patch:
        interrupt_when(patch, "_log_step", lambda trainer: trainer.state.step == 5)
        with pytest.raises(Interrupted):
            run(Worse, grey, tmp_path / "stopped", steps=9, **settings)
    assert load_checkpoint(tmp_path / "stopped")["best_weights"] is not None
    stopped = run(Worse, grey, tmp_path / "stopped", steps=9, **settings)
    same_run(unbroken, stopped)
    same(load_file(stopped / "weights" / "step-9" / "model.safetensors"), kept)


def test_last_weights_are_saved_by_default_and_skill_is_logged_on_request(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=2, validate_every=1, select_horizon=4)
    rows = [r for r in rows_of(folder) if "val/loss" in r]
    assert all(np.isfinite(r["val/skill"]) for r in rows)
    saved = load_checkpoint(folder)
    assert saved["best_weights"] is None
    same(load_file(folder / "weights" / "step-2" / "model.safetensors"), dict(saved["ema"]))
    plain = run(Plain, grey, tmp_path / "plain", steps=2, validate_every=1)
    assert all("val/skill" not in r for r in rows_of(plain))


def test_config_without_the_newer_settings_resumes(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=1)
    stored = read_file(folder / "config.json")
    for name in ("deterministic", "select", "select_horizon", "prefetch", "compile"):
        del stored["train"][name]
    (folder / "config.json").write_text(json.dumps(stored))
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    del saved["stage_seconds"]
    torch.save(saved, folder / "checkpoint.pt")
    (folder / CHECKPOINT_SUMS).unlink()  # older versions wrote no checksums
    run(Plain, grey, folder, steps=2)
    assert load_checkpoint(folder)["step"] == 2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"select_horizon": 40}, "has 24 frames but one clip spans 42"),
        ({"select_horizon": -1}, "--train.select-horizon must be at least 0, got -1"),
    ],
)
def test_impossible_rollout_is_refused_before_training(grey, tmp_path, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        run(Plain, grey, tmp_path / "run", steps=2, select="skill", **settings)
    assert not (tmp_path / "run").exists()


def test_schedules_in_epochs_become_steps(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", epochs=1.5, half_epochs=0.5, order="epoch")
    clips = 24 - 3 + 1  # windows of the one training video
    per_epoch = -(-clips // 4)
    stored = read_file(folder / "config.json")
    assert stored["model"]["half_after"] == round(0.5 * per_epoch)
    assert read_metrics(folder)[-1]["step"] == round(1.5 * per_epoch)
    rates = load_checkpoint(folder)["optimisers"]["main"]["param_groups"][0]["lr"]
    assert rates == pytest.approx(0.005)


# ------------------------------------------------------------------------------------------------ kills and signals


def command(model, data, out, *more):
    frequent = ("--train.stats-every", 1, "--train.no-tensorboard", "--precision", "fp32", "--device", "cpu")
    return ["train", model, *map(str, ("--data", data, "--out", out, "--quiet", *frequent, *more))]


def start(words, folder, step, hold):
    """A process that runs the command and has logged `step`; at step `hold` it waits for a signal."""
    original = Trainer._log_step

    def wait(self, *arguments):
        while self.state.step == hold and not self.signals.number:
            time.sleep(0.01)
        return original(self, *arguments)

    def work():
        Trainer._log_step = wait
        return cli.run(words)

    process = forked(work)
    while process.is_alive() and not any(row["step"] >= step for row in read_metrics(folder)):
        time.sleep(0.02)
    assert process.is_alive(), process.exitcode
    return process


def test_killed_and_resumed_run_equals_unbroken_run(colour, tmp_path):
    folder, steps = tmp_path / "killed", 24
    words = command("multiscale-gan", colour.folder, folder, "--profile", "tiny", "--train.save-every", 3)
    words = [*words, "--steps", str(steps)]
    process = start(words, folder, 5, hold=steps - 2)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    at = load_checkpoint(folder)["step"]
    assert 3 <= at < steps
    assert at % 3 == 0
    process = start(words, folder, read_metrics(folder)[-1]["step"] + 1, hold=steps - 1)
    process.terminate()
    process.join(timeout=300)
    assert process.exitcode == 143
    assert at < load_checkpoint(folder)["step"] < steps
    assert cli.run(words) == 0
    settings = dict(steps=steps, precision="fp32", stats_every=1, save_every=100, tensorboard=False)
    same_run(train("multiscale-gan", colour, out=tmp_path / "unbroken", profile="tiny", quiet=True, **settings), folder)


def interrupt_when(monkeypatch, where, when, number=signal.SIGTERM):
    """A signal to ourselves the moment Trainer.`where` is at work and `when(trainer)` holds."""
    original = getattr(Trainer, where)

    def wrapped(self, *arguments):
        if when(self):
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, where, wrapped)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_prints_how_to_resume(grey, tmp_path, monkeypatch, capsys, number, code):
    folder = tmp_path / "run"
    words = command(small_config(Plain).name, grey.folder, folder, "--steps", 9)
    interrupt_when(monkeypatch, "_log_step", lambda trainer: trainer.state.step == 4, number)
    assert cli.run([w for w in words if w != "--quiet"]) == code
    output = capsys.readouterr().err
    assert "stopped at step 4; run the same command again to resume" in output
    assert "Traceback" not in output
    assert load_checkpoint(folder)["step"] == read_metrics(folder)[-1]["step"] == 4
    assert snapshots(folder)[-1].name == "step-4"
    monkeypatch.undo()
    assert cli.run(words) == 0
    assert load_checkpoint(folder)["step"] == 9


@pytest.mark.parametrize("step", [2, 8])
def test_signal_during_validation_loses_nothing(grey, tmp_path, monkeypatch, step):
    """At step 8 the validation is the one that ends the stage."""

    def build(out):
        config = small_config(Overfit, stage_steps=None, patience=2, steps=11, validate_every=2)
        return train(Overfit, grey, out=out, config=config, quiet=True)

    unbroken = build(tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        interrupt_when(patch, "_validate", lambda trainer: trainer.state.step == step)
        with pytest.raises(Interrupted) as stopped:
            build(tmp_path / "stopped")
    assert stopped.value.code == 143
    saved = load_checkpoint(tmp_path / "stopped")
    assert (saved["step"], saved["stage"]) == (step, int(step == 8))
    assert rows_of(tmp_path / "stopped")[-1]["val/loss"] == abs(step - 4)
    assert not (tmp_path / "stopped" / "latents").exists()
    same_run(unbroken, build(tmp_path / "stopped"))


def test_first_of_two_signals_sets_the_exit_code():
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.number == signal.SIGTERM


def test_signal_that_torchrun_repeats_does_not_end_the_process(monkeypatch):
    """Slurm signals all processes, and the agent passes its own signal on."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_signals_are_recorded_once_and_handlers_restored():
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert signals.number == 0
        assert signal.getsignal(signal.SIGTERM) != before
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before  # the next one ends at once
    assert signal.getsignal(signal.SIGTERM) == before


# -------------------------------------------------------------------------------------------------- faults at the door


def test_other_config_is_refused_and_overwrite_starts_from_scratch(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=3)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"model\.lr was 0\.01 and is now 0\.02.*--overwrite"):
        run(Plain, grey, folder, steps=5, lr=0.02)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    config = small_config(Plain, steps=2, lr=0.02)
    train(Plain, grey, out=folder, config=config, overwrite=True, quiet=True)
    assert load_checkpoint(folder)["step"] == 2
    assert [r["step"] for r in rows_of(folder)] == [1, 2]
    assert read_file(folder / "config.json")["model"]["lr"] == 0.02


def test_other_data_are_refused_on_resume(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=2)
    other = write_store(tmp_path / "other", videos=4)
    with pytest.raises(UserError, match=r"data\.digest was"):
        run(Plain, other, folder, steps=4)


def test_overwrite_deletes_nothing_when_the_new_run_cannot_start(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=2)
    short = write_store(tmp_path / "short", videos=3, frames=2)
    for data, settings in ((grey, {"grad_accum_steps": 3}), (short, {}), (grey, {"steps": None})):
        config = small_config(Plain, **{"steps": 2, **settings})
        with pytest.raises(UserError):
            train(Plain, data, out=folder, config=config, overwrite=True, quiet=True)
    assert load_checkpoint(folder)["step"] == 2
    assert rows_of(folder)


def test_overwrite_deletes_neither_other_folders_nor_initial_weights(grey, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "config.json").write_text('{"theme": "dark"}')
    config = small_config(Plain, steps=1)
    with pytest.raises(UserError, match="site: holds no run of framecast, so it is not replaced"):
        train(Plain, grey, out=tmp_path / "site", config=config, overwrite=True, quiet=True)
    assert (tmp_path / "site" / "config.json").read_text() == '{"theme": "dark"}'
    folder = run(Plain, grey, tmp_path / "run", steps=2)
    for start in (folder, folder / "weights" / "step-2"):
        with pytest.raises(UserError, match="--overwrite would delete the weights of --init-from"):
            train(Plain, grey, out=folder, config=config, init_from=start, overwrite=True, quiet=True)
    assert load_checkpoint(folder)["step"] == 2


def test_steps_and_log_settings_may_change_on_resume(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=2)
    run(Plain, grey, folder, steps=4, stats_every=2)
    assert read_file(folder / "config.json")["train"]["stats_every"] == 2
    assert load_checkpoint(folder)["step"] == 4


def test_unusable_folders_are_refused(grey, tmp_path):
    (tmp_path / "file").write_text("something")
    with pytest.raises(UserError, match="is a file or a broken link; --out must be a folder"):
        run(Plain, grey, tmp_path / "file", steps=1)
    with pytest.raises(UserError, match="cannot be created"):
        run(Plain, grey, tmp_path / "file" / "below", steps=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("my life's work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is not empty and has no run; choose another --out"):
            train(
                Plain,
                grey,
                out=tmp_path / "full",
                config=small_config(Plain, steps=1),
                overwrite=overwrite,
                quiet=True,
            )
    assert (tmp_path / "full" / "thesis.tex").read_text() == "my life's work"


def test_refused_start_leaves_no_run_folder(grey, tmp_path):
    with pytest.raises(UserError, match=r"--grad-accum-steps 3 must divide the 4 clips of a process"):
        run(Plain, grey, tmp_path / "run", steps=1, grad_accum_steps=3)
    with pytest.raises(UserError, match="no length of training"):
        run(Plain, grey, tmp_path / "run")
    with pytest.raises(UserError, match=r"no setting 'step'; did you mean 'steps'\?"):
        train(Plain, grey, out=tmp_path / "run", step=3)
    short = write_store(tmp_path / "short", frames=4)  # enough for the first stage, not for the second
    with pytest.raises(UserError, match="has 4 frames but one clip spans 5"):
        run(TwoStage, short, tmp_path / "run", steps=1)
    run(Plain, grey, tmp_path / "run", steps=1)


def test_damaged_checkpoint_error_gives_a_working_fix(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", steps=3)
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"is damaged .*delete it and start from .*--init-from"):
        run(Plain, grey, folder, steps=5)
    assert [p.name for p in snapshots(folder)] == ["step-3"]
    path.unlink()
    train(Plain, grey, out=folder, config=small_config(Plain, steps=5), init_from=folder, quiet=True)
    assert load_checkpoint(folder)["step"] == 5


def test_training_starts_from_weights_of_another_run(grey, tmp_path, capsys):
    first = run(Plain, grey, tmp_path / "first", steps=5)
    start = load_file(first / "weights" / "step-5" / "model.safetensors")
    config = small_config(Plain, steps=1, lr=1e-12)
    second = train(Plain, grey, out=tmp_path / "second", config=config, init_from=first)
    assert "2 of 2 tensors taken from" in capsys.readouterr().err
    found = load_file(second / "weights" / "step-1" / "model.safetensors")
    torch.testing.assert_close(found, start)
    again = functools.partial(train, Plain, grey, config=config, overwrite=True, quiet=True)
    with pytest.raises(UserError, match="no such run folder"):
        again(out=second, init_from=tmp_path / "nowhere")
    with pytest.raises(UserError, match="--overwrite would delete the weights of --init-from"):
        again(out=first, init_from=first)
    assert load_checkpoint(first)["step"] == 5
    assert load_checkpoint(second)["step"] == 1


def test_training_starts_from_a_file_of_the_model(grey, tmp_path, capsys):
    class Importing(Plain):
        def import_weights(self, path):
            torch.nn.init.constant_(self.net.weight, float(path.read_text()))
            return 1

    (tmp_path / "weights.txt").write_text("7")
    config = small_config(Plain, steps=1, lr=1e-12)
    made = train(Importing, grey, out=tmp_path / "run", config=config, init_from=tmp_path / "weights.txt")
    assert "1 of 2 tensors taken from" in capsys.readouterr().err
    found = load_file(made / "weights" / "step-1" / "model.safetensors")
    torch.testing.assert_close(found["net.weight"], torch.full_like(found["net.weight"], 7.0))
    with pytest.raises(UserError, match="Plain takes no weights file"):
        train(Plain, grey, out=tmp_path / "other", config=config, init_from=tmp_path / "weights.txt", quiet=True)


def test_non_finite_loss_keeps_the_last_checkpoint(grey, tmp_path):
    class Breaks(Plain):
        def loss(self, batch, step=0):
            found = super().loss(batch, step)
            return Loss(found.total / (step != 5), found.parts)

    with pytest.raises(NotFinite, match="at step 5: phase 'main'"):
        run(Breaks, grey, tmp_path / "run", steps=9, save_every=2)
    assert load_checkpoint(tmp_path / "run")["step"] == 4
    assert all(v.isfinite().all() for v in load_checkpoint(tmp_path / "run")["model"].values())


def test_non_finite_weights_never_replace_a_checkpoint(grey, tmp_path):
    class Breaks(Plain):
        def loss(self, batch, step=0):
            found = super().loss(batch, step)
            if step != 3 or not self.training:
                return found
            w = self.net.weight
            return Loss(found.total + (w - w.detach()).square().sum().sqrt(), found.parts)

    with pytest.raises(NotFinite, match=r"weight 'net\.\w+' is not finite after step 4"):
        run(Breaks, grey, tmp_path / "run", steps=9, save_every=2)
    assert load_checkpoint(tmp_path / "run")["step"] == 2


def test_baseline_becomes_a_run(grey, tmp_path):
    folder = train("copy-last", grey, out=tmp_path / "run", quiet=True, tensorboard=False)
    assert isinstance(framecast.load(folder), CopyLast)


def test_budget_ends_a_run_and_is_counted_across_resumes(grey, tmp_path):
    folder = run(Plain, grey, tmp_path / "run", budget="0.3s")
    saved = load_checkpoint(folder)
    assert saved["step"] > 0
    assert saved["seconds"] >= 0.3
    run(Plain, grey, folder, budget="0.3s")
    assert load_checkpoint(folder)["step"] == saved["step"]


def test_a_budget_of_processor_time_does_not_count_waiting(grey, tmp_path, monkeypatch):
    class Apart(Clock):
        """Processor time advances by 0.25 s at every reading, the wall clock by 25 s."""

        used = 0.0

        def process_time(self):
            self.used += 0.25
            return self.used

        def monotonic(self):
            self.now += 25.0
            return self.now

    Apart(monkeypatch)
    folder = run(Plain, grey, tmp_path / "run", budget="3s", clock="cpu")
    saved = load_checkpoint(folder)
    assert saved["step"] > 5
    assert 3 <= saved["seconds"] < 4


def test_processor_time_is_refused_on_another_device(grey):
    settings = small_config(Plain, budget="3s", clock="cpu").train
    assert resolve_length(settings, 8, torch.device("cpu")) == (None, 3.0)
    with pytest.raises(UserError, match=r"--train.clock cpu counts no time of cuda:0; use --train.clock wall"):
        resolve_length(settings, 8, torch.device("cuda", 0))
    counted = small_config(Plain, steps=3, clock="cpu").train
    assert resolve_length(counted, 8, torch.device("cuda", 0)) == (3, None)


def test_the_horizon_is_one_that_lies_between_two_shot_cuts(tmp_path):
    """One video, split in time into train, val and test, of shots of twelve frames."""
    frames = np.random.default_rng(0).integers(0, 256, (300, 3, 16, 16), dtype=np.uint8)
    for name, breaks in (("whole", []), ("cut", list(range(12, 300, 12)))):
        with DatasetWriter(tmp_path / name) as writer:
            writer.add(frames, name="clip", breaks=breaks)
    settings = dataclasses.replace(preset("direct", "tiny"), train=small_config(Plain, steps=1).train)
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, horizon=16))
    assert settle(settings, Store(tmp_path / "whole"), Direct).model.horizon == 16
    source = Store(tmp_path / "cut")
    model = settle(settings, source, Direct).model
    assert model.context + model.horizon <= 12
    folder = train("direct", source, profile="tiny", out=tmp_path / "run", steps=1, quiet=True, tensorboard=False)
    assert load_checkpoint(folder)["step"] == 1


def test_expected_end_uses_the_remaining_time(grey, tmp_path):
    config = settle(small_config(Plain, budget="300s"), grey, Plain)
    state = TrainState.create(Plain(config.model, config.spec))
    trainer = Trainer(config, grey, tmp_path, CPU, state, quiet=True)
    assert "(in 5 min)" in trainer._forecast(0.1)
    state.seconds = 240.0
    assert "(in 60 s)" in trainer._forecast(0.1)
    state.seconds = 400.0
    assert "(in 0 s)" in trainer._forecast(0.1)


def test_run_has_previews_scores_and_expected_end(colour, tmp_path, capsys):
    settings = dict(
        steps=21, summary_every=10, preview_every=20, validate_every=20, precision="fp32", tensorboard=False
    )
    folder = train("multiscale-gan", colour, profile="tiny", out=tmp_path / "run", **settings)
    output = capsys.readouterr().err
    assert "steps/s, expected end" in output
    assert "peak memory" in output
    assert "validation loss" in output
    assert {p.name for p in (folder / "previews").iterdir()} == {"step-20.png", "step-21.png"}
    rows = rows_of(folder)
    assert all(np.isfinite(rows[-1][k]) for k in ("val/loss", "val/psnr", "val/sharp_diff"))
    assert [r["step"] for r in rows if "train/psnr" in r] == [10, 20]


# ---------------------------------------------------------------------------------------------------- two processes


def test_two_processes_equal_one_with_the_joined_batch(colour, tmp_path):
    more = ("--profile", "tiny", "--steps", 4, "--batch-size", 4, "--train.validate-every", 2)
    assert torchrun(cli.run, command("multiscale-gan", colour.folder, tmp_path / "two", *more)) == {0: 0, 1: 0}
    settings = dict(steps=4, batch_size=4, validate_every=2, precision="fp32", stats_every=1, tensorboard=False)
    train("multiscale-gan", colour, out=tmp_path / "one", profile="tiny", quiet=True, **settings)
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    for part in ("model", "ema"):
        for network in ("generator", "discriminator"):
            names = [name for name in one[part] if name.startswith(network)]
            a, b = (torch.cat([saved[part][n].double().flatten() for n in names]) for saved in (one, two))
            assert (b - a).norm() / a.norm() < 1e-6, f"{part}/{network}"
    rows = [rows_of(tmp_path / name) for name in ("one", "two")]
    for a, b in zip(*rows, strict=True):
        assert a.keys() == b.keys()
        numbers = [k for k, v in a.items() if isinstance(v, float)]
        assert numbers
        np.testing.assert_allclose([b[k] for k in numbers], [a[k] for k in numbers], rtol=1e-5)
    assert json.loads((tmp_path / "two" / "config.json").read_text())["train"]["batch_size"] == 4


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 3}, "batch size 3 cannot be shared by 2 processes; give a multiple of 2"),
        ({"batch_size": 4, "grad_accum_steps": 4}, "--grad-accum-steps 4 must divide the 2 clips of a process"),
    ],
)
def test_indivisible_batch_is_one_sentence(grey, tmp_path, settings, sentence):
    config = settle(small_config(Plain, steps=2, **settings), grey, Plain)
    state = TrainState.create(Plain(config.model, config.spec))
    with pytest.raises(UserError, match=sentence):
        Trainer(config, grey, tmp_path, dataclasses.replace(CPU, world=2), state, quiet=True)


def test_presets_of_small_models_are_their_defaults():
    assert preset(Plain).model == Plain.Config()
