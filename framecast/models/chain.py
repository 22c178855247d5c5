"""Declaration of a chain of trainings: a profile that is trained in several runs, each from the weights of the last."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Link:
    """One training of a chain.

    Attributes:
        name: lower-case letters, digits and hyphens; its run folder is named by it.
        length: steps or epochs, in the unit of the chain; also its share of another number of them.
        seconds: its share of a time budget, for example measured seconds; 0 takes `length`.
        model: what it changes in the model's config, by field; "optim.lr" is a field of its optimiser.
        train: what it changes in the training settings, by field, such as batch_size.
    """

    name: str
    length: float
    seconds: float = 0.0
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, config: Any) -> Any:
        """The model's config with the changes of this link.

        Raises:
            UserError: a value that the config refuses.
        """
        inner = {name.removeprefix("optim."): v for name, v in self.model.items() if name.startswith("optim.")}
        own = {name: v for name, v in self.model.items() if not name.startswith("optim.")}
        if inner:
            own["optim"] = dataclasses.replace(config.optim, **inner)
        return dataclasses.replace(config, **own)

    def settings(self) -> set[str]:
        """Names of what it changes, as in config.json: model.mode, train.batch_size."""
        return {f"model.{name}" for name in self.model} | {f"train.{name}" for name in self.train}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Trainings that follow one another, each from the weights of the one before.

    Attributes:
        base: profile whose settings the links change.
        unit: of the links' lengths.
        links: first to last; the weights of the last are those of the profile.
    """

    base: str
    unit: Literal["steps", "epochs"]
    links: tuple[Link, ...]

    @property
    def total(self) -> float:
        """Steps or epochs of all links."""
        # rounded, so that a sum such as 5 + 2.4 is the number that a user would write
        return round(sum(link.length for link in self.links), 9)

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the links with their numbers: 1-drawn, 2-rolled, …"""
        return tuple(f"{number}-{link.name}" for number, link in enumerate(self.links, 1))

    def fixed(self) -> set[str]:
        """Names of settings that every link changes, so that a user's value has no effect."""
        return set.intersection(*(link.settings() for link in self.links))

    def lengths(self, unit: str, amount: float) -> list[float]:
        """The length of every link, of `amount` steps, epochs or seconds of all together.

        Args:
            unit: "steps", "epochs" or "budget" (seconds).
            amount: above 0; the total of the chain gives the lengths as they are declared.

        Returns:
            Steps are whole, at least one for each link, and their sum is `amount` if that leaves one for each.
        """
        shares = [(link.seconds if unit == "budget" else 0) or link.length for link in self.links]
        if unit != "steps":
            factor = amount / (self.total if unit == self.unit else sum(shares))
            return [share * factor for share in shares]
        ends = [0, *(round(amount * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares)))]
        return [max(1, after - before) for before, after in itertools.pairwise(ends)]
