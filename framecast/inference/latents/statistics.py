"""Latent statistics: importance of each dimension, distribution over data, and drift of the latent norm in dreams.

Works on any `LatentModel` (`models/base.py`); dreams are measured for models that are also `EditableLatent`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.inference.latents.io import LatentResult, as_floats, clips, latent_model, out_folder
from framecast.media.grid import grid
from framecast.media.images import write_image
from framecast.models.base import Predictor
from framecast.models.latent import EditableLatent
from framecast.models.rollout import RolloutSession, evaluating
from framecast.training.run_folder import Run

#: Steps of a dream at which latent norms are reported.
STEPS = (1, 10, 30, 100, 300)
#: Largest number of frames evaluated: each is decoded once per latent dimension.
_FRAMES = 128


@torch.no_grad()
def importance(
    run: Run,
    source: str | Path | None = None,
    *,
    count: int = 32,
    out: str | Path | None = None,
    device: str = "cpu",
) -> LatentResult:
    """Rise of the squared reconstruction error when one latent dimension is replaced by its mean.

    Errors are summed over a frame's values in 0…1 and averaged over frames. Writes importance.csv (number, rise, share
    of all rises, std; most important first) and importance.png (frames, their reconstructions, and reconstructions
    without each of the five most important dimensions).

    Args:
        run: trained run of a `LatentModel`.
        source: input clips, see `io.clips`.
        count: largest number of clips.
        out: output folder, see `io.out_folder`.
        device: torch device.
    """
    model = latent_model(run, device)
    frames, latents = _encoded(model, clips(run, source, count))
    context, images = frames[:, : model.num_context], frames.flatten(0, 1)
    mean, size = latents.mean((0, 1)), latents.shape[-1]
    whole = _decoded(model, latents, context)
    base = float(_error(whole, images))
    without, rises = {}, []
    for dim in range(size):
        changed = latents.clone()
        changed[..., dim] = mean[dim]
        without[dim] = _decoded(model, changed, context)
        rises.append(float(_error(without[dim], images)) - base)
    order = sorted(range(size), key=lambda d: -rises[d])
    total = sum(max(r, 0.0) for r in rises)
    std = latents.flatten(0, 1).std(0)
    rows = [
        {"number": d, "rise": rises[d], "share": max(rises[d], 0.0) / total if total else 0.0, "std": float(std[d])}
        for d in order
    ]
    folder = out_folder(run, out)
    shown = np.linspace(0, len(images) - 1, min(len(images), 8)).round().astype(int)
    sheet = {"frames": images, "decoded": whole, **{f"without {d}": without[d] for d in order[:5]}}
    files = {
        "table": _write_csv(folder / "importance.csv", rows),
        "sheet": write_image(
            grid({k: v[shown].clamp(0, 1).cpu() for k, v in sheet.items()}), folder / "importance.png"
        ),
    }
    lines = [f"squared error per frame {base:.4g}; rise without one latent dimension:"]
    lines += [f"  dimension {r['number']:>3}  {r['rise']:+10.4g}  {r['share']:6.1%}" for r in rows[:10]]
    return LatentResult(files, {"error": base, "frames": len(images), "numbers": rows}, tuple(lines))


@torch.no_grad()
def statistics(
    run: Run,
    source: str | Path | None = None,
    *,
    count: int = 32,
    steps: int = 300,
    out: str | Path | None = None,
    device: str = "cpu",
) -> LatentResult:
    """Mean and std of every latent dimension, latent norm of the data, and latent norm of dreams by step.

    Writes statistics.csv (number, mean, std, lowest, highest).

    Args:
        run: trained run of a `LatentModel`.
        source: input clips, see `io.clips`.
        count: largest number of clips.
        steps: length of the dreams in frames, one from each of at most 16 clips; skipped for models that need actions.
        out: output folder, see `io.out_folder`.
        device: torch device.

    Returns:
        Facts with `norm` (mean latent norm of the data) and `dream` (step; norm: mean latent norm; seen: mean norm of
        the re-encoded frames; ratio: seen divided by the norm of the data).
    """
    if steps < 0:
        raise UserError(f"--steps must be at least 0, got {steps}")
    model = latent_model(run, device)
    frames, latents = _encoded(model, clips(run, source, count))
    flat = latents.flatten(0, 1)
    columns = {"mean": flat.mean(0), "std": flat.std(0), "low": flat.amin(0), "high": flat.amax(0)}
    rows = [{"number": d, **{k: float(v[d]) for k, v in columns.items()}} for d in range(flat.shape[-1])]
    norm = float(flat.norm(dim=-1).mean())
    facts: dict[str, Any] = {"frames": len(flat), "norm": norm, "numbers": rows}
    lines = [f"{flat.shape[-1]} latent dimensions; mean norm of {len(flat)} latents {norm:.3f}"]
    if isinstance(model, EditableLatent) and model.actions != "required" and steps:
        facts["dream"] = [
            {"step": step, "norm": length, "seen": seen, "ratio": seen / norm if norm else float("nan")}
            for step, length, seen in dream_norms(model, frames[:16, : model.num_context], _up_to(steps))
        ]
        lines += [
            f"  dream, step {r['step']:>4}: latent norm {r['norm']:.3f}; re-encoded frames {r['seen']:.3f}, "
            f"{r['ratio']:.2f} of the data"
            for r in facts["dream"]
        ]
    folder = out_folder(run, out)
    return LatentResult({"table": _write_csv(folder / "statistics.csv", rows)}, facts, tuple(lines))


def dream_norms(
    model: Predictor, context: Tensor, steps: Sequence[int], seed: int = 0
) -> list[tuple[int, float, float]]:
    """(step, mean latent norm, mean norm of the re-encoded frames) of dreams from each context.

    The two differ where latents are sampled: re-encoded latents are means, without noise.

    Args:
        model: an `EditableLatent` model that needs no actions.
        context: frames (b, t, c, h, w) in 0…1.
        steps: steps to report, counted from 1.
        seed: random seed for sampling.
    """
    generator = torch.Generator(context.device).manual_seed(seed)
    dream, found = RolloutSession(model, context, generator=generator), []
    for step in range(1, max(steps, default=0) + 1):
        frame = dream.step()
        if step in steps:
            with evaluating(model):
                seen: Tensor = model.encode(frame[:, None])  # type: ignore[operator]
            found.append((step, float(dream.code.norm(dim=-1).mean()), float(seen[:, -1].norm(dim=-1).mean())))
    return found


def _up_to(steps: int) -> list[int]:
    return sorted({step for step in STEPS if step < steps} | {steps})


def _encoded(model: Predictor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Float frames and their latents (n, t, z), for as many clips as `_FRAMES` allows."""
    frames = as_floats(model, found[: max(1, _FRAMES // found.shape[1])])
    with evaluating(model):
        latents: Tensor = model.encode(frames)  # type: ignore[operator]
    return frames[:, -latents.shape[1] :], latents


def _decoded(model: Predictor, latents: Tensor, context: Tensor) -> Tensor:
    """Decoded frames, (n t, c, h, w)."""
    with evaluating(model):
        frames: Tensor = model.decode(latents, context)  # type: ignore[operator]
    return frames.flatten(0, 1)


def _error(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum((1, 2, 3)).mean()


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return path
