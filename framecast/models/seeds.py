"""Seeds in the state of a roll-out, and the noise of a step made from them.

A state holds tensors only and must be storable: it holds a seed of each row and the number of steps, not a generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from framecast.nn.noise import row_normal, row_uniform

#: Source of randomness: one generator for all clips, or a list with one of each clip, with which the futures of a clip
#: do not depend on the other clips; None is torch's own.
Generators = torch.Generator | Sequence[torch.Generator] | None


def new_seed(rows: int, generator: Generators, like: Tensor) -> dict[str, Tensor]:
    """Entries `seed` and `tick` of a rollout state, (rows,) int64 each: a random seed of each row, and 0 steps.

    Args:
        rows: samples and clips, ordered `(s b)`.
        generator: source of randomness, one or a list of b.
        like: a tensor on the device of the state.
    """
    if torch.compiler.is_compiling():  # an exported graph gets its seeds as an input
        zeros = torch.zeros(rows, dtype=torch.int64, device=like.device)
        return {"seed": zeros, "tick": zeros}
    each = generator if isinstance(generator, Sequence) else [generator]
    seeds = [
        torch.randint(2**62, (rows // len(each),), generator=g, device="cpu" if g is None else g.device) for g in each
    ]
    seed = torch.stack(seeds, 1).flatten().to(like.device)
    return {"seed": seed, "tick": torch.zeros_like(seed)}


def next_tick(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of the state, one step further in its noise if it has any."""
    return {**state, "tick": state["tick"] + 1} if "tick" in state else dict(state)


def step_normal(state: dict[str, Tensor], shape: tuple[int, ...], draw: int = 0) -> Tensor:
    """Noise of N(0, 1) of the step that follows `state`, (rows, *shape), of each row by its own seed.

    Args:
        state: with the entries of `new_seed`.
        shape: of one row's noise.
        draw: number of this noise within the step.
    """
    return row_normal(state["seed"], state["tick"], shape, draw)


def step_uniform(state: dict[str, Tensor], shape: tuple[int, ...], draw: int = 0) -> Tensor:
    """Like `step_normal`, uniform in 0…1, both excluded."""
    return row_uniform(state["seed"], state["tick"], shape, draw)


def step_generators(state: dict[str, Tensor]) -> list[torch.Generator]:
    """Generators of each row for the step that follows `state`, where `predict` needs them; reads the device once."""
    seeds = (state["seed"] + state["tick"]).tolist()
    return [torch.Generator(state["seed"].device).manual_seed(seed) for seed in seeds]
