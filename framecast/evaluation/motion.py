"""Distribution of sampled motions: displacements of shapes in samples of the next frame, beside the true ones.

For data whose scenes are known (source `shapes`); the metric is in `metrics/displacement.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.data.base import Segment, Source
from framecast.media.resize import resize_frames
from framecast.metrics.contours import second_contours
from framecast.metrics.displacement import KINDS, Displacements, SceneTruth
from framecast.models.base import Predictor
from framecast.models.latent import MotionLatentModel
from framecast.models.rollout import evaluating

#: Samples drawn of each image.
SAMPLES = 20
#: A next-frame sampler: images (b, 1, 3, h, w) 0…1, samples, generator -> (s, b, 3, h, w).
Sampler = Callable[[Tensor, int, torch.Generator], Tensor]


def knows_scenes(source: Source) -> bool:
    """Whether the source provides the scene and motion of every pair."""
    wanted = {"position", "extent", "colour", "ground"}
    return wanted <= set(source.spec.extras) and source.meta().get("kinds") == list(KINDS)


def true_motions(source: Source) -> dict[str, list[int]]:
    """Motion along the own axis by kind, px of 128, of all pairs of the source: its true distribution."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for i in range(len(source)):
        for kind, step in source.clip(i, 0, 1).meta["motion"].items():
            found[kind].append(step)
    return found


def samplers(model: Predictor) -> dict[str, Sampler]:
    """Samplers of a model's next frames by name: one per prior of a motion latent model, else its prediction."""

    def predicted(frames: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        return model.predict(frames, 1, samples=samples, generator=generator)[:, :, 0]

    if not isinstance(model, MotionLatentModel):
        return {"samples": predicted}

    def drawn_from(prior: str) -> Sampler:
        def drawn(frames: Tensor, samples: int, generator: torch.Generator) -> Tensor:
            z = model.draw(samples * len(frames), prior, generator)
            again = frames.repeat(samples, 1, 1, 1, 1)
            out: Tensor = model.decode(z[:, None], again)[:, 0].unflatten(0, (samples, len(frames)))  # type: ignore[no-untyped-call]
            return out

        return drawn

    found = {"normal": drawn_from("normal")}
    try:
        model.draw(1, "posterior")
    except UserError:
        return found
    return {**found, "posterior": drawn_from("posterior")}


@torch.no_grad()
def measure_motions(
    sampler: Sampler,
    source: Source,
    segments: Sequence[Segment],
    size: tuple[int, int],
    motions: Mapping[str, Sequence[int]],
    samples: int = SAMPLES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """`Displacements.summary` of samples of the next frame of some pairs' first frames, and second contours.

    Of each kind also doubled: the share of the detected ones with a second contour (`metrics/contours.py`); of all,
    doubled: the share of samples in which any shape has one.

    Args:
        sampler: Next-frame sampler.
        source: Data of the pairs.
        segments: The pairs.
        size: (h, w) of the sampler's input.
        motions: See `true_motions`.
        samples: Per image.
        seed: Random seed of the samples.
        device: Device of the sampler.
    """
    gathered, doubled = Displacements(), []
    generator = torch.Generator(torch.device(device)).manual_seed(seed)
    for segment in segments:
        frame, scene = first_frame(source, segment, size)
        drawn = sampler(frame[None, None].to(device), samples, generator)[:, 0].cpu()
        gathered.add(drawn, scene)
        doubled.append(second_contours(drawn, scene, *gathered.images[-1]))
    summary = gathered.summary(motions)
    found = np.concatenate([seen for _, seen in gathered.images])
    twice = np.concatenate(doubled)
    for k, kind in enumerate(KINDS):
        seen = found[:, k]
        summary["shapes"][kind]["doubled"] = float(twice[seen, k].mean()) if seen.any() else None
    summary["doubled"] = float(twice.any(1).mean())
    return summary


def first_frame(source: Source, segment: Segment, size: tuple[int, int]) -> tuple[Tensor, SceneTruth]:
    """The first frame of a pair at a size, (3, h, w) 0…1, and its scene, in px of that size."""
    clip = source.clip(segment.video, segment.start, 1)
    scene = SceneTruth.from_arrays(clip.arrays)
    scale = size[0] / clip.frames.shape[-2]
    frames = clip.frames if scale == 1 else resize_frames(clip.frames, size)
    scene = SceneTruth(scene.position * scale, scene.extent * scale, scene.colour, scene.ground)
    return torch.from_numpy(np.array(frames[0])).float() / 255, scene


def motions_of_model(
    model: Predictor,
    source: Source,
    segments: Sequence[Segment],
    samples: int = SAMPLES,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Statistics for each sampler of the model, by name; see `samplers` and `measure_motions`."""
    resize = model.request(model.config).resize
    size = resize or (source.spec.height, source.spec.width)
    motions = true_motions(source)
    with evaluating(model):
        return {
            name: measure_motions(sampler, source, segments, size, motions, samples, seed, device)
            for name, sampler in samplers(model).items()
        }
