"""Resizing of clips: frames together with the labels that depend on their size, masks and joints.

Joints are (x, y) in -1…1: -1 is the left and upper edge of the frame, 1 the right and lower one, so stretching a frame
leaves them unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from framecast.media.resize import Fit, Placement, Size, placement, resize_frames

#: Names of the per-frame arrays with one label per pixel, and with points.
MASKS, JOINTS = "masks", "joints"


def joints_from_pixels(joints: np.ndarray, height: int, width: int) -> np.ndarray:
    """Points as float32 in -1…1, from points (..., 2) in px with (0, 0) at the upper left corner of the frame."""
    scaled: np.ndarray = (2 * joints / np.array([width, height]) - 1).astype(np.float32)
    return scaled


def resize_clip(
    frames: np.ndarray, arrays: Mapping[str, np.ndarray], size: Size, fit: Fit = "squash"
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames and per-frame arrays at `size`; the given ones where it is None.

    Args:
        frames: uint8 (t, c, h, w).
        arrays: Per-frame arrays by name, (t, …).
        size: See `media.resize`.
        fit: See `media.resize`.
    """
    if size is None:
        return frames, dict(arrays)
    return resize_frames(frames, size, fit), resize_labels(arrays, frames.shape[2], frames.shape[3], size, fit)


def resize_labels(
    arrays: Mapping[str, np.ndarray], height: int, width: int, size: Size, fit: Fit = "squash"
) -> dict[str, np.ndarray]:
    """Per-frame arrays that match frames of height x width after `media.resize.resize_frames`.

    Masks (t, h, w) use the nearest pixel, so labels are not mixed; points (t, joints, 2) follow cropping and padding.
    All other arrays are unchanged.
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
