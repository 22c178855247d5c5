"""Why a model is not above copy-last at the first frame: what stands in its way, in figures.

Three frames need no foresight: the truth brought to the model's own size and back; the truth squeezed through the
model's own latent; and, where a forecast is a residual on a frame that was seen, that frame. Each is scored like a
forecast in the moving area. What lies below copy-last there cannot be made good by predicting better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from framecast.data.base import Source
from framecast.evaluation.clips import Clips, spread_clips
from framecast.metrics.clips import MetricSettings, moving_masks
from framecast.metrics.frames import masked_psnr
from framecast.models.autoencoders.predictor import Autoencoder
from framecast.models.base import Predictor
from framecast.models.latent import LatentModel
from framecast.models.visual_dynamics.predictor import VisualDynamics
from framecast.training.run_folder import Run

#: The two reported frames: the first, and the end of an autoencoder's first block.
REPORTED = (1, 5)


def obstacles(runs: Mapping[str, Run], source: Source, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Row -> frame -> PSNR in the moving area, dB, of what the module's head lists, and of copy-last.

    source: at the size that is compared.  count: clips of the test split.
    """
    clips, _ = spread_clips(source, source.splits(11)["test"], "test", 10, max(REPORTED), count, 0)
    models = {name: run.model() for name, run in runs.items()}
    return {name: _of(model, runs[name], clips) for name, model in models.items()}


@torch.no_grad()
def _of(model: Predictor, run: Run, clips: Clips) -> dict[str, dict[str, float]]:
    request = type(model).request(run.config.model)
    scores: dict[str, dict[str, list[float]]] = {str(k): {} for k in REPORTED}
    for given in clips:
        batch = given.to("cpu")  # as a model gets them: floats in 0…1
        context, truth = batch.context, batch.future
        own = request.resize or tuple(context.shape[-2:])
        seen = _sized(context, own)[:, -model.num_context :]
        rows = {"copy-last": context[:, -1:].expand_as(truth)}
        if own != tuple(context.shape[-2:]):
            rows["resized and back"] = _sized(_sized(truth, own), tuple(truth.shape[-2:]))
        if isinstance(model, Autoencoder) and model.config.residual and model.config.memory == "none":
            rows["the frame it is drawn upon"] = context[:, -model.config.shift :]
        elif isinstance(model, LatentModel) and not isinstance(model, Autoencoder | VisualDynamics):
            rows["through its own code"] = _sized(_coded(model, seen, _sized(truth, own)), tuple(truth.shape[-2:]))
        masks = moving_masks(truth, context[:, -1], MetricSettings())
        for name, frames in rows.items():
            values = masked_psnr(frames.double(), truth.double(), masks)
            for k in REPORTED:
                scores[str(k)].setdefault(name, []).extend(values[:, k - 1].tolist())
    return {k: {name: _mean(v) for name, v in found.items()} for k, found in scores.items()}


def _coded(model: LatentModel, seen: Tensor, truth: Tensor) -> Tensor:
    """The true frames after encoder and decoder, one at a time as the decoder would draw them."""
    return model.decode(model.encode(truth), seen)


def _sized(frames: Tensor, size: tuple[int, ...]) -> Tensor:
    """(b, t, c, h, w) by the triangle filter that resizes all frames of the package."""
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    made = interpolate(frames.flatten(0, 1), size=tuple(size), mode="bilinear", antialias=True)
    return made.clamp(0, 1).unflatten(0, frames.shape[:2])


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else math.nan
