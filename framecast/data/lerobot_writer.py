"""Writer of LeRobot datasets, format v3.0 (layout in `readers/lerobot.py`), for LeRobot's own tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.commit import check_target, replaced_folder, write_marker
from framecast.core.errors import UserError, imported
from framecast.data.base import SPLITS, Segment, Source
from framecast.data.labels import resize_clip
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.lerobot import NAMES
from framecast.data.writer import writing
from framecast.media.write import write_video

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_CHUNK = 1000  # files in a folder
_BLOCK = 64  # frames read at a time
_PER_FILE = 50  # episodes in a file
_FEATURES = {array: key for key, array in NAMES.items()}


@dataclass(frozen=True)
class _Episode:
    """One episode to write: per camera a segment of a video, all of one length."""

    split: str
    cameras: Mapping[str, Segment]

    @property
    def length(self) -> int:
        return min(s.stop - s.start for s in self.cameras.values())


class _Statistics:
    """Running minimum, maximum, mean and standard deviation over rows."""

    def __init__(self) -> None:
        self.count, self.low, self.high, self.total, self.squares = 0, np.inf, -np.inf, 0.0, 0.0

    def add(self, rows: np.ndarray) -> None:
        values = np.asarray(rows, np.float64)
        self.count += len(values)
        self.low = np.minimum(self.low, values.min(axis=0))
        self.high = np.maximum(self.high, values.max(axis=0))
        self.total = self.total + values.sum(axis=0)
        self.squares = self.squares + (values**2).sum(axis=0)

    def summary(self, axes: tuple[int, ...] = ()) -> dict[str, Any]:
        mean = self.total / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        found = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        shaped = {k: np.atleast_1d(v).reshape(*np.atleast_1d(v).shape, *axes).tolist() for k, v in found.items()}
        return {**shaped, "count": [self.count]}


def write_lerobot(
    source: Source,
    folder: Path | str,
    options: ReadOptions = AS_STORED,
    task: str = "",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of a source written as a LeRobot dataset, format v3.0.

    Every video, or all cameras of an episode, becomes an episode; episodes are ordered train, val, test, and info.json
    names these ranges. Cameras are stored as H.264, actions, states and other per-frame arrays as features.

    Args:
        source: Videos to write, RGB or grey.
        folder: New folder; it appears when it is complete.
        options: Size and fit of frames.
        task: Task text of videos whose meta has none.
        overwrite: Replace a dataset that this function wrote.
        progress: Called with episodes done and the total.

    Raises:
        UserError: The folder is taken or cannot be written, or the frames are neither RGB nor grey.
    """
    folder = Path(folder)
    imported("pyarrow", "LeRobot datasets need pyarrow; install it: pip install 'framecast[lerobot]'")
    if source.spec.channels not in (1, 3):
        raise UserError(f"frames have {source.spec.channels} channels, expected 1 or 3; convert the data")
    check_target(folder, "lerobot", overwrite)
    with writing(folder), replaced_folder(folder) as temporary:
        _Writer(source, temporary, options, task, progress).write()
        write_marker(temporary, "lerobot")
    return folder


