"""Noise as a function of a seed in each row of a batch: no row depends on the others, nor on the size of the batch.

A generator of torch gives the noise of a whole batch, on one kind of device, and its seed must be a number of the host.
Here seeds are a tensor on the device, so noise needs no transfer, and a row has the same noise in every batch.

Source:
    Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (SplitMix64); Box, Muller 1958.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Odd constants of SplitMix64, as signed 64-bit numbers; products wrap around.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
#: Random bits of a uniform number: with 23 the middle of every interval is a float32 inside (0, 1).
_BITS = 23


def row_uniform(seed: Tensor, tick: Tensor, shape: tuple[int, ...], draw: int = 0) -> Tensor:
    """Uniform noise of every row.

    Args:
        seed: (rows,) int64, of each row.
        tick: (rows,) int64, step of each row's roll-out, at least 0; other steps have other noise.
        shape: of one row's noise.
        draw: number of this noise within the step, at least 0; other draws have other noise.

    Returns:
        (rows, *shape) float32 above 0 and below 1, on the device of the seeds.
    """
    key = _mixed(_mixed(_mixed(seed) + tick) + draw)
    counters = torch.arange(1, math.prod(shape) + 1, device=seed.device) * _STEP
    bits = _shifted(_mixed(key[:, None] + counters), 64 - _BITS)
    return ((bits.float() + 0.5) * 2.0**-_BITS).reshape(len(seed), *shape)


def row_normal(seed: Tensor, tick: Tensor, shape: tuple[int, ...], draw: int = 0) -> Tensor:
    """Noise of N(0, 1) of every row, at most 5.8 from 0; arguments and result as of `row_uniform`."""
    radius, angle = row_uniform(seed, tick, (2, *shape), draw).unbind(1)
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x >> bits, filled with zeros; torch fills with the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
