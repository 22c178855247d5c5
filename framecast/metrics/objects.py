"""Object presence and position: objects in a frame, found by colour. PSNR hardly changes for a lost ball; this does.

Every pixel belongs to the nearest colour of a palette (objects and backgrounds), within a tolerance. An object is
present when enough pixels of its box have its colour; its position is their centroid. The same rule is applied to truth
and forecast. Where the data contain a true position (an emulator's memory, a scene's positions), errors are measured to
that.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from framecast.core.errors import UserError
from framecast.metrics.averages import Series, summarize

Colour = tuple[int, int, int]

#: Name of the mean over all objects of a clip.
ALL_THINGS = "all"
#: Metrics of every object, with their descriptions.
OBJECT_METRICS = {
    "found": "object recall: share of clips where the forecast shows the object near its true position",
    "present": "share of clips where the forecast shows the object anywhere, of those where it is present",
    "invented": "share of clips where the forecast shows the object, of those where it is absent",
    "error": "distance to the true position, px, where the forecast shows the object",
}
_CHUNK = 1 << 22  # pixels classified at once
_BIN = 4  # width of a colour bin, grey levels


@dataclass(frozen=True, kw_only=True)
class Track:
    """Per-frame array that contains an object's true position.

    Attributes:
        array: Name of the array.
        x: (index, scale, offset): the entry of the flattened array, and its conversion into px of the nominal frame.
        y: Likewise.
    """

    array: str
    x: tuple[int, float, float]
    y: tuple[int, float, float]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object to find.

    Attributes:
        colours: RGB, 0…255.
        least: Least area in px of a present object.
        near: Distance in px within which it counts as found.
        box: (top, left, bottom, right) px of the searched region; None is the whole frame.
        track: Its true position, if known.
    """

    name: str
    colours: tuple[Colour, ...]
    least: float = 4
    near: float = 8
    box: tuple[int, int, int, int] | None = None
    track: Track | None = None

    def __post_init__(self) -> None:
        if not self.colours or any(len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in self.colours):
            raise UserError(f"object {self.name!r}: colours must be RGB triples of 0…255, got {self.colours}")
        if not (self.least > 0 and self.near > 0):
            raise UserError(f"object {self.name!r}: least and near must be above 0 px")
        if self.box is not None and not (0 <= self.box[0] < self.box[2] and 0 <= self.box[1] < self.box[3]):
            raise UserError(f"object {self.name!r}: box must be (top, left, bottom, right), got {self.box}")


@dataclass(frozen=True, kw_only=True)
class Things:
    """Objects to find in the frames of some data.

    Attributes:
        size: (h, w) px of the nominal frame, for boxes, areas and positions.
        grounds: Background colours.
        tolerance: Largest Euclidean distance of a pixel to an object's colour, grey levels.
    """

    things: tuple[Thing, ...]
    size: tuple[int, int]
    grounds: tuple[Colour, ...] = ()
    tolerance: float = 60.0

    def __post_init__(self) -> None:
        names = [thing.name for thing in self.things]
        if not names or len({*names, ALL_THINGS}) < len(names) + 1:
            raise UserError(f"objects: expected at least one object, each with a unique name other than {ALL_THINGS!r}")
        if not self.tolerance > 0 or min(self.size) < 1:
            raise UserError("objects: tolerance and size must be above 0")

    @property
    def arrays(self) -> tuple[str, ...]:
        """Per-frame arrays that contain true positions."""
        return tuple(dict.fromkeys(thing.track.array for thing in self.things if thing.track))

    def fits(self, height: int, width: int) -> bool:
        """Whether frames of this size have the nominal aspect ratio."""
        return abs(height / width / (self.size[0] / self.size[1]) - 1) < 0.02


@dataclass(frozen=True)
class Found:
    """Detections of every object in every frame.

    Attributes:
        there: bool (…, things).
        place: float64 (…, things, 2), x and y in px of the nominal size; NaN where it is absent.
    """

    there: Tensor
    place: Tensor


