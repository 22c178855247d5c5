"""The baseline of Xue et al. 2016 that copies the optical flow of one of the nearest training images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from framecast.data.base import Segment, Source
from framecast.evaluation.motion import Sampler, first_frame
from framecast.media.draw import FULL, MOVERS, SCENE_SIDE, coverage
from framecast.metrics.displacement import KINDS, SceneTruth

#: Training images that the baseline searches, and nearest ones it copies from.
_DONORS, _NEIGHBOURS = 2000, 10


def flow_baseline(source: Source, train: Sequence[Segment], size: tuple[int, int]) -> Sampler:
    """The sampler that copies the flow of one of the nearest training images, chosen at random.

    Args:
        source: Training data.
        train: Training pairs, of which the first 2000 are searched; nearest by squared difference at an eighth of the
            size.
        size: (h, w) of the frames.
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


def flow_copy(frame: Tensor, donors: Iterable[tuple[SceneTruth, Mapping[str, int]]]) -> Tensor:
    """Frames (n, 3, h, w) 0…1 made by moving the pixels of `frame` as those of other scenes moved.

    Args:
        frame: (3, h, w) 0…1.
        donors: Scenes with their motions along the own axes, such as the nearest training pairs. Their flow is exact,
            from the known scenes.

    Source: the baseline "flow" of section 5.1 of the paper.
    """
    _, height, width = frame.shape
    rows, columns = np.mgrid[0:height, 0:width]
    out = []
    for scene, motions in donors:
        flow = np.zeros((2, height, width))  # x, y, px of the frame
        for k, kind in enumerate(KINDS):
            outline, direction = MOVERS[kind]
            centre = (float(scene.position[k, 0]), float(scene.position[k, 1]))
            covered = coverage(height, width, outline, centre, float(scene.extent[k]))
            for axis in (0, 1):
                flow[axis][2 * covered >= FULL] = motions[kind] * direction[axis] * height / SCENE_SIDE
        source = np.stack([rows - flow[1], columns - flow[0]])
        y = np.clip(np.rint(source[0]), 0, height - 1).astype(np.int64)
        x = np.clip(np.rint(source[1]), 0, width - 1).astype(np.int64)
        out.append(frame[:, torch.from_numpy(y), torch.from_numpy(x)])
    return torch.stack(out)


def _small(frame: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(frame, max(1, frame.shape[-1] // 8))
