"""Things with a fixed place, such as dots or bricks: present, gone, or hidden, by the colour of one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError

Colour = tuple[int, int, int]

#: States of a mark.
PRESENT, GONE, HIDDEN = 1, 0, -1
#: Largest distance of a pixel to a colour, grey levels.
TOLERANCE = 24.0


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Places in a frame that hold something or nothing.

    Attributes:
        places: (row, column) px of the nominal frame.
        colours: RGB of each when it is present, 0…255.
        grounds: RGB of a place whose mark is gone.
        size: (h, w) px of the nominal frame.
    """

    places: tuple[tuple[int, int], ...]
    colours: tuple[Colour, ...]
    grounds: tuple[Colour, ...]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.places or len(self.places) != len(self.colours):
            raise UserError(f"marks: expected one colour per place, got {len(self.colours)} for {len(self.places)}")
        if not all(0 <= y < self.size[0] and 0 <= x < self.size[1] for y, x in self.places):
            raise UserError(f"marks: places must lie in the frame of {self.size[0]}x{self.size[1]} px")


def find_marks(frames: Tensor, marks: Marks) -> Tensor:
    """State of every mark in frames, int8 (…, marks): 1 present, 0 gone, -1 hidden (any other colour).

    Args:
        frames: float (…, 3, h, w) in 0…1, of the nominal size or smaller.
    """
    height, width = frames.shape[-2:]
    rows = torch.tensor([y * height // marks.size[0] for y, _ in marks.places], device=frames.device)
    columns = torch.tensor([x * width // marks.size[1] for _, x in marks.places], device=frames.device)
    pixels = frames[..., rows, columns].float().mul(255).movedim(-2, -1)  # (…, marks, 3)
    found = torch.full(pixels.shape[:-1], HIDDEN, dtype=torch.int8, device=frames.device)
    for ground in marks.grounds:
        found[_near(pixels, torch.tensor([ground]))] = GONE
    found[_near(pixels, torch.tensor(marks.colours))] = PRESENT
    return found


def _near(pixels: Tensor, colours: Tensor) -> Tensor:
    return (pixels - colours.to(pixels)).square().sum(-1) <= TOLERANCE**2


#: Bricks of Breakout on frames of 210x160: six rows of 18, each row in its colour.
_BRICKS = ((200, 72, 72), (198, 108, 58), (180, 122, 48), (162, 162, 42), (72, 160, 72), (66, 72, 200))


def marks_of(meta: Mapping[str, Any]) -> dict[str, Marks]:
    """Marks of some data by their meta.json: its own "marks", or the bricks of Breakout; empty without any.

    Raises:
        UserError: The entry is damaged.
    """
    settings = meta.get("parameters")
    if meta.get("generator") == "atari" and isinstance(settings, Mapping) and settings.get("game") == "breakout":
        top, left, bottom, right = meta.get("field") or (0, 0, 210, 160)
        places = tuple((57 + 6 * r + 3 - top, 8 + 8 * c + 4 - left) for r in range(6) for c in range(18))
        colours = tuple(colour for colour in _BRICKS for _ in range(18))
        size = (bottom - top, right - left)
        return {"bricks": Marks(places=places, colours=colours, grounds=((0, 0, 0),), size=size)}
    try:
        return {str(name): _read(entry) for name, entry in (meta.get("marks") or {}).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"meta.json: marks are not valid ({error}); make the data again") from error


def _read(entry: Mapping[str, Any]) -> Marks:
    height, width = (int(v) for v in entry["size"])
    places = tuple((int(y), int(x)) for y, x in entry["places"])
    colours, grounds = (tuple((int(r), int(g), int(b)) for r, g, b in entry[key]) for key in ("colours", "grounds"))
    return Marks(places=places, colours=colours, grounds=grounds, size=(height, width))
