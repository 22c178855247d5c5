"""Writer of TFRecords from any source, in the schema of the hierarchical predictor's release or of Robot Push."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from framecast.core.commit import MARKER, check_target, own_files, replaced_folder, write_marker
from framecast.core.errors import UserError
from framecast.core.types import FORMAT, Clip
from framecast.data.base import SPLITS, Segment, Source
from framecast.data.labels import JOINTS, resize_clip
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.tfrecord_format import make_example, write_record
from framecast.data.readers.tfrecord_schemas import SCHEMAS, Column, Schema, describe, named
from framecast.data.readers.tfrecords import SUFFIXES
from framecast.data.writer import require_space, writing
from framecast.media.resize import target_size

#: Split -> its word in file names.
_FILES = {"train": "train", "val": "validation", "test": "test"}
_JPEG_BYTES = 0.6  # upper estimate per pixel at quality 95


@dataclass(frozen=True)
class Part:
    """Frames [start, stop) of one video, and the split's word in the file name: train, validation, testnovel, …"""

    video: int
    start: int
    stop: int
    word: str


def write_records(
    source: Source,
    folder: Path | str,
    schema: str = "published",
    *,
    options: ReadOptions = AS_STORED,
    length: int | None = None,
    quality: int = 95,
    per_file: int = 256,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """The files written: clips-<split>-00000-of-00003.tfrecord and so on, one record a video.

    Splits are those of the source; named parts of a split, such as novel, get separate files (testnovel). The folder
    appears when it is complete. The same source gives the same bytes.

    Args:
        source: Videos to write.
        folder: Folder of the records.
        schema: Name in `SCHEMAS`. "published" stores every per-frame array; "robot-push" the frames, actions, states
            and joints of the original set.
        options: Size and fit of frames, masks and joints.
        length: Frames per record; videos are cut and remainders dropped. None keeps whole videos.
        quality: JPEG quality of Pillow, 1…100.
        per_file: Maximum number of records per file.
        overwrite: Replace existing records.
        progress: Called with the number of records done and the total.

    Raises:
        UserError: The folder is taken, disk space is too small, or the source lacks arrays of the schema.
    """
    folder, form = Path(folder), _schema(schema, source)
    if not 1 <= quality <= 100 or per_file < 1 or (length is not None and length < 2):
        raise UserError(
            f"quality must be in 1…100, per_file above 0 and length above 1, got {quality}, {per_file}, {length}"
        )
    check_target(folder, "records", overwrite)
    if any(path.suffix not in SUFFIXES for path in own_files(folder) if path.name != MARKER):  # added by the user
        raise UserError(f"{folder} holds other files; name a new or empty folder for the records")
    parts = _parts(source, length)
    height, width = target_size(source.spec.height, source.spec.width, options.size, options.fit)
    frames = sum(part.stop - part.start for part in parts)
    numbers = sum(int(np.prod(shape)) for shape in source.spec.extras.values()) + source.spec.action_size
    require_space(folder, int(frames * (_JPEG_BYTES * height * width + 8 * min(numbers, height * width))))
    written: list[Path] = []
    with writing(folder), replaced_folder(folder) as temporary:
        for file, inside in _files(temporary, parts, per_file):
            with file.open("wb") as handle:
                for part in inside:
                    clip = source.clip(part.video, part.start, part.stop - part.start)
                    write_record(handle, _example(clip, source, form, options, quality))
                    written.append(file)
                    if progress is not None:
                        progress(len(written), len(parts))
        write_marker(temporary, "records")
    return [folder / file.name for file in dict.fromkeys(written)]


def _schema(name: str, source: Source) -> Schema:
    if name not in SCHEMAS:
        raise UserError(f"schema {name!r} is unknown; choose {' or '.join(SCHEMAS)}")
    if source.spec.channels not in (1, 3):
        raise UserError(f"frames have {source.spec.channels} channels; expected 1 or 3; convert the data")
    if name == "robot-push" and (source.spec.actions is None or "states" not in source.spec.extras):
        raise UserError("robot-push records need actions and states, which the data lack; use the published schema")
    return SCHEMAS[name]


def _parts(source: Source, length: int | None) -> list[Part]:
    subsets = getattr(source, "subsets", None) or {}
    found = []
    splits = source.splits(length or 2)
    for split in SPLITS:
        for segment in splits[split]:
            word = _FILES[split] + subsets.get(source.names[segment.video], "")
            found += [Part(segment.video, start, stop, word) for start, stop in _pieces(segment, length)]
    if not found:
        raise UserError(f"no video has {length} frames; give a smaller --length")
    return found


def _words(parts: Iterable[Part]) -> dict[str, None]:
    return dict.fromkeys(part.word for part in parts)


def _pieces(segment: Segment, length: int | None) -> list[tuple[int, int]]:
    if length is None:
        return [(segment.start, segment.stop)]
    return [(start, start + length) for start in range(segment.start, segment.stop - length + 1, length)]


def _files(folder: Path, parts: Sequence[Part], per_file: int) -> Iterable[tuple[Path, list[Part]]]:
    for word in _words(parts):
        mine = [part for part in parts if part.word == word]
        count = -(-len(mine) // per_file)
        for number in range(count):
            name = f"clips-{word}-{number:05d}-of-{count:05d}.tfrecord"
            yield folder / name, mine[number * per_file : (number + 1) * per_file]


def _example(clip: Clip, source: Source, schema: Schema, options: ReadOptions, quality: int) -> bytes:
    """One record: images, per-frame arrays, and a JSON feature `meta` with shapes, rate and origin."""
    frames, arrays = resize_clip(clip.frames, clip.arrays, options.size, options.fit)
    columns = _columns(arrays, schema)
    flat = _also_flat(columns, schema)
    features: dict[str, Any] = {}
    for i, frame in enumerate(frames):
        features[named(schema.image, i)] = [_jpeg(frame, quality)]
        for name, column in columns.items():
            row = arrays[name][i]
            features[named(column.feature, i)] = [_png(row)] if column.is_image else _numbers(row, column)
        if flat:
            features[named(flat, i)] = _numbers(arrays[JOINTS][i], columns[JOINTS])
    origin, actions = source.meta(), source.spec.actions
    meta: dict[str, Any] = {"format": FORMAT, "name": clip.name, "fps": clip.fps, **clip.meta}
    meta |= {key: origin[key] for key in ("generator", "version") if key in origin}
    meta |= {"seed": seed} if (seed := (origin.get("parameters") or {}).get("seed")) is not None else {}
    meta |= {"arrays": describe(columns)}
    meta |= {"actions": {k: v for k, v in asdict(actions).items() if v not in ((), None)}} if actions else {}
    features |= {k: [str(clip.meta[k]).encode()] for k in ("subject", "action_name", "camera") if k in clip.meta}
    features["meta"] = [json.dumps(meta, sort_keys=True).encode()]
    return make_example(features)


def _columns(arrays: dict[str, np.ndarray], schema: Schema) -> dict[str, Column]:
    """Column of each per-frame array; arrays unknown to the schema are stored as array_<name>_<i>."""
    found = {}
    for name, values in arrays.items():
        shape, points = values.shape[1:], name == JOINTS and values.ndim == 3 and values.shape[2] == 2
        dtype = np.dtype(np.float32) if values.dtype.kind == "f" else values.dtype
        keys = schema.arrays.get(name)
        if name in schema.images and values.ndim == 3 and values.dtype == np.uint8:
            found[name] = Column(schema.images[name], shape, dtype, is_image=True)
        elif keys:
            found[name] = Column(keys[-1] if points else keys[0], shape, dtype)
        elif schema.images:  # only the published schema stores further arrays
            found[name] = Column(f"array_{name}_{{}}", shape, dtype)
    return found


def _also_flat(columns: dict[str, Column], schema: Schema) -> str | None:
    """Feature for a second copy of 2-D joints, which readers of the published schema expect at a robot's joints."""
    keys = schema.arrays[JOINTS]
    return keys[0] if JOINTS in columns and columns[JOINTS].feature != keys[0] else None


def _numbers(row: np.ndarray, column: Column) -> np.ndarray:
    return np.asarray(row, np.float32 if column.dtype.kind == "f" else np.int64).reshape(-1)


def _jpeg(frame: np.ndarray, quality: int) -> bytes:
    """A JPEG without chroma subsampling, which degrades small frames."""
    out = io.BytesIO()
    pixels = np.ascontiguousarray(frame.transpose(1, 2, 0)) if len(frame) == 3 else np.repeat(frame[0][..., None], 3, 2)
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _png(mask: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask)).save(out, "PNG")
    return out.getvalue()
