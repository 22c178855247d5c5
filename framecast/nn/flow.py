"""Dense optical flow of the last step of a clip: DIS of OpenCV, and block matching without further packages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate, pad

from framecast.core.errors import imported
from framecast.nn.constants import constant

#: DIS needs frames of at least this many pixels a side; smaller ones are repeated like copy-last.
LEAST_SIDE = 12


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames sampled at displaced positions, bilinear, edges repeated.

    Args:
        frames: (b, c, h, w).
        flow: (b, 2, h, w), displacement (x, y) in px.

    Returns:
        (b, c, h, w), frames(x + flow(x)).
    """
    _, _, h, w = frames.shape
    ys, xs = torch.meshgrid(*(torch.arange(n, dtype=flow.dtype, device=flow.device) for n in (h, w)), indexing="ij")
    x = (xs + flow[:, 0]) * (2 / max(w - 1, 1)) - 1
    y = (ys + flow[:, 1]) * (2 / max(h - 1, 1)) - 1
    return grid_sample(frames, torch.stack([x, y], -1), padding_mode="border", align_corners=True)


@torch.no_grad()
def block_matching(previous: Tensor, last: Tensor, levels: int = 4, reach: int = 2, window: int = 9) -> Tensor:
    """Backward flow by matching blocks from coarse to fine.

    At every level the displacement is the one of (2 reach + 1)^2 candidates around the coarser level's with the
    smallest mean absolute difference in a window; among equals, the one nearest to the coarser level's. Each level is
    smoothed by the window and searched twice, since single wrong blocks of a coarse level are lost for all finer ones.

    Args:
        previous: frames before the last, (b, c, h, w) float 0…1.
        last: last frames, (b, c, h, w) float 0…1.
        levels: most levels of the pyramid, each half as large; fewer for small frames.
        reach: most displacement per level, in px of that level.
        window: side of the blocks in px, odd.

    Returns:
        (b, 2, h, w) float, displacement (x, y) in px with last(x) ≈ previous(x + flow).
    """
    pairs = [(previous.float().mean(1, keepdim=True), last.float().mean(1, keepdim=True))]
    while len(pairs) < levels and min(pairs[-1][0].shape[2:]) >= 4 * window:
        pairs.append((avg_pool2d(pairs[-1][0], 2), avg_pool2d(pairs[-1][1], 2)))
    flow = pairs[-1][0].new_zeros(len(last), 2, *pairs[-1][0].shape[2:])
    offsets = [(x, y) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1)]
    moves = constant(sorted(offsets, key=lambda o: o[0] ** 2 + o[1] ** 2), flow)
    for before, after in reversed(pairs):
        if flow.shape[2:] != before.shape[2:]:
            flow = 2 * interpolate(flow, size=before.shape[2:], mode="bilinear", align_corners=False)
        for _ in range(2):
            flow = _mean(flow, window // 2)
            costs = []
            for i, move in enumerate(moves):
                difference = (warp(before, flow + move.view(1, 2, 1, 1)) - after).abs()
                # the small term decides where a block has no texture: no displacement of its own
                costs.append(_mean(difference, window // 2) + 1e-4 * (i > 0))
            flow = flow + moves[torch.cat(costs, 1).argmin(1)].permute(0, 3, 1, 2)
    return flow


def _mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the square of pixels around each, edges repeated."""
    return avg_pool2d(pad(x, [radius] * 4, mode="replicate"), 2 * radius + 1, 1)


def opencv() -> Any:
    """The OpenCV module.

    Raises:
        UserError: where the extra `flow` is not installed.
    """
    install = "pip install 'framecast[flow]' (opencv 5 needs numpy 2)"
    return imported("cv2", f"linear-flow needs OpenCV, which is not installed: {install}")


def backward_flow(previous: Tensor, last: Tensor) -> Tensor:
    """Optical flow from the last frames back to the ones before.

    Args:
        previous: frames before the last, (b, c, h, w) float 0…1.
        last: last frames, (b, c, h, w) float 0…1.

    Returns:
        (b, 2, h, w) float, displacement (x, y) in px with last(x) ≈ previous(x + flow); zeros for frames of fewer than
        12 px a side, which the method cannot take.
    """
    b, _, h, w = last.shape
    if min(h, w) < LEAST_SIDE:
        return last.new_zeros(b, 2, h, w)
    cv2 = opencv()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one clip is too small to share, and other processes use the cores
    try:
        method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = [method.calc(a, b, None) for a, b in zip(_grey(last), _grey(previous), strict=True)]
    finally:
        cv2.setNumThreads(threads)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).to(last)


def _grey(frames: Tensor) -> list[np.ndarray]:
    """Frames (b, c, h, w) in 0…1 as uint8 (h, w), the mean of their channels."""
    return list((frames.mean(1) * 255).round().clamp(0, 255).byte().cpu().numpy())
