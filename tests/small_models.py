"""Predictors of a few weights that use every part of the interface: stages, groups, streams, actions, noise."""

from __future__ import annotations

import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import sys
import unittest.mock
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from framecast.core.schedules import every
from framecast.core.types import (
    ActionSpec,
    Batch,
    ClipRequest,
    ClipSpec,
    GradClip,
    Loss,
    Optimiser,
    Phase,
    Stage,
    StopCondition,
)
from framecast.data.store import DatasetWriter, Store
from framecast.models.base import Control, Predictor
from framecast.models.inputs import as_frames
from framecast.training.config import RunConfig, TrainConfig
from framecast.training.device import Device
from framecast.training.step import train_step

ROOT = Path(__file__).parent.parent
CPU = Device(torch.device("cpu"))


def write_store(folder, videos=3, frames=24, side=12, channels=1, actions=False, seed=0):
    """A packed store of squares that move at constant speed; with actions, 0…2 are left, stay and right."""
    rng = np.random.default_rng(seed)
    with DatasetWriter(folder, fps=10) as writer:
        for _ in range(videos):
            moves = rng.integers(3, size=frames)
            clip = np.full((frames, channels, side, side), 30, np.uint8)
            top, left, speed = *rng.integers(side - 4, size=2), rng.integers(1, 3)
            for t in range(frames):
                clip[t, :, top : top + 4, left : left + 4] = 220
                left = (left + (moves[t] - 1 if actions else speed)) % (side - 4)
            writer.add(clip, actions=moves if actions else None)
    return Store(folder)


def small_config(model_class, **train):
    """A RunConfig of one of the classes below, with frequencies that suit ten steps."""
    model = {k: train.pop(k) for k in list(train) if k in {f.name for f in dataclasses.fields(model_class.Config)}}
    often = dict.fromkeys(("summary_every", "preview_every", "validate_every", "save_every"), 100)
    settings = {"batch_size": 4, "stats_every": 1, "val_batches": 1, "tensorboard": False, "precision": "fp32"}
    name = f"{Path(__file__).resolve()}:{model_class.__name__}"
    return RunConfig(name=name, model=model_class.Config(**model), train=TrainConfig(**{**settings, **often, **train}))


