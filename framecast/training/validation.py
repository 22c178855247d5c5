"""Validation in training: loss on held-out clips, scores and preview images of the next frames."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.core.random import seed_for
from framecast.core.types import Batch
from framecast.data.base import Segment, Source
from framecast.data.loader import Loader
from framecast.metrics.frames import psnr, sharp_diff
from framecast.models.base import Predictor
from framecast.models.rollout import evaluating, rollout
from framecast.training.config import RunConfig
from framecast.training.device import Device
from framecast.training.state import TrainState

#: Windows of whole validation frames that are rolled out, and how many at once.
ROLLOUT_CLIPS, ROLLOUT_BATCH = 32, 8


@torch.no_grad()
def validate(
    state: TrainState, batch_of: Callable[[int], Batch], count: int, device: Device, split: str = "val"
) -> dict[str, float]:
    """Means of loss, its parts and image scores over some batches, with the EMA weights.

    Args:
        state: of training; unchanged.
        batch_of: number -> batch on the device, the same at every validation. The number also seeds the noise, so that
            values of different steps are comparable.
        count: number of batches.
        device: of this process.
        split: prefix of the names.

    Returns:
        "<split>/loss" (monitored by patience), "<split>/<part>", and "<split>/psnr" and "<split>/sharp_diff".
    """
    stage = state.current_ema
    loss = stage.loss or state.ema.loss
    sums: dict[str, float] = {}
    for i in range(count):
        batch = batch_of(i)
        noise = device.noise(seed_for(state.seed, 0, "validation", i), batch.size)
        with evaluating(state.ema), device.autocast(), noise:
            found = loss(batch, state.stage_step)
        values = {f"{split}/loss": float(found.total)} | {f"{split}/{k}": float(v) for k, v in found.parts.items()}
        if found.reduction == "sum":  # of the joint batch, which the average over processes divides by their number
            values = {name: value * device.world for name, value in values.items()}
        if stage.precompute_latents is None:
            values |= preview_scores(state, batch, split, device)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value / count
    return device.average(sums)


@torch.no_grad()
def rollout_skill(
    state: TrainState, batches: Iterable[tuple[int, Batch]], horizon: int, device: Device
) -> dict[str, float]:
    """Skill of a roll-out of the EMA weights over persistence (copy-last), on whole frames.

    Args:
        state: of training; unchanged.
        batches: (number, batch on the device) of this process's share of the clips. The number seeds the noise, so that
            values of different steps are comparable and do not depend on the number of processes.
        horizon: frames of the roll-out, those of `Batch.future`.
        device: of this process.

    Returns:
        "val/skill": 1 - sum of MSE / sum of MSE of copy-last, pooled over clips and frames; nan where nothing moves.
    """
    sums = {"model": 0.0, "copy": 0.0}
    for number, batch in batches:
        actions = state.ema.batch_actions(batch, horizon)
        generator = torch.Generator(device.device).manual_seed(seed_for(state.seed, "skill", number))
        found = rollout(state.ema, batch.context, horizon, actions, generator=generator, precision=device.precision)[0]
        sums["model"] += float((found - batch.future).double().square().mean((2, 3, 4)).sum())
        sums["copy"] += float((batch.context[:, -1:] - batch.future).double().square().mean((2, 3, 4)).sum())
    sums = device.average(sums)
    return {"val/skill": 1 - sums["model"] / sums["copy"] if sums["copy"] else float("nan")}


def windows_of(loader: Loader, seed: int, rank: int = 0, world: int = 1) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Number and (video, start) pairs of a process's batches of windows, the same at every call.

    Args:
        loader: of validation clips.
        seed: of the training.
        rank: number of the process.
        world: number of processes.
    """
    pairs = loader.windows.fixed(ROLLOUT_CLIPS, seed)
    for number in range(rank, -(-len(pairs) // ROLLOUT_BATCH), world):
        yield number, pairs[number * ROLLOUT_BATCH : (number + 1) * ROLLOUT_BATCH]


def calibrated(
    model: Predictor, config: RunConfig, source: Source, segments: Sequence[Segment], device: Device
) -> Predictor:
    """A copy of a trained model, adjusted to windows of held-out clips.

    Args:
        model: with the run's final weights; unchanged, so that a longer run equals an unbroken one.
        config: of the run.
        source: the data.
        segments: of the validation split.
        device: of this process.
    """
    model, seed = copy.deepcopy(model), config.train.seed
    request = type(model).request(config.model)
    horizon, loader = model.calibration_horizon, None
    while loader is None and horizon:
        try:
            whole = request.consecutive(model.num_context, horizon)
            loader = Loader(source, segments, whole, 1, seed, actions=config.spec.actions)
        except UserError:  # no clip is that long
            horizon //= 2
    if loader is None:
        model.calibrate(())
        return model
    with evaluating(model), device.autocast():
        model.calibrate(loader.gather(pairs).to(device.device) for _, pairs in windows_of(loader, seed))
    return model


def preview_scores(state: TrainState, batch: Batch, split: str, device: Device) -> dict[str, float]:
    """PSNR and sharpness difference of the next frames of a batch, as logged by the published multi-scale system.

    Returns:
        "<split>/psnr" in dB and "<split>/sharp_diff"; empty for a model without a preview of predictions.
    """
    shown = _preview(state, batch, device)
    if "prediction" not in shown or "truth" not in shown:
        return {}
    prediction, truth = shown["prediction"].float().cpu(), shown["truth"].float().cpu()
    return {
        f"{split}/psnr": float(psnr(prediction, truth).mean()),
        f"{split}/sharp_diff": float(sharp_diff(prediction, truth).mean()),
    }


def previews(state: TrainState, batch: Batch, device: Device, clips: int = 8) -> dict[str, np.ndarray]:
    """The model's preview of the first clips of a batch: named rows, uint8 (b, t, c, h, w).

    Floats in 0…1 are mapped to 0…255 at every step, so that previews of different steps are comparable.
    """
    shown = _preview(state, batch, device)
    return {
        name: frames[:clips].float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        for name, frames in shown.items()
    }


def side_by_side(rows: dict[str, np.ndarray]) -> list[np.ndarray]:
    """One row of images per clip: context, truth, and samples or else the prediction.

    Args:
        rows: the result of `previews`.

    Returns:
        uint8 (t, c, h, w) per clip; those of the first row if frame sizes differ.
    """
    shown = ("context", "truth", "samples" if "samples" in rows else "prediction")
    chosen = {k: v for k, v in rows.items() if k in shown} or rows
    if len({v.shape[-2:] for v in chosen.values()}) > 1:
        return list(next(iter(chosen.values())))
    return [np.concatenate(parts, axis=0) for parts in zip(*chosen.values(), strict=True)]


@torch.no_grad()
def _preview(state: TrainState, batch: Batch, device: Device) -> dict[str, Tensor]:
    noise = device.noise(seed_for(state.seed, 0, "pictures"), batch.size)  # the same samples at every step
    with evaluating(state.ema), device.autocast(), noise:
        return state.ema.preview(batch)
