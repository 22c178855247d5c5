"""What the features of a clip's record are called and hold: two published schemas, and reading one record by them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.data.readers.tfrecord_format import Buffer, DamagedExample, Value, feature, parse_example, read_record
from framecast.media.images import open_image


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What the features of a clip are called. {} stands for the frame's number.

    image: an encoded picture per frame.  arrays: per-frame array of the house -> features that may hold it, the last
    one that is there counts.  pictures: likewise, as PNG of one channel.  fps: where records do not say it.
    """

    name: str
    image: str
    arrays: Mapping[str, tuple[str, ...]]
    pictures: Mapping[str, str]
    fps: float = 10.0


#: Under which names clips are written and found. "published" is what the release of Wichers et al. (2018) reads, with
#: further features for joints, visibility, masks and objects; "robot-push" is the Robot Push set of Finn et al. (2016).
SCHEMAS: dict[str, Schema] = {
    "published": Schema(
        name="published",
        image="image_{}",
        arrays={
            "actions": ("action_{}",),
            "states": ("state_{}",),
            "joints": ("joint_positions_{}", "joints2d_{}"),
            "visibility": ("joints2d_vis_{}",),
            "objects": ("object_pose_{}",),
        },
        pictures={"masks": "mask_{}"},
    ),
    "robot-push": Schema(
        name="robot-push",
        image="move/{}/image/encoded",
        arrays={
            "actions": ("move/{}/commanded_pose/vec_pitch_yaw",),
            "states": ("move/{}/endeffector/vec_pitch_yaw",),
            "joints": ("move/{}/joint/positions",),
        },
        pictures={},
    ),
}

#: A pose of five numbers, as actions and states of a robot have it: metres, then radians.
POSE = ("x", "y", "z", "pitch", "yaw")


_DTYPES = ("float32", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_MOST_NUMBERS = 1 << 20  # in one row of a per-frame array


@dataclass(frozen=True)
class Column:
    """A per-frame array: the feature it comes from, the shape of a row, its type, whether it is stored as a picture."""

    feature: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    picture: bool = False


@dataclass(frozen=True)
class Place:
    """Where a record is: file, number in it, offset and length of its payload in bytes."""

    file: Path
    number: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.file}: record {self.number}"


def named(name: str, number: int) -> str:
    """The feature of frame `number`."""
    return name.replace("{}", str(number))