def find(frames: Tensor, things: Things) -> Found:
    """Detections of the objects in frames.

    Args:
        frames: float (…, 3, h, w) in 0…1.

    Raises:
        UserError: For frames that are not RGB.
    """
    if frames.ndim < 3 or frames.shape[-3] != 3:
        raise UserError(f"objects are found by colour, in RGB frames (…, 3, h, w), got {tuple(frames.shape)}")
    lead, (height, width) = frames.shape[:-3], frames.shape[-2:]
    scale_y, scale_x = things.size[0] / height, things.size[1] / width
    flat = frames.reshape(-1, 3, height, width)
    step = max(1, _CHUNK // (height * width))
    parts = [_find_some(flat[i : i + step], things, scale_y, scale_x) for i in range(0, len(flat), step)]
    there = torch.cat([p.there for p in parts]).reshape(*lead, -1)
    return Found(there, torch.cat([p.place for p in parts]).reshape(*lead, there.shape[-1], 2))


def _find_some(frames: Tensor, things: Things, scale_y: float, scale_x: float) -> Found:
    owner, colours = owners(frames, things), _colours(things)
    there, places = [], []
    for thing in things.things:
        top, left, bottom, right = thing.box or (0, 0, *things.size)
        first_row, first_column = round(top / scale_y), round(left / scale_x)
        rows = slice(first_row, max(round(bottom / scale_y), first_row + 1))
        columns = slice(first_column, max(round(right / scale_x), first_column + 1))
        inside = owner[:, rows, columns]
        mine = torch.stack([inside == colours.index(colour) for colour in thing.colours]).any(0)
        down, across = mine.sum(2).double(), mine.sum(1).double()
        area = down.sum(1)
        y = first_row + torch.arange(down.shape[1], dtype=torch.float64, device=down.device)
        x = first_column + torch.arange(across.shape[1], dtype=torch.float64, device=down.device)
        centre = torch.stack([across @ x / area, down @ y / area], -1)
        # px of this frame, at pixel centres, to px of the nominal one
        scale = torch.tensor([scale_x, scale_y], dtype=torch.float64, device=down.device)
        seen = area * scale_x * scale_y >= thing.least
        there.append(seen)
        places.append(((centre + 0.5) * scale - 0.5).where(seen[:, None], torch.nan))
    return Found(torch.stack(there, -1), torch.stack(places, -2))


def owners(frames: Tensor, things: Things) -> Tensor:
    """Number of the colour each pixel belongs to, int16 (n, h, w); -1 for backgrounds and unknown colours."""
    table = _table(things).to(frames.device)
    red, green, blue = (frames.clamp(0, 1) * 255).round().to(torch.int32).div(_BIN, rounding_mode="floor").unbind(1)
    side = 256 // _BIN
    return table[((red * side + green) * side + blue).long()]


@lru_cache(maxsize=8)
def _table(things: Things) -> Tensor:
    """Number of the nearest colour, in bins of 4 grey levels per channel: a lookup is cheaper than distances."""
    known = _colours(things)
    palette = torch.tensor([*known, *things.grounds], dtype=torch.float32)
    owners = torch.tensor([*range(len(known)), *[-1] * len(things.grounds)], dtype=torch.int16)
    levels = torch.arange(256 // _BIN, dtype=torch.float32) * _BIN + (_BIN - 1) / 2
    bins = torch.cartesian_prod(levels, levels, levels)
    nearest, which = torch.stack([(bins - colour).square().sum(1) for colour in palette]).min(0)
    return owners[which].where(nearest <= things.tolerance**2, -1)


def _colours(things: Things) -> list[Colour]:
    """The objects' colours, each once: a ball and a paddle may share a colour and differ by their boxes."""
    return list(dict.fromkeys(colour for thing in things.things for colour in thing.colours))


def true_places(things: Things, arrays: Mapping[str, Tensor], found: Found) -> Tensor:
    """True positions (…, things, 2): from the data's arrays, else from the detections.

    Args:
        things: Objects.
        arrays: Per-frame arrays (…, …) of the frames.
        found: Detections in the true frames.
    """
    place = found.place.clone()
    for i, thing in enumerate(things.things):
        if thing.track is None or thing.track.array not in arrays:
            continue
        values = arrays[thing.track.array].double().flatten(found.there.ndim - 1)
        for axis, (index, scale, offset) in enumerate((thing.track.x, thing.track.y)):
            if index >= values.shape[-1]:
                raise UserError(
                    f"object {thing.name!r}: array {thing.track.array!r} has {values.shape[-1]} entries a frame, so "
                    f"none with index {index}"
                )
            place[..., i, axis] = values[..., index].to(place.device) * scale + offset
    return place


def score_objects(forecast: Found, truth: Found, places: Tensor, things: Things) -> dict[str, Tensor]:
    """Every metric of `OBJECT_METRICS`, float64 (s, b, frames, things); NaN where undefined.

    Args:
        forecast: Detections in (s, b, frames).
        truth: Detections in (b, frames).
        places: True positions of (b, frames).
        things: Objects.
    """
    there, shown = truth.there.expand_as(forecast.there), forecast.there
    error = (forecast.place - places).square().sum(-1).sqrt()
    near = torch.tensor([t.near for t in things.things], dtype=torch.float64, device=error.device)
    hit = shown & (error <= near)
    # An object in memory that the frame does not show (sprites flicker) counts as present for `error`.
    known = shown & places.isfinite().all(-1)
    return {
        "found": hit.double().where(there, torch.nan),
        "present": shown.double().where(there, torch.nan),
        "invented": shown.double().where(~there, torch.nan),
        "error": error.where(known, torch.nan),
    }


def object_series(
    values: Mapping[str, Tensor], names: Sequence[str], groups: Sequence[Hashable] | None = None
) -> dict[str, dict[str, Series]]:
    """Averages over the clips of one row: metric -> object -> curve; "all" is the mean over the objects of each clip.

    Args:
        values: Metric -> float64 (clips, frames, objects), of several samples the mean; see `score_objects`.
        names: One per object.
        groups: The video of each clip; None treats clips as independent.
    """
    return {
        metric: {
            ALL_THINGS: summarize(found.nanmean(-1), groups),
            **{name: summarize(found[..., i], groups) for i, name in enumerate(names)},
        }
        for metric, found in values.items()
    }


# ------------------------------------------------------------------------------------------------------ known games


def _ram(x: int, dx: float, y: int, dy: float) -> Track:
    return Track(array="ram", x=(x, 1.0, dx), y=(y, 1.0, dy))


#: Cars of Freeway from the upper lane to the lower.
_CARS = (
    (167, 26, 26),
    (180, 231, 117),
    (105, 105, 15),
    (228, 111, 111),
    (24, 26, 167),
    (162, 98, 33),
    (84, 92, 214),
    (184, 50, 50),
    (135, 183, 84),
    (210, 210, 64),
)
_MS_PACMAN_BOX = (0, 0, 172, 160)
#: Objects of Atari games, on frames of 210x160. Colours and boxes are from the emulator's frames; the bytes of
#: memory are those of Anand et al. 2019 (AtariARI), with offsets fitted to the drawn sprites.
GAMES: dict[str, Things] = {
    "ms_pacman": Things(
        things=(
            Thing(
                name="Ms. Pac-Man",
                colours=((210, 164, 74),),
                least=15,
                box=_MS_PACMAN_BOX,
                track=_ram(10, -8.5, 16, 5.5),
            ),
            Thing(name="Blinky", colours=((200, 72, 72),), least=20, box=_MS_PACMAN_BOX, track=_ram(9, -8.5, 15, 5.5)),
            Thing(name="Pinky", colours=((198, 89, 179),), least=20, box=_MS_PACMAN_BOX, track=_ram(8, -8.5, 14, 5.5)),
            Thing(name="Inky", colours=((84, 184, 153),), least=20, box=_MS_PACMAN_BOX, track=_ram(7, -8.5, 13, 5.5)),
            Thing(name="Sue", colours=((180, 122, 48),), least=20, box=_MS_PACMAN_BOX, track=_ram(6, -8.5, 12, 5.5)),
        ),
        size=(210, 160),
        grounds=((0, 28, 136), (228, 111, 111), (0, 0, 0)),
        tolerance=40,
    ),
    "pong": Things(
        things=(
            Thing(
                name="ball",
                colours=((236, 236, 236),),
                least=3,
                box=(34, 0, 194, 160),
                track=_ram(49, -48.5, 54, -12.5),
            ),
            Thing(name="paddle", colours=((92, 186, 92),), least=16, box=(34, 128, 194, 160)),
            Thing(name="opponent", colours=((213, 130, 74),), least=16, box=(34, 0, 194, 32)),
        ),
        size=(210, 160),
        grounds=((144, 72, 17),),
    ),
    "breakout": Things(
        things=(
            Thing(
                name="ball", colours=((200, 72, 72),), least=3, box=(93, 8, 189, 152), track=_ram(99, -48.5, 101, 10.7)
            ),
            Thing(name="paddle", colours=((200, 72, 72),), least=16, box=(189, 8, 194, 152)),
        ),
        size=(210, 160),
        grounds=((0, 0, 0), (142, 142, 142)),
    ),
    "freeway": Things(
        things=(
            # the line in the middle of the road has the chickens' colour; two of its dashes lie in the box
            Thing(name="chicken", colours=((252, 252, 84),), least=24, box=(16, 42, 194, 56)),
            *(
                Thing(name=f"car {lane}", colours=(colour,), least=12, box=(top, 8, top + 12, 160))
                for lane, (top, colour) in enumerate(zip(range(26, 186, 16), _CARS, strict=True), 1)
            ),
        ),
        size=(210, 160),
        grounds=((142, 142, 142), (170, 170, 170), (214, 214, 214), (0, 0, 0)),
    ),
}


def things_of(meta: Mapping[str, Any]) -> Things | None:
    """Objects of some data by their meta.json: its own "objects", a known game, or bouncing shapes."""
    if "objects" in meta:
        return read_things(meta["objects"], "meta.json: objects")
    settings = meta.get("parameters")
    settings = settings if isinstance(settings, Mapping) else {}
    if meta.get("generator") == "atari":
        known = GAMES.get(str(settings.get("game")))
        return known if known is None or not meta.get("field") else cropped(known, meta["field"])
    if meta.get("generator") == "bouncing" and isinstance(meta.get("colours"), Mapping):
        grey, size = int(settings.get("grey", 128)), int(settings.get("size", 64))
        smallest = float(settings.get("size_min", 10))
        return Things(
            things=tuple(
                # a triangle covers half of its box; half of that must remain
                Thing(name=str(name), colours=(_colour(rgb),), least=smallest**2 / 4, near=smallest / 2)
                for name, rgb in meta["colours"].items()
            ),
            size=(size, size),
            grounds=((grey, grey, grey),),
        )
    return None


def cropped(things: Things, field: Sequence[int]) -> Things:
    """Objects in a crop of their nominal frame.

    Args:
        field: (top, left, bottom, right) px of the crop.
    """
    top, left, bottom, right = (int(v) for v in field)
    moved = []
    for thing in things.things:
        box, track = thing.box, thing.track
        if box is not None:
            box = (max(box[0] - top, 0), max(box[1] - left, 0), min(box[2], bottom) - top, min(box[3], right) - left)
        if track is not None:
            x, y = track.x, track.y
            track = replace(track, x=(x[0], x[1], x[2] - left), y=(y[0], y[1], y[2] - top))
        moved.append(replace(thing, box=box, track=track))
    return replace(things, things=tuple(moved), size=(bottom - top, right - left))


def read_things(data: Any, where: str) -> Things:
    """Objects from plain values, the inverse of `write_things`.

    Raises:
        UserError: For a missing, unknown or invalid key.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected a mapping with things and size")
    try:
        _known(data, Things, where)
        things = []
        for entry in data["things"]:
            _known(entry, Thing, where)
            track = entry.get("track")
            parsed = (
                None if track is None else Track(array=str(track["array"]), x=_step(track["x"]), y=_step(track["y"]))
            )
            colours = tuple(_colour(c) for c in entry["colours"])
            plain = {k: float(entry[k]) for k in ("least", "near") if k in entry}
            box = entry.get("box")
            if box is not None:
                top, left, bottom, right = (int(v) for v in box)
                box = (top, left, bottom, right)
            things.append(Thing(name=str(entry["name"]), colours=colours, track=parsed, box=box, **plain))
        height, width = (int(v) for v in data["size"])
        grounds = tuple(_colour(c) for c in data.get("grounds", ()))
        tolerance = float(data.get("tolerance", 60.0))
        return Things(things=tuple(things), size=(height, width), grounds=grounds, tolerance=tolerance)
    except KeyError as error:
        raise UserError(f"{where}: {error} is missing") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: is not valid ({error}); see docs/compare.md for the format") from error


def write_things(things: Things) -> dict[str, Any]:
    """Plain values, for a store's meta.json or a file."""
    out = []
    for t in things.things:
        track = None if t.track is None else {"array": t.track.array, "x": list(t.track.x), "y": list(t.track.y)}
        entry = {"name": t.name, "colours": [list(c) for c in t.colours], "least": t.least, "near": t.near}
        entry |= {k: v for k, v in (("box", t.box and list(t.box)), ("track", track)) if v is not None}
        out.append(entry)
    return {
        "things": out,
        "size": list(things.size),
        "grounds": [list(c) for c in things.grounds],
        "tolerance": things.tolerance,
    }


def _known(entry: Any, kind: type, where: str) -> None:
    unknown = set(entry) - {f.name for f in fields(kind)}
    if unknown:
        raise UserError(f"{where}: unknown key {sorted(unknown)[0]!r}")


def _colour(value: Any) -> Colour:
    red, green, blue = (int(v) for v in value)
    return red, green, blue


def _step(value: Any) -> tuple[int, float, float]:
    index, scale, offset = value
    if not all(map(math.isfinite, (scale, offset))) or int(index) < 0:
        raise ValueError(f"a track must be (index, scale, offset), got {value}")
    return int(index), float(scale), float(offset)
