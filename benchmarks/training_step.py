"""Seconds of a training step of multiscale-gan, beside the time its operations take as plain matrix products.

    python -m benchmarks.training_step

Paper widths at batches of 8 patches of 32x32, plain and adversarial (which runs the generator twice, as published),
and `small` at 16; in bf16 and fp32. A step is the engine's: forward, backward, optimisers, EMA copy. Operations are
those of convolutions and matrix products, forward and backward, counted while they run.

On a GPU it is the same code (bf16 autocast, channels-last memory, fused optimisers), and the figure is also given in
steps per second beside the goal for a card of the H200 class; that path has not been run so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.ceiling import Ceiling, beside, count_flops, median_seconds
from benchmarks.row import Row, Settings, floor_row, run_script
from framecast.core.types import Batch, ClipSpec
from framecast.models.multiscale_gan.config import PROFILES, MultiscaleGANConfig
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.nn.precision import resolve_precision
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step

#: Goals for paper widths on a CPU, as multiples of the floor: 1.00 s of 0.90 s and 0.52 s of 0.479 s, which are the
#: floors of 845 and 450 GFLOP at 940 GFLOP/s, where the published code took 2.00 s and 0.94 s.
GOALS = {"adversarial": 1.00 / (845 / 940), "plain": 0.52 / (450 / 940)}
#: Adversarial steps per second to reach on a GPU of the H200 class; the published system did 3.5 on a GTX 980 Ti.
GPU_GOAL = 200.0


def run(settings: Settings) -> Iterator[Row]:
    """Rows of all cases."""
    profile = "tiny" if settings.tiny else "default"
    for precision in precisions(settings.device):
        for kind in ("adversarial", "plain"):
            config = replace(PROFILES[profile](), adversarial=kind == "adversarial")
            yield from _case(settings, config, f"{kind} step, paper widths, batch 8", 8, precision, kind)
        if not settings.tiny:
            yield from _case(settings, PROFILES["small"](), "adversarial step, small, batch 16", 16, precision, None)


def precisions(device: torch.device) -> tuple[str, ...]:
    """fp32, and bf16 first where the hardware multiplies it natively; emulated bf16 is not measured."""
    return ("bf16", "fp32") if resolve_precision("auto", device) == "bf16" else ("fp32",)


def _case(
    settings: Settings, config: MultiscaleGANConfig, name: str, size: int, precision: str, kind: str | None
) -> Iterator[Row]:
    device = Device(settings.device, precision)
    step = Step(config, size, device)
    flops = count_flops(step)

    def measure() -> float:
        return median_seconds(step, settings.repeats(7), settings.device, warm_up=settings.repeats(3))

    if settings.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(settings.device)
    seconds, machine = beside(measure, settings.device, settings.tiny)
    on_gpu = settings.device.type == "cuda"
    details = {"steps_per_second": 1 / seconds, "gflops_reached": flops / seconds / 1e9}
    if on_gpu:
        details["peak_gpu_mb"] = torch.cuda.max_memory_allocated(settings.device) / 1e6
    # a slower machine is held to the same ratio, in the precision that it trains in
    judged = kind is not None and precision == resolve_precision("auto", settings.device)
    goal = GOALS[kind] if judged and kind and not on_gpu else None
    row_name = f"{name}, {precision}"
    yield floor_row(settings, row_name, seconds, flops, precision, machine, goal=goal, details=details)
    if on_gpu and judged and kind == "adversarial":
        yield _steps_per_second(settings, name, 1 / seconds, machine, flops)


def _steps_per_second(settings: Settings, name: str, rate: float, machine: Ceiling, flops: float) -> Row:
    return Row(
        name=f"{name}, bf16, GPU rate",
        figure=rate,
        unit="steps/s",
        ceiling=1 / machine.floor(flops, "bf16"),
        against="ceiling: its operations at the GEMM rate of bf16",
        machine=machine,
        device=settings.device,
        better="more",
        precision="bf16",
        flops=flops,
        goal=GPU_GOAL,
        goal_is="figure",
    )


class Step:
    """One call is one training step, on fixed batches of noise, one for each stream."""

    def __init__(self, config: MultiscaleGANConfig, size: int, device: Device) -> None:
        torch.manual_seed(0)
        self.device = device
        model = MultiscaleGAN(config, ClipSpec(channels=3, height=config.patch, width=config.patch))
        model.to(device.device)
        self.state = TrainState.create(model)
        shape = (size, config.context + config.future, 3, config.patch, config.patch)
        self.batches: dict[str, Batch] = {}
        for stream in {phase.stream for phase in self.state.current.phases}:
            frames = torch.rand(shape, device=device.device)
            self.batches[stream] = Batch(context=frames[:, : config.context], future=frames[:, config.context :])

    def __call__(self) -> None:
        train_step(self.state, lambda stream, _: self.batches[stream], self.device)


if __name__ == "__main__":
    run_script(run, __doc__)
