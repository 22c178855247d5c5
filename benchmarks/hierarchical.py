"""Hierarchical prediction: a training step of every mode, roll-outs, and the memory of the adversarial mode.

    python -m benchmarks.hierarchical

Steps are the engine's (forward, backward, optimisers, EMA copy), beside the time that their operations take as plain
matrix products; those of `epva-gan` are its joint step, and its critic's. The small networks are those of `narrow` at
batch 8, and the published ones in mode epva at batch 2. Roll-outs are frames per second of 64 predicted frames, from
context to pixels, at batch 1 and 64. Memory is that of a joint step of the published adversarial run, 16 clips of 32
frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.ceiling import beside, count_flops
from benchmarks.memory import peak_memory
from benchmarks.row import Row, Settings, against_gemm, run_script
from framecast.core.types import Batch, ClipSpec
from framecast.models.hierarchical.config import PROFILES, HierarchicalConfig
from framecast.models.hierarchical.predictor import Hierarchical
from framecast.models.rollout import rollout
from framecast.nn.precision import resolve_precision
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step

MODES = ("e2e", "epva", "individual", "e2e-pose", "epva-gan")
SPEC = ClipSpec(channels=3, height=64, width=64, extras={"joints": (27,), "states": (5,)})


def run(settings: Settings) -> Iterator[Row]:
    """Rows of all cases."""
    narrow = replace(PROFILES["tiny"](), size=32, encoding_size=32) if settings.tiny else PROFILES["narrow"]()
    for mode in MODES:
        yield _step(settings, replace(narrow, mode=mode), f"{mode} step, small, batch 8", 2 if settings.tiny else 8)
    critic = replace(narrow, mode="epva-gan")
    yield _step(settings, critic, "epva-gan critic's step, small, batch 8", 2 if settings.tiny else 8, turn=1)
    if not settings.tiny:
        bf16 = resolve_precision("auto", settings.device)
        yield _step(settings, PROFILES["default"](), "epva step, published widths, batch 2", 2, precision=bf16)
    for size in (1, 4 if settings.tiny else 64):
        yield _rollout(settings, narrow, size)
    yield _memory(settings, narrow if settings.tiny else PROFILES["humans-epva-gan"](), 2 if settings.tiny else 16)


class Step:
    """One call is one training step on a fixed batch of noise, always the same turn of the cycle."""

    def __init__(self, config: HierarchicalConfig, size: int, device: Device, turn: int = 0) -> None:
        torch.manual_seed(0)
        self.device, self.turn = device, turn
        self.state = TrainState.create(Hierarchical(config, SPEC).to(device.device))
        frames = torch.rand(size, config.context + config.future, 3, config.size, config.size)
        poses = {name: torch.rand(*frames.shape[:2], *shape) for name, shape in SPEC.extras.items()}
        context, future = frames[:, : config.context], frames[:, config.context :]
        self.batch = Batch(context=context, future=future, extras=poses).to(device.device)

    def __call__(self) -> None:
        self.state.stage_step = self.turn
        train_step(self.state, lambda *_: self.batch, self.device)


def _step(
    settings: Settings, config: HierarchicalConfig, name: str, size: int, turn: int = 0, precision: str = "fp32"
) -> Row:
    step = Step(config, size, Device(settings.device, precision), turn)
    return against_gemm(
        settings,
        name,
        step,
        precision=precision,
        flops=count_flops(step),
        details=lambda seconds, _: {"clips_per_second": size / seconds},
    )


def _rollout(settings: Settings, config: HierarchicalConfig, size: int) -> Row:
    torch.manual_seed(0)
    horizon = 4 if settings.tiny else 64
    model = Hierarchical(config, SPEC).to(settings.device).eval()
    context = torch.rand(size, config.context, 3, config.size, config.size, device=settings.device)
    return against_gemm(
        settings,
        f"roll-out, small, batch {size}",
        lambda: rollout(model, context, horizon),
        frames=size * horizon,
    )


def _memory(settings: Settings, config: HierarchicalConfig, size: int) -> Row:
    """Peak of a joint step beside the bytes of weights, EMA copy and optimisers, which stay."""
    step = Step(replace(config, mode="epva-gan"), size, Device(settings.device, "fp32"))
    kept = 4 * sum(p.numel() for p in step.state.model.parameters()) * 4 / 1e6
    on_gpu = settings.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(settings.device)
        step()
        peak = torch.cuda.max_memory_allocated(settings.device) / 1e6
    else:
        _, peak, _ = peak_memory(step)
    _, machine = beside(lambda: None, settings.device, settings.tiny)
    return Row(
        name=f"memory of a joint step of epva-gan, batch {size}, {config.context + config.future} frames, fp32",
        figure=peak,
        unit="MB",
        ceiling=kept,
        against="floor: weights, their average and two moments of Adam",
        machine=machine,
        device=settings.device,
        precision="fp32",
    )


if __name__ == "__main__":
    run_script(run, __doc__)