def process_settings():
    """Settings for a subprocess: one thread and this checkout, independent of the environment."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {"env": environment, "text": True}


def forked(function, *arguments):
    """A started process whose exit code is the function's result.

    Forked from this process, so that it does not spend three seconds on importing torch as a new one does.
    """

    def work():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(function(*arguments))

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    return process


def torchrun(function, *arguments, processes=2, max_restarts=0):
    """Rank -> result of a function in so many processes, forked as above and launched by torchrun's agent."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    settings = dict(min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="test", monitor_interval=0.05)
    settings |= dict(max_restarts=max_restarts)
    settings |= dict(rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", start_method="fork")
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    try:
        with unittest.mock.patch.dict(os.environ, loopback):
            return elastic_launch(LaunchConfig(**settings), function)(*arguments)
    finally:
        for number, handler in handlers.items():  # the agent leaves its own
            signal.signal(number, handler)


def rows_of(folder):
    """The rows of metrics.jsonl without the wall-clock."""
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def same(a, b, where=""):
    """Fail unless two trees of plain values and tensors are equal bit for bit (the wall-clock left out)."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("seconds", "stage_seconds"):
                same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}/{i}")
    elif isinstance(a, Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def same_run(one, other):
    """Fail unless two run folders hold the same checkpoint and the same metrics."""
    load = dict(map_location="cpu", weights_only=True)
    same(torch.load(one / "checkpoint.pt", **load), torch.load(other / "checkpoint.pt", **load))
    assert rows_of(one) == rows_of(other)


def build(model_class, seed=0, **config):
    """A model of one of the classes below on grey 12x12 frames."""
    actions = ActionSpec(kind="discrete", size=3) if model_class.actions != "none" else None
    torch.manual_seed(seed)
    spec = ClipSpec(channels=1, height=12, width=12, actions=actions)
    return model_class(dataclasses.replace(small_config(model_class).model, **config), spec)


def batch_of(step, stream, b=4):
    """Random clips, a function of step and stream."""
    g = torch.Generator().manual_seed(1000 * step + len(stream))
    frames = torch.rand(b, 3, 1, 12, 12, generator=g)
    actions = nn.functional.one_hot(torch.randint(3, (b, 2), generator=g), 3).float()
    return Batch(context=frames[:, :2], future=frames[:, 2:], actions=actions)


def advance(state, steps=1, grad_accum_steps=1, b=4, device=CPU):
    """The log of the last of some training steps on random clips."""
    for _ in range(steps):
        step = state.step

        def batches(stream, micro, step=step):
            whole = batch_of(step, stream, b)
            return whole if grad_accum_steps == 1 else whole.part(micro, grad_accum_steps)

        logged = train_step(state, batches, device, grad_accum_steps)
    return logged


def weights(module):
    """A copy of all tensors."""
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def moved(before, module):
    """Names of the tensors that differ from the result of `weights`."""
    return {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}


# ------------------------------------------------------------------------------------------------------- predictors


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    """lr: learning rate.  stage_steps, patience: of the first stage.  half_epochs: epochs until the rate is halved;
    resolve_schedules sets half_after from it."""

    lr: float = 0.01
    stage_steps: int | None = 6
    patience: int | None = None
    half_epochs: float = 0
    half_after: int = 0


class Small(Predictor):
    """Common parts: a request for two frames, and a forecast by `guess`."""

    Config = SmallConfig
    config: SmallConfig

    @classmethod
    def request(cls, config):
        return ClipRequest(context=2, future=1)

    def guess(self, context: Tensor, actions: Tensor | None = None) -> Tensor:
        """The next frame, (b, c, h, w), from (b, 2, c, h, w)."""
        raise TypeError(f"{type(self).__name__} must define guess")

    def loss(self, batch: Batch, step: int = 0) -> Loss:
        error = (self.guess(batch.context, batch.actions) - batch.future[:, 0]).square().mean()
        return Loss(error, {"mse": error.detach()})

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        futures = []
        for _ in range(samples):
            window, frames = context, []
            for k in range(horizon):
                led = None if actions is None else actions[:, k : k + window.shape[1]]
                frames.append(self.guess(window, led).clamp(0, 1))
                window = torch.cat([window[:, 1:], frames[-1][:, None]], 1)
            futures.append(torch.stack(frames, 1))
        return torch.stack(futures)

    def flat(self, context: Tensor) -> Tensor:
        """Frames as channels, (b, t c, h, w)."""
        return context.flatten(1, 2)


class Plain(Small):
    """One convolution, one phase, SGD; schedules in epochs become steps."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Conv2d(2 * spec.channels, spec.channels, 3, padding=1)

    @classmethod
    def resolve_schedules(cls, config, steps_per_epoch):
        return dataclasses.replace(config, half_after=round(config.half_epochs * steps_per_epoch))

    def guess(self, context, actions=None):
        return self.net(self.flat(context)).sigmoid()

    def rate(self, step):
        """Halved once `half_after` steps are done."""
        late = self.config.half_after and step >= self.config.half_after
        return self.config.lr * (0.5 if late else 1)

    def phases(self):
        return [Phase(name="main", loss=self.loss, optimiser=Optimiser(kind="sgd", lr=self.rate, momentum=0.9))]


class TwoStage(Small):
    """Stage `vision` learns to code frames, stage `memory` to predict codes that were made once."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        size = spec.channels * spec.height * spec.width
        self.encoder, self.decoder = nn.Linear(size, 6), nn.Linear(6, size)
        self.memory = nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.1), nn.Tanh(), nn.Linear(12, 6))

    def encode(self, frames):
        return self.encoder(frames.flatten(2))

    def decode(self, z, context=None):
        return self.decoder(z).unflatten(-1, (self.spec.channels, self.spec.height, self.spec.width))

    def guess(self, context, actions=None):
        return self.decode(self.memory(self.encode(context[:, -1:])))[:, 0]

    def vision_loss(self, batch: Batch, step: int) -> Loss:
        error = (self.decode(self.encode(batch.context)) - batch.context).square().mean()
        return Loss(error, {"pixels": error.detach()})

    def memory_loss(self, batch: Batch, step: int) -> Loss:
        assert batch.context.shape[1] == batch.future.shape[1] == 0
        z = batch.latents["z"]
        assert z.shape[1:] == (5, 6)
        error = (self.memory(z[:, :-1]) - z[:, 1:]).square().mean()
        return Loss(error, {"codes": error.detach()})

    def latents(self, batch: Batch) -> dict[str, Tensor]:
        assert not self.training
        return {"z": self.encode(batch.context)}

    def stages(self):
        seeing = Optimiser(kind="radam", lr=self.config.lr)
        vision = Phase(name="vision", loss=self.vision_loss, modules=("encoder", "decoder"), optimiser=seeing)
        memory = Phase(
            name="memory", loss=self.memory_loss, modules=("memory",), optimiser=Optimiser(lr=self.config.lr)
        )
        until = StopCondition(steps=self.config.stage_steps, patience=self.config.patience)
        return [
            Stage(name="vision", phases=[vision], until=until, loss=self.vision_loss),
            Stage(
                name="memory",
                phases=[memory],
                precompute_latents=self.latents,
                request=ClipRequest(context=4, future=1),
                loss=self.memory_loss,
            ),
        ]


class Group(Small):
    """Two phases of one group share an encoder, each with its own optimiser; a critic comes every third step."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        c = spec.channels
        self.encoder = nn.Sequential(nn.Conv2d(2 * c, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.predictor, self.echo = nn.Conv2d(4, c, 1), nn.Conv2d(4, c, 1)
        self.critic = nn.Sequential(nn.Conv2d(c, 2, 3, stride=2), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(1))
        self.critic(torch.zeros(2, c, spec.height, spec.width))
        self.seen: dict[str, list[float]] = {}

    def guess(self, context, actions=None):
        return self.predictor(self.encoder(self.flat(context))).sigmoid()

    def note(self, phase: str, batch: Batch) -> None:
        self.seen.setdefault(phase, []).append(float(batch.context.double().sum()))

    def predict_loss(self, batch: Batch, step: int) -> Loss:
        self.note("predict", batch)
        return self.loss(batch)

    def echo_loss(self, batch: Batch, step: int) -> Loss:
        self.note("echo", batch)
        error = (self.echo(self.encoder(self.flat(batch.context))) - batch.context[:, -1]).square().mean()
        return Loss(error, {"echo": error.detach()})

    def critic_loss(self, batch: Batch, step: int) -> Loss:
        self.note("critic", batch)
        real, fake = self.critic(batch.future[:, 0]), self.critic(self.guess(batch.context))
        total = (real - 1).square().mean() + fake.square().mean()
        return Loss(total, {"critic": total.detach()})

    def phases(self):
        adam = Optimiser(lr=self.config.lr)
        return [
            Phase(
                name="critic",
                loss=self.critic_loss,
                modules=("critic",),
                optimiser=Optimiser(kind="sgd", lr=self.config.lr),
                should_run=every(3),
                stream="critic",
            ),
            Phase(name="predict", loss=self.predict_loss, modules=("encoder", "predictor"), optimiser=adam, group="g"),
            Phase(
                name="echo",
                loss=self.echo_loss,
                modules=("encoder", "echo"),
                optimiser=Optimiser(kind="radam", lr=self.config.lr),
                group="g",
                clip=GradClip(kind="global", value=0.5),
            ),
        ]


class Acting(Small):
    """Conditioned on actions, with batch norm and dropout."""

    actions = "required"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        c, a = spec.channels, spec.action_size
        self.net = nn.Sequential(
            nn.Conv2d(2 * c + a, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(6, c, 1)
        )

    def guess(self, context, actions=None):
        done = actions[:, -1, :, None, None].expand(-1, -1, *context.shape[-2:])
        return self.net(torch.cat([self.flat(context), done], 1)).sigmoid()

    def phases(self):
        clip = GradClip(kind="tensor", value=0.5)
        return [Phase(name="main", loss=self.loss, optimiser=Optimiser(lr=self.config.lr), clip=clip)]


class Noisy(Small):
    """Stochastic: noise is an input, and each sample has its own."""

    stochastic = True

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Conv2d(2 * spec.channels + 1, spec.channels, 3, padding=1)
        self.generator: torch.Generator | None = None

    def guess(self, context, actions=None):
        b, _, _, h, w = context.shape
        noise = torch.randn(b, 1, h, w, generator=self.generator)
        return self.net(torch.cat([self.flat(context), noise], 1)).sigmoid()

    def predict(self, context, horizon, actions=None, samples=1, generator=None):
        self.generator = generator
        try:
            return Small.predict.__wrapped__(self, context, horizon, actions, samples)
        finally:
            self.generator = None


class Summed(Plain):
    """The loss is a sum over clips."""

    def loss(self, batch, step=0):
        error = (self.guess(batch.context) - batch.future[:, 0]).square().sum()
        return Loss(error, {"sse": error.detach()}, "sum")

    def rate(self, step):
        return 1e-4


class Dropped(Noisy):
    """Noise as an input, and dropout."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.keep = nn.Dropout(0.3)

    def guess(self, context, actions=None):
        return self.keep(super().guess(context))


class Steered(Small):
    """Rollout in latents of three numbers: brightness, and two that drift by noise; actions change the brightness."""

    stochastic = True
    actions = "required"

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.mix = nn.Linear(3, spec.channels)

    def encode(self, frames):
        bright = frames.mean((-3, -2, -1))
        return torch.stack([bright, 0 * bright, 0 * bright], -1)

    def decode(self, z, context=None):
        size = (self.spec.channels, self.spec.height, self.spec.width)
        shade = z[..., :1] + 0.1 * z[..., 1:2]
        return shade[..., None, None].clamp(0, 1).expand(*z.shape[:2], *size)

    def guess(self, context, actions=None):
        return self.decode(self.encode(context[:, -1:]))[:, 0] + 0 * self.mix.weight.sum()

    def controls(self):
        return (Control(name="warmth", label="temperature", low=0, high=2, description="how far codes drift"),)

    @torch.no_grad()
    def rollout_init(self, context, actions=None, samples=1, generator=None):
        code = self.encode(as_frames(context, self)[:, -1:])[:, 0].repeat(samples, 1)
        seed = torch.randint(2**31, (1,), generator=generator).expand(len(code)).clone()
        return {"code": code, "warmth": torch.ones(len(code)), "seed": seed}

    @torch.no_grad()
    def rollout_step(self, carry, action=None):
        noise = torch.randn(carry["code"].shape, generator=torch.Generator().manual_seed(int(carry["seed"][0])))
        noise[:, 0] = 0 if action is None else 0.05 * (action[:, -1] - action[:, 0])
        code = carry["code"] + noise * torch.cat([torch.ones(len(noise), 1), carry["warmth"][:, None].expand(-1, 2)], 1)
        return {**carry, "code": code, "seed": carry["seed"] + 1}, self.decode(code[:, None])[:, 0]

    def get_latent(self, carry):
        return carry["code"]

    def with_latent(self, carry, z):
        return {**carry, "code": z}


def trained_dreams(profile, folder):
    """A run of ten steps of a profile of dreams on the ball, with a checkpoint every second step."""
    from framecast.training.train import train

    return train(
        *("dreams", "ball"),
        **dict(profile=profile, out=folder, quiet=True, steps=10, save_every=2, stats_every=1, tensorboard=False),
    )


def stopped_in(patch, stage, call, profile, folder):
    """The same run, interrupted in a call of a loss of `Dreams`, then resumed."""
    from framecast.models.dreams.predictor import Dreams

    whole, calls = getattr(Dreams, stage), itertools.count(1)

    def stopping(self, batch, step=0):
        if next(calls) == call:
            raise KeyboardInterrupt
        return whole(self, batch, step)

    with patch.context() as inside:
        inside.setattr(Dreams, stage, stopping)
        with pytest.raises(KeyboardInterrupt):
            trained_dreams(profile, folder)
    return trained_dreams(profile, folder)
