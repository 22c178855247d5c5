"""Are sampled motions the true ones? Displacements of shapes in many samples of many pictures, beside the true law.

For data whose scenes are known (source `shapes`); the measure itself is `metrics/displacement.py`.
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
from framecast.metrics.displacement import KINDS, Displacements, SceneTruth, flow_copy
from framecast.models.base import MotionLatentModel, Predictor
from framecast.models.rollout import evaluating

#: Samples drawn of each picture.
SAMPLES = 20
#: Training pictures among which the baseline looks for neighbours, and neighbours it copies from.
_DONORS, _NEIGHBOURS = 2000, 10
#: A next-frame sampler: pictures (b, 1, 3, h, w) 0…1, samples, generator -> (s, b, 3, h, w).
Sampler = Callable[[Tensor, int, torch.Generator], Tensor]


def knows_scenes(source: Source) -> bool:
    """Whether the source says of every pair what was drawn and how it moved."""
    wanted = {"position", "extent", "colour", "ground"}
    return wanted <= set(source.spec.extras) and source.meta().get("kinds") == list(KINDS)


def true_motions(source: Source) -> dict[str, list[int]]:
    """Motion along the own axis by kind, px of 128, of all pairs of the source: its law, as sharp as it is known."""
    found: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for i in range(len(source)):
        for kind, step in source.clip(i, 0, 1).meta["motion"].items():
            found[kind].append(step)
    return found


def samplers(model: Predictor) -> dict[str, Sampler]:
    """How a model's next frames are drawn, by name: from each of its priors, where codes are motions and some are
    stored; else simply as it predicts."""

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
    """`Displacements.summary` of samples of the next frame of some pairs' first frames.

    Args:
        segments: The pairs.
        size: (h, w) the sampler wants.
        motions: See `true_motions`.
    """
    gathered = Displacements()
    generator = torch.Generator(torch.device(device)).manual_seed(seed)
    for segment in segments:
        frame, scene = first_frame(source, segment, size)
        gathered.add(sampler(frame[None, None].to(device), samples, generator)[:, 0].cpu(), scene)
    return gathered.summary(motions)


def first_frame(source: Source, segment: Segment, size: tuple[int, int]) -> tuple[Tensor, SceneTruth]:
    """The first frame of a pair at a size, (3, h, w) 0…1, and what it shows, in px of that size."""
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
    """Figures for each way the model's next frames are drawn, by its name; see `samplers` and `measure_motions`."""
    resize = model.request(model.config).resize
    size = resize or (source.spec.height, source.spec.width)
    motions = true_motions(source)
    with evaluating(model):
        return {
            name: measure_motions(sampler, source, segments, size, motions, samples, seed, device)
            for name, sampler in samplers(model).items()
        }


def flow_baseline(source: Source, train: Sequence[Segment], size: tuple[int, int]) -> Sampler:
    """The sampler that copies the flow of one of the nearest training pictures, chosen at random.

    Args:
        train: Of which the first so many are looked through; nearest by squared difference at an eighth of the size.
    """
    donors = []
    for segment in train[:_DONORS]:
        frame, scene = first_frame(source, segment, size)
        donors.append((_small(frame), scene, source.clip(segment.video, 0, 1).meta["motion"]))
    small = torch.stack([frame for frame, _, _ in donors])

    def copied(frames: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        out = []
        for frame in frames[:, -1].cpu():
            near = (small - _small(frame)).square().sum((1, 2, 3)).argsort()[:_NEIGHBOURS]
            chosen = near[torch.randint(len(near), (samples,), generator=generator, device=generator.device).cpu()]
            out.append(flow_copy(frame, [donors[int(i)][1:] for i in chosen]))
        return torch.stack(out, 1)

    return copied


def _small(frame: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(frame, max(1, frame.shape[-1] // 8))