class _Writer:
    def __init__(
        self,
        source: Source,
        folder: Path,
        options: ReadOptions,
        task: str,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.source, self.folder, self.options, self.task, self.progress = source, folder, options, task, progress
        self.episodes = _episodes(source)
        self.tasks: dict[str, int] = {}
        self.statistics: dict[str, _Statistics] = {}
        self.features: dict[str, dict[str, Any]] = {}
        self.rows: list[dict[str, Any]] = []
        self.frames = 0

    def write(self) -> None:
        for number, first in enumerate(range(0, len(self.episodes), _PER_FILE)):
            place = {"chunk_index": number // _CHUNK, "file_index": number % _CHUNK}
            self._write_file(range(first, min(first + _PER_FILE, len(self.episodes))), place)
        self._write_meta()

    def _write_file(self, numbers: Sequence[int], place: Mapping[str, int]) -> None:
        """Videos and rows of consecutive episodes."""
        arrays: dict[int, dict[str, list[np.ndarray]]] = {}
        for camera in self.episodes[numbers[0]].cameras:
            key = f"observation.images.{camera}"
            path = self.folder / _VIDEO.format(video_key=key, **place)
            write_video(self._stream(numbers, camera, key, arrays), path, self.source.spec.fps)
        columns: dict[str, list[Any]] = {}
        for number in numbers:
            self._add_rows(number, arrays[number], columns, place)
            if self.progress is not None:
                self.progress(number + 1, len(self.episodes))
        _write_parquet(columns, self.folder / _DATA.format(**place))

    def _stream(
        self, numbers: Sequence[int], camera: str, key: str, arrays: dict[int, dict[str, list[np.ndarray]]]
    ) -> Iterator[np.ndarray]:
        """Frames of one camera of several episodes, in order; collects the arrays of the first camera."""
        for number in numbers:
            episode = self.episodes[number]
            if camera not in episode.cameras:
                raise UserError(f"episode {number} lacks the camera {camera!r} that others have; leave it out")
            segment, wanted = episode.cameras[camera], number not in arrays
            found: dict[str, list[np.ndarray]] = arrays.setdefault(number, {})
            for start in range(0, episode.length, _BLOCK):
                count = min(_BLOCK, episode.length - start)
                clip = self.source.clip(segment.video, segment.start + start, count)
                frames, labels = resize_clip(clip.frames, clip.arrays, self.options.size, self.options.fit)
                frames = np.repeat(frames, 3, axis=1) if frames.shape[1] == 1 else frames
                self.statistics.setdefault(key, _Statistics()).add(
                    frames[::16].transpose(0, 2, 3, 1).reshape(-1, 3) / 255
                )
                self._describe_camera(key, frames.shape[1:])
                if wanted:
                    for name, values in labels.items():
                        found.setdefault(name, []).append(np.asarray(values))
                    found["task"] = [np.array(str(clip.meta.get("task") or self.task))]
                yield from frames

    def _describe_camera(self, key: str, shape: Sequence[int]) -> None:
        height, width = (side + side % 2 for side in shape[1:])  # H.264 in yuv420p needs even sides
        info = {"video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p"}
        info |= {
            "video.is_depth_map": False,
            "video.fps": self.source.spec.fps,
            "video.channels": 3,
            "has_audio": False,
        }
        names = ["height", "width", "channels"]
        self.features[key] = {"dtype": "video", "shape": [height, width, 3], "names": names, "info": info}

    def _add_rows(
        self, number: int, arrays: dict[str, list[np.ndarray]], columns: dict[str, list[Any]], place: Mapping[str, int]
    ) -> None:
        episode, fps = self.episodes[number], self.source.spec.fps
        (task,) = (str(value) for value in arrays.pop("task"))
        index, steps = self.tasks.setdefault(task, len(self.tasks)), np.arange(episode.length)
        found = {_FEATURES.get(k, f"observation.{k}"): np.concatenate(blocks) for k, blocks in arrays.items()}
        found |= {"timestamp": (steps / fps).astype(np.float32), "frame_index": steps}
        found |= {"episode_index": np.full_like(steps, number), "index": self.frames + steps}
        found |= {"task_index": np.full_like(steps, index)}
        for key, values in found.items():
            values = values.astype(np.float32) if values.dtype == np.float64 else values
            values = values[:, 0] if values.shape[1:] == (1,) else values
            names = list(self.source.spec.actions.names) if key == "action" and self.source.spec.actions else []
            shape = list(values.shape[1:]) or [1]
            self.features[key] = {"dtype": str(values.dtype), "shape": shape, "names": names or None}
            self.statistics.setdefault(key, _Statistics()).add(values)
            columns.setdefault(key, []).extend(values.tolist())
        before = [
            row for row in self.rows if (row["data/chunk_index"], row["data/file_index"]) == tuple(place.values())
        ]
        start = sum(row["length"] for row in before)
        row = {"episode_index": number, "tasks": [task], "length": episode.length}
        row |= {"dataset_from_index": self.frames, "dataset_to_index": self.frames + episode.length}
        row |= {f"data/{k}": v for k, v in place.items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        for camera in episode.cameras:
            key = f"videos/observation.images.{camera}"
            row |= {f"{key}/{k}": v for k, v in place.items()}
            row |= {f"{key}/from_timestamp": start / fps, f"{key}/to_timestamp": (start + episode.length) / fps}
        self.rows.append(row)
        self.frames += episode.length

    def _write_meta(self) -> None:
        meta, splits = self.folder / "meta", {}
        for split in SPLITS:
            numbers = [i for i, episode in enumerate(self.episodes) if episode.split == split]
            if numbers:
                splits[split] = f"{numbers[0]}:{numbers[-1] + 1}"
        fps = self.source.spec.fps
        info: dict[str, Any] = {"codebase_version": "v3.0", "robot_type": None, "total_episodes": len(self.episodes)}
        info |= {"total_frames": self.frames, "total_tasks": len(self.tasks), "chunks_size": _CHUNK}
        info |= {"data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
        info |= {"fps": int(fps) if float(fps).is_integer() else fps, "splits": splits}
        info |= {"data_path": _DATA, "video_path": _VIDEO, "features": self.features}
        meta.mkdir(parents=True, exist_ok=True)
        cameras = {key for key, feature in self.features.items() if feature["dtype"] == "video"}
        statistics = {k: s.summary((1, 1) if k in cameras else ()) for k, s in self.statistics.items()}
        for name, value in (("info.json", info), ("stats.json", statistics)):
            (meta / name).write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")
        _write_parquet(
            {key: [row[key] for row in self.rows] for key in self.rows[0]},
            meta / "episodes" / "chunk-000" / "file-000.parquet",
        )
        # The task text is the index of a pandas table, which its schema's metadata describe.
        columns: dict[str, list[Any]] = {"task_index": list(self.tasks.values()), "task": list(self.tasks)}
        fields = [{"name": n, "field_name": n, "pandas_type": t, "numpy_type": y, "metadata": None}
                  for n, t, y in (("task_index", "int64", "int64"), ("task", "unicode", "object"))]  # fmt: skip
        index = [{"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}]
        pandas = {"index_columns": ["task"], "column_indexes": index, "columns": fields, "pandas_version": "2.0.0"}
        _write_parquet(columns, meta / "tasks.parquet", {"pandas": json.dumps(pandas)})


def _episodes(source: Source) -> list[_Episode]:
    """Episodes in the order of the splits; the cameras of one are joined."""
    groups, cameras = getattr(source, "groups", None) or {}, getattr(source, "cameras", None) or {}
    splits, found = source.splits(2), []
    for split in SPLITS:
        joined: dict[tuple[str, int], dict[str, Segment]] = {}
        for segment in splits[split]:
            name = source.names[segment.video]
            camera = "".join(c if c.isalnum() or c in "._-" else "_" for c in cameras.get(name, "main"))
            joined.setdefault((groups.get(name, name), segment.start), {})[
                camera.removeprefix("observation.images.")
            ] = segment
        found += [_Episode(split, members) for members in joined.values()]
    return found


def _write_parquet(columns: Mapping[str, list[Any]], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        sample = np.asarray(values[0])
        kind: Any = None
        if sample.dtype.kind == "f":  # features are float32; the times of videos in meta/episodes are not
            kind = pa.float64() if "/" in name else pa.float32()
            for _ in sample.shape:
                kind = pa.list_(kind)
        arrays[name] = pa.array(values, kind)
    table = pa.table(arrays)
    if metadata:
        table = table.replace_schema_metadata(dict(metadata))
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
