"""Losses and measures of hierarchical long-term prediction, arXiv 1806.04768: encodings, poses, critic, PSNR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framecast.core.types import Loss
from framecast.nn.losses import bce
from framecast.nn.precision import full_precision, widen


def psnr(prediction: Tensor, truth: Tensor, pooled: bool = False) -> Tensor:
    """PSNR in dB of images in 0…1, scalar: the mean over images, or as published, pooled over the batch and averaged
    over time.

    Args:
        prediction: (b, t, c, h, w). Capped at 100 dB.
        truth: (b, t, c, h, w). Capped at 100 dB.
    """
    error = (widen(prediction) - truth).square().mean((2, 3, 4))
    error = error.mean(0) if pooled else error
    return -10 * error.clamp_min(1e-10).log10().mean()


def encoding_loss(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """Distance of predicted and true encodings; the true ones are not detached, so they become predictable too.

    Args:
        predicted: (b, t, E).
        target: true encodings of the same frames, (b, t, E).
        kind: "l2", "l1", "relative" or "whitened", see `HierarchicalConfig.encoding_loss`.
    """
    difference = predicted - target
    moves = (target - target.mean(1, keepdim=True)).flatten(0, 1)
    if kind == "relative":
        return difference.square().mean() / moves.square().mean().clamp_min(1e-8)
    if kind == "whitened":
        covariance = moves.T @ moves / len(moves)
        least = 1e-3 * covariance.diagonal().mean().clamp_min(1e-8)
        covariance = covariance + least * torch.eye(len(covariance), device=covariance.device)
        flat = difference.flatten(0, 1)
        counted: Tensor = torch.linalg.solve(covariance, flat.T)
        return (flat * counted.T).mean()
    return difference.square().mean() if kind == "l2" else difference.abs().mean()


def psnr_parts(name: str, images: Tensor, truth: Tensor, head: int) -> dict[str, Tensor]:
    """PSNR in dB of images, by name: of the forecast, pooled over the batch, and of the context if it has frames.

    Args:
        name: prefix of the names.
        images: (b, t, c, h, w) in 0…1.
        truth: the true images, of the same shape.
        head: number of images that belong to the context.
    """
    found = {
        f"{name}_forecast": psnr(images[:, head:], truth[:, head:]),
        f"{name}_pooled": psnr(images, truth, pooled=True),
    }
    return {**found, f"{name}_context": psnr(images[:, :head], truth[:, :head])} if head else found


def as_loss(total: Tensor | None = None, **parts: Tensor) -> Loss:
    """A loss and its terms; a single term is the total."""
    found = next(iter(parts.values())) if total is None else total
    return Loss(found, {name: part.detach() for name, part in parts.items()})


def critic_sequences(structure: nn.Module, encodings: Tensor, predicted: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """True and generated sequences of structures, (b, t, E + both taps) each.

    Args:
        structure: the `StructureEncoder` that makes the taps.
        encodings: true encodings, (b, t, E).
        predicted: predicted encodings of frames 1 to t - 1.
        context: true encodings at the head of the generated sequence.
    """
    fake = torch.cat([encodings[:, :context], predicted[:, context - 1 :]], 1)
    b = len(encodings)
    flat = torch.cat([encodings, fake]).flatten(0, 1)
    maps = [widen(tap).flatten(1) for tap in structure(flat)]
    both = torch.cat([flat, *maps], -1).reshape(2 * b, encodings.shape[1], -1)
    return both[:b], both[b:]


def critic_gap(critic: nn.Module, real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Loss of the critic without its penalty.

    Args:
        critic: scores (b,) of sequences (b, t, features).
        real: true sequences.
        fake: generated sequences.
        kind: "wgan-gp", or "gan" for the cross-entropy with true labels smoothed to 0.875.
    """
    r, f = critic(torch.cat([real, fake])).chunk(2)
    if kind == "gan":
        return bce(r, 0.875) + bce(f, 0.0)
    gap: Tensor = f.mean() - r.mean()
    return gap


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (|gradient of the score| - 1)^2 at a random point between each pair of sequences (b, t, features).

    Source:
        Gulrajani et al. 2017 (arXiv 1704.00028), equation 3.
    """
    share = torch.rand(len(real), 1, 1, device=real.device)
    point = (real + share * (fake - real)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(point).sum(), point, create_graph=True)
    return ((slope.square().sum((1, 2)) + 1e-10).sqrt() - 1).square().mean()


@full_precision
def pose_loss(prediction: Tensor, truth: Tensor, either_sign: bool = False) -> Tensor:
    """MSE of joints + MSE of position + mean of 1 - <q, q'>, q the unit quaternions of pitch and yaw.

    Args:
        prediction: (..., p), the last five x, y, z, pitch, yaw (radians), the others joints.
        truth: (..., p), the last five x, y, z, pitch, yaw (radians), the others joints.
        either_sign: 1 - |<q, q'>|; as published, q and -q, which are the same rotation, are 2 apart.

    Source:
        The published code's loss on the robot's pose.
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
