"""Configuration and profiles of the categorical family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from framecast.core.config import require_above, require_choices, require_least, require_share
from framecast.core.errors import UserError
from framecast.models.categorical.regions import MOST_REGIONS, Region


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay over the run."""

    lr: float = 2e-3
    """Largest learning rate, above 0."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the two averages, each in 0…1."""
    weight_decay: float = 0.01
    """Decoupled weight decay, at least 0."""
    warmup: int = 100
    """Steps of linear warm-up, at least 0."""
    clip: float = 1.0
    """Bound on the norm of all gradients together, above 0."""

    def __post_init__(self) -> None:
        require_least(self, "optim.", weight_decay=0, warmup=0)
        require_above(self, "optim.", "lr", "clip")
        require_share(self, "optim.", "betas", open_end=True)


@dataclass(frozen=True, kw_only=True)
class CategoricalConfig:
    """Palette, inputs, network, training and decoding; every option can be turned off for an ablation."""

    # --- palette
    colours: int = 16
    """Largest number of colours, 2 to 64."""
    palette: tuple[tuple[int, int, int], ...] = ()
    """RGB colours, 0…255 each; empty: found in the training data."""
    regions: tuple[Region, ...] = ()
    """Boxes in which a colour is a class of its own, each red, green, blue, top, left, bottom, right (px, the last two
    excluded): a ball that shares its colour with bricks or a paddle is distinguished from them by its place."""
    areas: tuple[int, ...] = ()
    """Largest area of each colour of the palette in a frame, px (99.9th percentile); empty: measured in the training
    data."""
    least_areas: tuple[int, ...] = ()
    """Smallest area of each colour in a frame that has it, px (1st percentile); empty: measured in the data."""
    usual_areas: tuple[tuple[int, ...], ...] = ()
    """Areas in which each colour is drawn, px, ascending; empty: measured in the training data. A colour without any is
    drawn in every area from its smallest to its largest."""
    extents: tuple[tuple[int, int], ...] = ()
    """Height and width of the largest box around each colour, px (99.9th percentile); empty: measured in the training
    data."""
    presence: tuple[float, ...] = ()
    """Share of frames that show each colour, 0…1; empty: measured in the training data for `background`."""
    palette_error: float = 12.0
    """Largest mean distance of a pixel from its colour in the palette, in levels of 255, at least 0; other frames are
    refused."""
    # --- inputs
    history: int = 40
    """Number of context frames, of which traces and clocks are made, at least `frames`."""
    frames: int = 4
    """Number of newest frames that the network sees whole, at least 1."""
    traces: tuple[float, ...] = (0.75, 0.96)
    """Decay per frame of the traces of each colour at each pixel, each in 0…1; empty for none."""
    clock: int = 64
    """Number of frames, at most `history`, up to which the time since a colour came or left is exact; 0 for none."""
    background: bool = False
    """The scene without its objects as an input: the newest colour of each pixel among those of more than `rare_area`
    px that at least half of the frames show. A dot that a sprite covers is known when the sprite leaves."""
    positions: bool = True
    """Learned maps of position at every level: in an empty field nothing else shows where a pixel is."""
    actions_seen: int = 4
    """Number of last actions that condition the network, at least 1."""
    # --- network
    widths: tuple[int, int, int] = (32, 64, 112)
    """Channels at half, a quarter and an eighth of the frame's sides."""
    blocks: tuple[int, int, int] = (1, 1, 2)
    """Residual blocks at each level; the first two numbers count twice, once on the way down and once up."""
    condition: int = 96
    """Size of the vector of actions and clocks."""
    copy_logit: float = 4.0
    """Initial logit of the last frame's colour, at least 0."""
    # --- training
    recursion: int = 8
    """Number of target frames of a training window, and at last of own frames in a row that are fed back, at least
    1; 1 trains on true frames only."""
    recursion_ramp: float = 0.5
    """Fraction of the run in which recursion grows from 1 to its full length, in 0…1."""
    reset_pixels: int = 14
    """A sample returns to the true frames once more pixels than this differ; 0 turns the return off. Below twice the
    area of the smallest object that chance can put elsewhere, or the network learns to expect it where it is not."""
    reset_presence: bool = True
    """A sample also returns once it shows a colour that the true frame lacks, or the reverse: a ball that comes at the
    wrong time sets back the clock of its colour, after which no time of a serve can be predicted."""
    change_weight: float = 20.0
    """Additional weight of pixels around those that changed lately or in the target, at least 0."""
    flips: float = 5e-4
    """Fraction of the context's pixels that get a random colour, in half of the clips, in 0…1."""
    erase: float = 0.0
    """Fraction of fed-back frames from which an object is taken in training, for one frame or several, in 0…1: a world
    that has lost an object learns to bring it back."""
    events: tuple[str, ...] = ()
    """Per-frame arrays whose changes are events, near which some training windows end."""
    event_share: float = 0.5
    """Fraction of training windows near an event, in 0…1."""
    # --- outcomes
    outcomes: Literal["auto", "none"] = "auto"
    """Heads for the arrays rewards, terminated and truncated where the data have them."""
    reward_values: tuple[float, ...] = ()
    """Different rewards of the training data, ascending; empty: read from the data."""
    flags: tuple[str, ...] = ()
    """Arrays among terminated and truncated that are predicted; empty: those of the data."""
    outcome_weight: float = 0.1
    """Weight of the outcomes' cross entropies in the loss, at least 0."""
    # --- decoding
    decoding: Literal["expected-area", "argmax"] = "expected-area"
    """Choice of colours at temperature 0."""
    rare_area: int = 64
    """Largest area, px, of a colour that is decoded by its expected area."""
    temperature: float = 0.0
    """Temperature of samples, at least 0; at 0 the frame is decoded without chance."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser."""

    def __post_init__(self) -> None:
        require_least(self, "model.", frames=1, actions_seen=1, condition=1, recursion=1)
        require_least(self, "model.", palette_error=0, clock=0, copy_logit=0, reset_pixels=0, change_weight=0)
        require_least(self, "model.", rare_area=0, temperature=0, history=self.frames)
        if not 2 <= self.colours <= 64:
            raise UserError(f"model.colours must be in 2…64, got {self.colours}")
        if self.palette and not 2 <= len(self.palette) <= self.colours:
            raise UserError(
                f"model.palette must have 2 to model.colours ({self.colours}) colours, got {len(self.palette)}"
            )
        if len(set(self.palette)) != len(self.palette) or not all(0 <= v <= 255 for c in self.palette for v in c):
            raise UserError("model.palette must be different colours of three numbers in 0…255")
        classes = len(self.palette) + len(self.regions) if self.palette else 0
        for name in ("areas", "least_areas", "usual_areas", "extents", "presence"):
            if getattr(self, name) and len(getattr(self, name)) != classes:
                raise UserError(f"model.{name} must have one number for each of {classes} colours and regions")
        if len(self.regions) > MOST_REGIONS:
            raise UserError(f"model.regions must be at most {MOST_REGIONS}, got {len(self.regions)}")
        for *colour, top, left, bottom, right in self.regions:
            if not (0 <= top < bottom and 0 <= left < right):
                raise UserError(f"model.regions: {(top, left, bottom, right)} is no box of top, left, bottom, right")
            if not all(0 <= level <= 255 for level in colour):
                raise UserError(f"model.regions: {tuple(colour)} is no colour of three numbers in 0…255")
        for name in ("widths", "blocks"):
            if min(getattr(self, name)) < 1:
                raise UserError(f"model.{name} must be numbers of at least 1, got {getattr(self, name)}")
        require_share(self, "model.", "recursion_ramp", "flips", "erase", "event_share")
        require_choices(self, "model.")
        if not all(0 < decay < 1 for decay in self.traces):
            raise UserError(f"model.traces must lie between 0 and 1, got {self.traces}")


def default() -> CategoricalConfig:
    """About one million parameters: a game of 80x80 in twenty minutes of one core."""
    return CategoricalConfig()


def small() -> CategoricalConfig:
    """A quarter of the parameters and a shorter recursion; for a first look."""
    return CategoricalConfig(widths=(24, 40, 64), condition=48, recursion=4, history=32, clock=32)


def tiny() -> CategoricalConfig:
    """Narrow layers and short windows in the same shape; for tests."""
    return CategoricalConfig(
        widths=(8, 8, 8), blocks=(1, 1, 2), condition=8, recursion=2, history=4, clock=4, colours=8, actions_seen=2
    )


PROFILES: dict[str, Callable[[], CategoricalConfig]] = {"default": default, "small": small, "tiny": tiny}
