"""What lies beside frames and changes with their size: masks, and joints in image coordinates.

Joints are (x, y) in -1…1: -1 is the left and upper edge of the frame, 1 the right and lower one, so a frame that is
stretched leaves them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from framecast.media.resize import Fit, Placement, Size, placement

#: Per-frame arrays that hold a label for every pixel, and those that hold points.
MASKS, JOINTS = "masks", "joints"


def joints_from_pixels(joints: np.ndarray, height: int, width: int) -> np.ndarray:
    """Points (..., 2) in px, (0, 0) the upper left corner of the frame, as float32 in -1…1."""
    scaled: np.ndarray = (2 * joints / np.array([width, height]) - 1).astype(np.float32)
    return scaled


def resize_labels(
    arrays: Mapping[str, np.ndarray], height: int, width: int, size: Size, fit: Fit = "squash"
) -> dict[str, np.ndarray]:
    """Per-frame arrays as they belong to frames of height x width after `media.resize.resize_frames`.

    Masks (t, h, w) take the nearest pixel, so no label is mixed with another; points (t, joints, 2) move with what is
    cut off or padded. Everything else passes.
    """
    plan, found = placement(height, width, size, fit), dict(arrays)
    masks, joints = arrays.get(MASKS), arrays.get(JOINTS)
    if masks is not None and masks.ndim == 3 and masks.shape[1:] == (height, width):
        found[MASKS] = np.ascontiguousarray(plan.settle(_nearest(masks, plan.scaled)))
    if joints is not None and joints.ndim == 3 and joints.shape[2] == 2:
        found[JOINTS] = _moved(joints, plan)
    return found


def _nearest(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if masks.shape[1:] == size:
        return masks
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows][:, :, columns]


def _moved(joints: np.ndarray, plan: Placement) -> np.ndarray:
    if plan.scaled == plan.out:
        return joints
    scaled, out = np.array(plan.scaled[::-1]), np.array(plan.out[::-1])
    pixels = (joints + 1) / 2 * scaled - np.array([plan.left, plan.top])
    moved: np.ndarray = (2 * pixels / out - 1).astype(joints.dtype)
    return moved
