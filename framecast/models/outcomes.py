"""Protocol of models that predict rewards and ends beside frames, for `framecast world` and `framecast play`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from framecast.models.base import RolloutState


@runtime_checkable
class OutcomeModel(Protocol):
    """A model whose rollout state holds the outcomes of the last step."""

    @property
    def outcome_names(self) -> tuple[str, ...]:
        """Entries of the state, (b,) each: `reward` (its value), `terminated` and `truncated` (probabilities)."""

    def observe(self, state: RolloutState, frame: Tensor, action: Tensor | None = None) -> RolloutState:
        """The next state where the true next frame (b, c, h, w) is known, with the outcomes predicted for this step."""
