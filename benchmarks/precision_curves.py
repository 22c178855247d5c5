"""Whether training in bf16 follows fp32: loss curves of 200 steps from the same weights on the same batches.

    python -m benchmarks.precision_curves

`small` is trained three times on generated bouncing shapes: in fp32, in bf16, and in fp32 from weights that were
rounded to bf16 once, before the first step. The third run is the yardstick, since training amplifies any rounding: the
figure is the mean relative difference of bf16 from fp32, the ceiling that of the run that was rounded once. The curves
are drawn into docs/results/precision-curves.svg.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.ceiling import beside, synchronise
from benchmarks.row import Row, Settings, run_script
from framecast.data.loader import Loader
from framecast.data.store import Store
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.models.multiscale_gan.config import PROFILES
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.training.device import Device
from framecast.training.state import TrainState
from framecast.training.step import train_step

#: Default of `--charts`, the folder of the chart, and its file name.
CHARTS = Path(__file__).parents[1] / "docs" / "results"
CHART = "precision-curves.svg"
PARTS = ("generator/total", "generator/lp", "generator/gdl", "discriminator/total")
_WINDOW = 20  # steps of the running mean in which curves are also compared

Curves = dict[str, np.ndarray]


def run(settings: Settings) -> Iterator[Row]:
    """One row a loss; the table and the picture on the way."""
    steps = 4 if settings.tiny else 200
    with tempfile.TemporaryDirectory(prefix="framecast-bench-") as folder:
        store = _data(settings, Path(folder) / "bouncing")

        def measure() -> dict[str, tuple[Curves, float]]:
            return {
                "fp32": _train(settings, store, steps, "fp32"),
                "bf16": _train(settings, store, steps, "bf16"),
                "rounded": _train(settings, store, steps, "fp32", rounded=True),
            }

        runs, machine = beside(measure, settings.device, settings.tiny)
    curves = {name: found for name, (found, _) in runs.items()}
    _print_table(curves, steps)
    target = settings.charts or (None if settings.tiny else CHARTS)
    if target is not None:
        print(f"curves drawn into {_draw(curves, target / CHART)}")
    for part in PARTS:
        bf16, rounded = (relative(curves["fp32"][part], curves[name][part]) for name in ("bf16", "rounded"))
        smooth = relative(*(_running_mean(curves[name][part]) for name in ("fp32", "bf16")))
        yield Row(
            name=f"{part} of {steps} steps, small: bf16 from fp32, mean relative difference",
            figure=float(bf16.mean()),
            unit="of the loss",
            ceiling=float(rounded.mean()),
            against="fp32 from weights rounded to bf16 once",
            machine=machine,
            device=settings.device,
            precision="bf16",
            details={
                "largest": float(bf16.max()),
                "largest_of_rounded": float(rounded.max()),
                f"largest_of_running_mean_of_{_WINDOW}": float(smooth.max()),
                "seconds_per_step_bf16": runs["bf16"][1],
                "seconds_per_step_fp32": runs["fp32"][1],
            },
        )


def relative(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|other - reference| / |reference|, step by step."""
    difference: np.ndarray = np.abs(other - reference) / np.abs(reference)
    return difference


def _data(settings: Settings, folder: Path) -> Store:
    videos, frames = (4, 16) if settings.tiny else (100, 64)
    Bouncing(BouncingConfig(videos=videos, frames=frames)).prepare(folder)
    return Store(folder)


def _train(settings: Settings, store: Store, steps: int, precision: str, rounded: bool = False) -> tuple[Curves, float]:
    """Losses of every step by name, and seconds per step."""
    profile, size = ("tiny", 4) if settings.tiny else ("small", 16)
    config = PROFILES[profile]()
    request = MultiscaleGAN.request(config)
    loader = Loader(store, store.splits(request.source_length)["train"], request, size)
    torch.manual_seed(0)
    model = MultiscaleGAN(config, store.spec)
    if rounded:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.bfloat16())
    device = Device(settings.device, precision)
    state = TrainState.create(model.to(settings.device))
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    start = time.perf_counter()
    for _ in range(steps):
        losses = train_step(state, lambda stream, _: loader.batch(state.step, stream).to(settings.device), device)
        for part in PARTS:
            found[part].append(float(losses[part]))
    synchronise(settings.device)
    return {part: np.array(values) for part, values in found.items()}, (time.perf_counter() - start) / steps


def _running_mean(values: np.ndarray) -> np.ndarray:
    width = min(_WINDOW, len(values))
    return np.convolve(values, np.full(width, 1 / width), "valid")


def _print_table(curves: dict[str, Curves], steps: int) -> None:
    """The generator's loss at some twenty steps, in the three runs."""
    print(f"{'step':>5} {'fp32':>10} {'bf16':>10} {'difference':>11} {'rounded once':>13}   (generator/total)")
    for i in sorted({*range(0, steps, max(1, steps // 20)), steps - 1}):
        fp32, bf16, once = (curves[name][PARTS[0]][i] for name in ("fp32", "bf16", "rounded"))
        print(f"{i:>5} {fp32:>10.5f} {bf16:>10.5f} {(bf16 - fp32) / fp32:>+11.2%} {once:>13.5f}")


def _draw(curves: dict[str, Curves], path: Path) -> Path:
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "framecast"  # the same curves give the same file
    import matplotlib.pyplot as plt

    styles: Sequence[tuple[str, str, str]] = (
        ("fp32", "#1f4e8c", "-"),
        ("bf16", "#d9722b", "-"),
        ("rounded", "#8a8a8a", ":"),
    )
    labels = {"fp32": "fp32", "bf16": "bf16", "rounded": "fp32, start rounded to bf16"}
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    for axis, part in zip(axes.flat, PARTS, strict=True):
        for name, colour, style in styles:
            axis.plot(curves[name][part], style, color=colour, label=labels[name], linewidth=1.2, alpha=0.85)
        axis.set_title(part, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    run_script(run, __doc__)
