"""Schemas of clips in TFRecords: names of features in two published data sets, and reading one record."""

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
    """Names of the features of a clip; {} stands for the frame's index."""

    name: str
    """Name on the command line."""
    image: str
    """Feature of a frame's encoded image."""
    arrays: Mapping[str, tuple[str, ...]]
    """Name of a per-frame array -> features that may hold it, of which the last one present is used."""
    images: Mapping[str, str]
    """Name of a per-frame array -> feature that holds it as a PNG of one channel."""
    fps: float = 10.0
    """Frames per second where records do not store them."""


#: Schemas by name. "published" is the one of the release of Wichers et al. (2018), with additional features for joints,
#: visibility, masks and objects; "robot-push" is the one of the Robot Push set of Finn et al. (2016).
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
        images={"masks": "mask_{}"},
    ),
    "robot-push": Schema(
        name="robot-push",
        image="move/{}/image/encoded",
        arrays={
            "actions": ("move/{}/commanded_pose/vec_pitch_yaw",),
            "states": ("move/{}/endeffector/vec_pitch_yaw",),
            "joints": ("move/{}/joint/positions",),
        },
        images={},
    ),
}

#: Components of a robot's pose in actions and states: metres, then radians.
POSE = ("x", "y", "z", "pitch", "yaw")


_DTYPES = ("float32", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_MOST_NUMBERS = 1 << 20  # in one row of a per-frame array


@dataclass(frozen=True)
class Column:
    """A per-frame array: its feature, the shape and dtype of a row, and whether it is stored as an image."""

    feature: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_image: bool = False


@dataclass(frozen=True)
class Place:
    """Location of a record: file, index in it, offset and length of its payload in bytes."""

    file: Path
    number: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.file}: record {self.number}"


def named(name: str, number: int) -> str:
    """Name of the feature of frame `number`."""
    return name.replace("{}", str(number))


class ClipRecord:
    """Features of one record, decoded on demand.

    Args:
        place: Location of the record.
        data: Payload of the record; if not given, it is read and its checksum verified.

    Raises:
        UserError: The record or a feature is damaged; raised here and by every method.
    """

    def __init__(self, place: Place, data: Buffer | None = None) -> None:
        self.place = place
        try:
            if data is None:
                data = read_record(place.file, place.offset, place.length, place.number)
            self.features = parse_example(data)
        except DamagedExample as error:
            raise UserError(f"{place} is not a tf.Example ({error}); give records of clips") from error

    def __contains__(self, key: str) -> bool:
        return key in self.features

    def schema(self) -> Schema:
        """The schema whose first frame the record holds."""
        for schema in SCHEMAS.values():
            if named(schema.image, 0) in self.features:
                return schema
        there = ", ".join(sorted(self.features)[:4]) or "nothing"
        known = " or ".join(s.image.format(0) for s in SCHEMAS.values())
        raise UserError(f"{self.place}: expected a frame named {known}, got {there}; give records of these schemas")

    def frames(self, schema: Schema) -> int:
        """Number of consecutive frames from 0 on that have an image."""
        count = 0
        while named(schema.image, count) in self.features:
            count += 1
        return count

    def meta(self) -> dict[str, Any]:
        """The JSON object of the feature `meta`, empty if missing."""
        if "meta" not in self.features:
            return {}
        values = self.value("meta")
        try:
            found = json.loads(values[0]) if isinstance(values, list) and values else {}
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.place}: its feature 'meta' is not JSON; write the record again") from error
        return found if isinstance(found, dict) else {}

    def columns(self, schema: Schema) -> dict[str, Column]:
        """Per-frame arrays of the first frame, by name."""
        found: dict[str, Column] = {}
        for name, keys in schema.arrays.items():
            for key in keys:
                values = self.value(named(key, 0)) if named(key, 0) in self.features else []
                if isinstance(values, np.ndarray) and len(values):
                    points = key == "joints2d_{}" and len(values) % 2 == 0
                    shape = (len(values) // 2, 2) if points else (len(values),)
                    found[name] = Column(key, shape, values.dtype)
        for name, key in schema.images.items():
            if named(key, 0) in self.features:
                found[name] = Column(key, self.image(named(key, 0))[1], np.dtype(np.uint8), is_image=True)
        for name, declaration in (self.meta().get("arrays") or {}).items():
            column = _declared(declaration)
            if column is not None and named(column.feature, 0) in self.features:
                found[name] = column
        return found

    def value(self, key: str) -> Value:
        """The list of a feature."""
        if key not in self.features:
            raise UserError(f"{self.place} has no feature {key!r}, which the first record has; write it again")
        try:
            return feature(self.features[key])
        except DamagedExample as error:
            raise UserError(f"{self.place}: {key} is damaged ({error}); write the record again") from error

    def rows(self, column: Column, numbers: Sequence[int]) -> np.ndarray:
        """Rows of a per-frame array at the given frames."""
        rows = np.empty((len(numbers), *column.shape), column.dtype)
        for i, number in enumerate(numbers):
            rows[i] = self._row(column, named(column.feature, number))
        return rows

    def _row(self, column: Column, key: str) -> np.ndarray:
        if column.is_image:
            image = self.image(key)[0]
            if image.shape != column.shape:
                got, expected = ("x".join(map(str, size)) for size in (image.shape, column.shape))
                raise UserError(f"{self.place}: {key} is {got} px, expected {expected}; write the record again")
            return image
        values, size = self.value(key), int(np.prod(column.shape, dtype=np.int64))
        if not isinstance(values, np.ndarray) or len(values) != size:
            got = f"{len(values)} numbers" if isinstance(values, np.ndarray) else "no numbers"
            raise UserError(
                f"{self.place}: {key} holds {got} but the first record has {size} there; write the record again"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(f"{self.place}: {key} holds numbers that are not finite; write the record again")
        return values.reshape(column.shape).astype(column.dtype)

    def image(
        self, key: str, colour: bool = False, target: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Pixels uint8, (3, h, w) with colour and (h, w) without; and their stored size (h, w).

        Args:
            key: Name of the feature.
            colour: Decode to RGB rather than to one channel.
            target: (h, w) the image will be resized to. A much larger JPEG is decoded at a half, quarter or eighth of
                its size, at least twice the target.
        """
        values, where = self.value(key), f"{self.place}: {key}"
        if not isinstance(values, list) or len(values) != 1:
            raise UserError(f"{where} holds no encoded image; write the record again")
        with open_image(io.BytesIO(values[0]), where) as image:
            size = (image.height, image.width)
            if not colour:
                return np.asarray(image.convert("L")), size
            if target is not None and image.format == "JPEG":
                image.draft("RGB", (2 * target[1], 2 * target[0]))
            pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
            return pixels.transpose(2, 0, 1), size


def describe(columns: Mapping[str, Column]) -> dict[str, Any]:
    """Declarations of per-frame arrays for the meta of a record, read by `ClipRecord.columns`."""
    return {
        name: {"feature": c.feature, "shape": list(c.shape), "dtype": c.dtype.name}
        for name, c in columns.items()
        if not c.is_image
    }


def _declared(value: Any) -> Column | None:
    """A per-frame array declared in a record's meta, or None if the declaration is invalid."""
    if not isinstance(value, dict) or not isinstance(value.get("feature"), str) or value["feature"].count("{}") != 1:
        return None
    shape, dtype = value.get("shape"), value.get("dtype")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        return None
    if dtype not in _DTYPES or math.prod(shape) > _MOST_NUMBERS:
        return None
    return Column(value["feature"], tuple(shape), np.dtype(dtype))