class ClipRecord:
    """The features of one record, decoded when asked for.

    data: the record's payload where that is at hand; without, it is read and its checksum compared.
    Raises: UserError naming file, record and feature, here and from every method.
    """

    def __init__(self, place: Place, data: Buffer | None = None) -> None:
        self.place = place
        try:
            if data is None:
                data = read_record(place.file, place.offset, place.length, place.number)
            self.features = parse_example(data)
        except DamagedExample as error:
            raise UserError(f"{place} is no tf.Example ({error}); give records of clips") from error

    def __contains__(self, key: str) -> bool:
        return key in self.features

    def schema(self) -> Schema:
        """The schema whose first frame is there."""
        for schema in SCHEMAS.values():
            if named(schema.image, 0) in self.features:
                return schema
        there = ", ".join(sorted(self.features)[:4]) or "nothing"
        told = " or ".join(s.image.format(0) for s in SCHEMAS.values())
        raise UserError(f"{self.place} has no frame called {told} but {there}; give records of a schema read here")

    def frames(self, schema: Schema) -> int:
        """Number of frames: those from 0 on that have a picture."""
        count = 0
        while named(schema.image, count) in self.features:
            count += 1
        return count

    def meta(self) -> dict[str, Any]:
        """The JSON object in the feature `meta`, empty without one."""
        if "meta" not in self.features:
            return {}
        values = self.value("meta")
        try:
            found = json.loads(values[0]) if isinstance(values, list) and values else {}
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.place}: its feature 'meta' is not JSON; write the record again") from error
        return found if isinstance(found, dict) else {}

    def columns(self, schema: Schema) -> dict[str, Column]:
        """The per-frame arrays that the first frame has."""
        found: dict[str, Column] = {}
        for name, keys in schema.arrays.items():
            for key in keys:
                values = self.value(named(key, 0)) if named(key, 0) in self.features else []
                if isinstance(values, np.ndarray) and len(values):
                    points = key == "joints2d_{}" and len(values) % 2 == 0
                    shape = (len(values) // 2, 2) if points else (len(values),)
                    found[name] = Column(key, shape, values.dtype)
        for name, key in schema.pictures.items():
            if named(key, 0) in self.features:
                found[name] = Column(key, self.picture(named(key, 0))[1], np.dtype(np.uint8), picture=True)
        for name, told in (self.meta().get("arrays") or {}).items():
            column = _declared(told)
            if column is not None and named(column.feature, 0) in self.features:
                found[name] = column
        return found

    def value(self, key: str) -> Value:
        """The list that a feature holds."""
        if key not in self.features:
            raise UserError(f"{self.place} has no feature {key!r}; every frame needs what the first record has")
        try:
            return feature(self.features[key])
        except DamagedExample as error:
            raise UserError(f"{self.place}: {key} is damaged ({error}); write the record again") from error

    def rows(self, column: Column, numbers: Sequence[int]) -> np.ndarray:
        """A per-frame array at these frames."""
        rows = np.empty((len(numbers), *column.shape), column.dtype)
        for i, number in enumerate(numbers):
            rows[i] = self._row(column, named(column.feature, number))
        return rows

    def _row(self, column: Column, key: str) -> np.ndarray:
        if column.picture:
            picture = self.picture(key)[0]
            if picture.shape != column.shape:
                raise UserError(f"{self.place}: {key} is {_told(picture.shape)} px but others {_told(column.shape)}")
            return picture
        values, size = self.value(key), int(np.prod(column.shape, dtype=np.int64))
        if not isinstance(values, np.ndarray) or len(values) != size:
            got = f"{len(values)} numbers" if isinstance(values, np.ndarray) else "no numbers"
            raise UserError(
                f"{self.place}: {key} holds {got} but the first record has {size} there; write the record again"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(f"{self.place}: {key} holds numbers that are not finite; write the record again")
        return values.reshape(column.shape).astype(column.dtype)

    def picture(
        self, key: str, colour: bool = False, wanted: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Pixels uint8, (3, h, w) with colour and (h, w) without; and the size (h, w) at which they are stored.

        wanted: (h, w) they will be scaled to. A JPEG far larger is decoded at a half, quarter or eighth of its size,
        still twice what is wanted.
        """
        values, where = self.value(key), f"{self.place}: {key}"
        if not isinstance(values, list) or len(values) != 1:
            raise UserError(f"{where} holds no encoded picture; write the record again")
        with open_image(io.BytesIO(values[0]), where) as image:
            size = (image.height, image.width)
            if not colour:
                return np.asarray(image.convert("L")), size
            if wanted is not None and image.format == "JPEG":
                image.draft("RGB", (2 * wanted[1], 2 * wanted[0]))
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
            return pixels.transpose(2, 0, 1), size


def describe(columns: Mapping[str, Column]) -> dict[str, Any]:
    """What a record's meta says of its arrays, for `ClipRecord.columns` to find them again."""
    told = {name: column for name, column in columns.items() if not column.picture}
    return {name: {"feature": c.feature, "shape": list(c.shape), "dtype": c.dtype.name} for name, c in told.items()}


def _declared(told: Any) -> Column | None:
    """An array that a record's meta declares, or None where that makes no sense."""
    if not isinstance(told, dict) or not isinstance(told.get("feature"), str) or told["feature"].count("{}") != 1:
        return None
    shape, dtype = told.get("shape"), told.get("dtype")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        return None
    if dtype not in _DTYPES or math.prod(shape) > _MOST_NUMBERS:
        return None
    return Column(told["feature"], tuple(shape), np.dtype(dtype))


def _told(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
