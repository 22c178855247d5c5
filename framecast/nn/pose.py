"""Distance of two poses: joints, place and rotation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from framecast.nn.precision import full_precision


@full_precision
def pose_loss(prediction: Tensor, truth: Tensor, either_sign: bool = False) -> Tensor:
    """MSE of joints + MSE of position + mean of 1 - <q, q'>, q the unit quaternions of pitch and yaw.

    prediction, truth: (..., p), the last five x, y, z, pitch, yaw (radians), the others joints.  either_sign: 1 -
    |<q, q'>|; as published, q and -q, which are the same rotation, are 2 apart.
    Source: the published code's loss on the robot's pose.
    """
    ours, theirs = _quaternion(prediction[..., -2:]), _quaternion(truth[..., -2:])
    cosine = (ours * theirs).sum(-1)
    turned = 1 - (cosine.abs() if either_sign else cosine)
    joints = F.mse_loss(prediction[..., :-5], truth[..., :-5]) if truth.shape[-1] > 5 else 0.0
    return joints + F.mse_loss(prediction[..., -5:-2], truth[..., -5:-2]) + turned.mean()


def _quaternion(angles: Tensor) -> Tensor:
    """Unit quaternion (..., 4) of Euler angles (0, pitch, yaw)."""
    p, y = (angles / 2).unbind(-1)
    return torch.stack([-p.sin() * y.sin(), p.sin() * y.cos(), p.cos() * y.sin(), p.cos() * y.cos()], -1)
