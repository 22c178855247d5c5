"""Reader of LeRobot datasets, format v3.0 (and v2.0, v2.1): cameras as videos or images, actions, states, task text.

    meta/info.json                                 version, fps, features (name -> dtype, shape, names), paths
    meta/episodes/chunk-000/file-000.parquet       per episode: length, tasks, its data file, and per camera the video
                                                   file with from_timestamp (v2: meta/episodes.jsonl)
    data/chunk-000/file-000.parquet                a row per frame, several episodes in a file (v2: one each)
    videos/<camera>/chunk-000/file-000.mp4         pictures of several episodes in a file (v2: one each)

Source: the documentation of LeRobotDataset v3.0, Hugging Face.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.io import file_text, parse_json, read_json
from framecast.core.types import ActionSpec, Clip, ClipSpec
from framecast.data.base import SPLITS, clip_stop
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.arrays import action_spec_of
from framecast.data.readers.parquet import column_values, read_parquet
from framecast.data.splits import SplitByName
from framecast.media.images import open_image, read_image, to_rgb
from framecast.media.index import video_index
from framecast.media.resize import resize_frames, target_size
from framecast.media.video import iter_frames, probe

#: Columns that number frames, and names of per-frame arrays for the usual features.
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
NAMES = {"action": "actions", "observation.state": "states", "next.reward": "rewards", "next.done": "terminated"}
_V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


@dataclass(frozen=True)
class Episode:
    """One episode: its number, frames, task text, data file, and per camera the video file and its start there."""

    number: int
    length: int
    task: str
    data: Path
    videos: Mapping[str, tuple[Path, float]]


class LeRobot(SplitByName):
    """A LeRobot dataset as a source: every camera of every episode is a video.

    Names are `episode-000003`, with `/<camera>` where there are several. Actions, states and all other numeric features
    are per-frame arrays; the meta of a video holds its task. All cameras of an episode are in one split. Pictures are
    taken by their number in the episode, as timestamps are rounded and drift.

    Args:
        path: Folder that holds `meta/info.json`.
        options: size and fit resize frames; skip_bad leaves out depth features and episodes that cannot be read.

    Attributes:
        skipped: Episodes and features left out.
        groups: Name -> episode.
        cameras: Name -> camera.
        fixed: Name -> split, where the dataset prescribes train and test.

    Raises:
        UserError: A file is missing or damaged, the format is another one, or a feature is a depth map.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        self.path, self.options = Path(path), options
        self.info = read_info(self.path)
        self.skipped: list[str] = []
        features = self._features()
        self._keys = [key for key, feature in features.items() if feature.get("dtype") in ("video", "image")]
        if not self._keys:
            raise UserError(f"{self.path} has no camera (no feature of dtype video or image); give another dataset")
        self._numeric = [k for k, f in features.items() if _is_numeric(f) and k not in BOOKKEEPING]
        self._fps = float(self.info["fps"])
        self._episodes = {e.number: e for e in _episodes(self.path, self.info, self._keys)}
        self._check_counts()
        self._bases = self._video_bases()
        self._faults: dict[int, str] = {}  # episode -> what is wrong with its rows
        self._rows = self._read_rows()
        self._pictures: tuple[tuple[int, str], list[Any]] | None = None  # stored images of the last episode read
        self._index: list[tuple[Episode, str]] = []
        self.names: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self._add_episodes()
        if not self.names:
            raise UserError(f"{self.path}: none of its {len(self._episodes)} episodes can be read; download it again")
        several = len(self._keys) > 1
        self.lengths: list[int] = [episode.length for episode, _ in self._index]
        self.groups: dict[str, str] = {
            name: f"episode-{e.number:06d}" for name, (e, _) in zip(self.names, self._index, strict=True) if several
        }
        self.cameras: dict[str, str] = {
            name: key for name, (_, key) in zip(self.names, self._index, strict=True) if several
        }
        self.fixed: dict[str, str] = self._prescribed()
        height, width = Counter(self.sizes).most_common(1)[0][0]
        shapes = {name: values.shape[1:] for name, values in self._rows[self._index[0][0].number].items()}
        self.spec = ClipSpec(
            channels=3,
            height=height,
            width=width,
            fps=self._fps,
            actions=self._action_spec(features) if "actions" in shapes else None,
            extras={name: shape for name, shape in shapes.items() if name != "actions"},
        )
        self._running: tuple[int, int, int, Iterator[np.ndarray]] | None = None

    def _features(self) -> dict[str, Any]:
        """Features that are read; depth maps are refused, or left out with skip_bad."""
        found = {}
        for key, feature in self.info["features"].items():
            infos = (feature.get("info") or {}, feature.get("video_info") or {}, feature)
            if any(info.get(name) for info in infos for name in ("is_depth_map", "video.is_depth_map")):
                if not self.options.skip_bad:
                    raise UserError(
                        f"{self.path}: feature {key!r} is a depth map, which cannot be read; remove it, or leave it "
                        "out with --skip-bad"
                    )
                self.skipped.append(key)
                continue
            found[key] = feature
        return found

    def _check_counts(self) -> None:
        """Raise if the episodes listed are not those that info.json promises, as after a download that stopped."""
        there = {"episodes": len(self._episodes), "frames": sum(e.length for e in self._episodes.values())}
        for what, count in there.items():
            promised = self.info.get(f"total_{what}", count)
            if promised != count and not self.options.skip_bad:
                raise UserError(
                    f"{self.path}: meta/info.json promises {promised} {what}, meta/episodes lists {count}; download it "
                    "again, or use what is there with --skip-bad"
                )

    def _video_bases(self) -> dict[tuple[int, str], int]:
        """(episode, camera) -> number of its first picture in the video file."""
        files: dict[tuple[Path, str], list[tuple[float, Episode]]] = {}
        for episode in self._episodes.values():
            for key, (file, start) in episode.videos.items():
                files.setdefault((file, key), []).append((start, episode))
        bases: dict[tuple[int, str], int] = {}
        for (file, key), parts in files.items():
            count = 0
            parts.sort(key=lambda part: (part[0], part[1].number))
            total = sum(episode.length for _, episode in parts)
            times = self._times(file)
            whole = len(times) == total
            for start, episode in parts:
                # Where the file holds exactly these episodes, counting is exact; sums of float times are not.
                bases[episode.number, key] = count if whole else _frame_at(start, times, self._fps)
                count += episode.length
        return bases

    def _times(self, file: Path) -> np.ndarray:
        """Seconds of the pictures of a video file; none if it is missing, which is reported for its episodes."""
        try:
            return video_index(file, self.options.skip_bad).times if file.is_file() else np.zeros(0)
        except UserError:
            if not self.options.skip_bad:
                raise
            return np.zeros(0)

    def _read_rows(self) -> dict[int, dict[str, np.ndarray]]:
        """Episode -> per-frame arrays; every data file is read once."""
        rows: dict[int, dict[str, np.ndarray]] = {}
        for file in dict.fromkeys(episode.data for episode in self._episodes.values()):
            try:
                numbers, frames, arrays = self._read_table(file)
            except UserError:
                if not self.options.skip_bad:
                    raise
                continue  # its episodes are left out
            for number in np.unique(numbers).tolist():
                cut = slice(*np.searchsorted(numbers, [number, number + 1]))
                rows[number] = {name: values[cut] for name, values in arrays.items()}
                if fault := _fault(frames[cut], rows[number]):
                    self._faults[number] = fault
        return rows

    def _read_table(self, file: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Numbers of episode and frame, and per-frame arrays, of a data file, in this order."""
        table = read_parquet(file, ["episode_index", "frame_index", *self._numeric], self.path)
        if missing := {"episode_index", "frame_index"} - set(table.column_names):
            raise UserError(f"{file} has no column {min(missing)}; download it again")
        numbers, frames = table["episode_index"].to_numpy(), table["frame_index"].to_numpy()
        order = np.lexsort((frames, numbers))
        keys = [key for key in self._numeric if key in table.column_names]
        return numbers[order], frames[order], {array_name(key): column_values(table, key, file)[order] for key in keys}

    def _add_episodes(self) -> None:
        for episode in self._episodes.values():
            for key in self._keys:
                name = f"episode-{episode.number:06d}"
                name = f"{name}/{key.removeprefix('observation.images.')}" if len(self._keys) > 1 else name
                try:
                    size = self._checked(episode, key)
                except UserError:
                    if not self.options.skip_bad:
                        raise
                    self.skipped.append(name)
                    continue
                self._index.append((episode, key))
                self.names.append(name)
                self.sizes.append(target_size(*size, self.options.size, self.options.fit))

    def _checked(self, episode: Episode, key: str) -> tuple[int, int]:
        """Stored (h, w) of a camera in an episode, whose rows and pictures are there."""
        rows = self._rows.get(episode.number)
        if rows is None or any(len(values) != episode.length for values in rows.values()):
            have = 0 if rows is None else max(map(len, rows.values()))
            raise UserError(
                f"{episode.data} has {have} rows of episode {episode.number}, meta/episodes has {episode.length}; "
                "download it again"
            )
        if episode.number in self._faults:
            raise UserError(
                f"{episode.data}, episode {episode.number}: {self._faults[episode.number]}; repair it, or leave the "
                "episode out with --skip-bad"
            )
        if key not in episode.videos:
            if self.info["features"][key]["dtype"] == "video":
                raise UserError(
                    f"{self.path}: episode {episode.number} has no video of camera {key!r}; add it, or leave it "
                    "out with --skip-bad"
                )
            frame = self._image(self._images(episode, key)[0])
            return frame.shape[1], frame.shape[2]
        file = episode.videos[key][0]
        if not file.is_file():
            raise UserError(f"{file} is missing, the video of episode {episode.number}; download it again")
        info = probe(file, self.options.skip_bad)
        # The last timestamp may lie one picture beyond the end; the last picture is then repeated.
        if self._bases[episode.number, key] + episode.length > info.stored + 1:
            raise UserError(
                f"{file} has {info.stored} pictures, too few for episode {episode.number}; download it again"
            )
        return info.height, info.width

    def _prescribed(self) -> dict[str, str]:
        """Name -> split by the ranges of info.json, if these name train and test and hold every episode."""
        ranges: dict[str, range] = {}
        for split, text in (self.info.get("splits") or {}).items():
            match = re.fullmatch(r"(\d+):(\d+)", str(text))
            name = {"validation": "val"}.get(split, split)
            if match and name in SPLITS:
                ranges[name] = range(int(match[1]), int(match[2]))
        found = {
            name: next((split for split, numbers in ranges.items() if episode.number in numbers), "")
            for name, (episode, _) in zip(self.names, self._index, strict=True)
        }
        return found if {"train", "test"} <= set(found.values()) and "" not in found.values() else {}

    def _action_spec(self, features: Mapping[str, Any]) -> ActionSpec:
        actions = [self._rows[e.number]["actions"] for e, _ in self._index]
        spec = action_spec_of(np.concatenate(actions), self.path)
        names = _flat_names(features["action"].get("names"))
        if spec.kind == "continuous" and len(names) == spec.size:
            spec = ActionSpec(kind=spec.kind, size=spec.size, names=names, low=spec.low, high=spec.high)
        return spec

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of one camera of an episode, with the episode's per-frame arrays."""
        episode, key = self._index[index]
        stop = clip_stop(self.names[index], episode.length, start, length, stride)
        if key in episode.videos:
            frames = self._decoded(index, start, length, stride)
        else:
            images = self._images(episode, key)[start:stop:stride]
            pictures = [self._image(image)[None] for image in images]
            frames = np.concatenate([resize_frames(p, self.options.size, self.options.fit) for p in pictures])
        arrays = {name: values[start:stop:stride] for name, values in self._rows[episode.number].items()}
        meta = {"task": episode.task} if episode.task else {}
        return Clip(frames=frames, arrays=arrays, name=self.names[index], fps=self._fps / stride, meta=meta)

    def _decoded(self, index: int, start: int, length: int, stride: int) -> np.ndarray:
        episode, key = self._index[index]
        running, self._running = self._running, None
        if running is not None and running[:3] == (index, start, stride):
            stream = running[3]
        else:
            file, base = episode.videos[key][0], self._bases[episode.number, key]
            count = len(range(start, episode.length, stride))
            options: dict[str, Any] = {"skip_bad": self.options.skip_bad, "as_stored": True}
            size, fit, first = self.options.size, self.options.fit, base + start
            stream = iter_frames(file, size, fit, start=first, length=count, stride=stride, **options)
        frames = np.empty((length, 3, *self.sizes[index]), np.uint8)
        for number in range(length):
            frame = next(stream, None)
            if frame is not None:
                frames[number] = frame
            elif number:  # one timestamp beyond the end
                frames[number] = frames[number - 1]
            else:
                frames[number] = self._decoded(index, start - stride, 1, stride)[0] if start >= stride else 0
        self._running = (index, start + length * stride, stride, stream)
        return frames

    def _images(self, episode: Episode, key: str) -> list[Any]:
        """Stored images of a camera in an episode: mappings of bytes and path."""
        slot = episode.number, key
        if self._pictures is None or self._pictures[0] != slot:
            table = read_parquet(episode.data, ["episode_index", "frame_index", key], self.path)
            rows = sorted(
                (row for row in table.to_pylist() if row["episode_index"] == episode.number),
                key=lambda row: row["frame_index"],
            )
            self._pictures = (slot, [row[key] for row in rows])
        return self._pictures[1]

    def _image(self, stored: Any) -> np.ndarray:
        """uint8 (3, h, w)."""
        content = stored.get("bytes") if isinstance(stored, dict) else stored
        if content is None:
            return read_image(inside(self.path, str(stored.get("path"))))
        with open_image(io.BytesIO(content), f"an image of {self.path}") as image:
            return np.ascontiguousarray(to_rgb(image).transpose(2, 0, 1))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None}  # decoders cannot be pickled

    def meta(self) -> dict[str, Any]:
        """Kind, version and robot of the dataset; with skip_bad, what was left out."""
        found: dict[str, Any] = {"source": "lerobot", "path": self.path.resolve().name, "fps": self._fps}
        found |= {"version": self.info["codebase_version"], "robot": self.info.get("robot_type"), **self.options.meta()}
        if self.options.skip_bad:
            found["skipped"] = self.skipped
        return found


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a LeRobot dataset."""
    info = path / "meta" / "info.json"
    if not info.is_file():
        return False
    text = info.read_text(encoding="utf-8", errors="replace")
    return '"codebase_version"' in text or '"robot_type"' in text


def read_info(path: Path) -> dict[str, Any]:
    """Contents of meta/info.json.

    Raises:
        UserError: It is damaged, or its version is not 2 or 3.
    """
    file = path / "meta" / "info.json"
    info = read_json(file)
    if not isinstance(info.get("features"), dict):
        raise UserError(f"{file} is damaged: it holds no features; download it again")
    version = str(info.get("codebase_version", ""))
    if not re.fullmatch(r"v[23]\.\d+", version):
        raise UserError(f"{file} has version {version!r}, expected v2.0, v2.1 or v3.0; convert it with LeRobot's tools")
    if not isinstance(info.get("fps"), int | float) or not info["fps"] > 0:
        raise UserError(f"{file} has no valid fps; download it again")
    if not all(isinstance(feature, dict) for feature in info["features"].values()):
        raise UserError(f"{file} is damaged: a feature is no mapping; download it again")
    return info


def array_name(key: str) -> str:
    """Name of the per-frame array of a feature: actions, states, …, otherwise its name with underscores."""
    return NAMES.get(key, re.sub(r"\W", "_", key.removeprefix("observation.")).lstrip("_0123456789")[:60] or "values")


def inside(root: Path, name: str) -> Path:
    """A path below `root`.

    Raises:
        UserError: The name leads out of the folder.
    """
    file = root / name
    if not file.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{root}: its index names {name!r}, outside the dataset; download it again")
    return file


def _frame_at(start: float, times: np.ndarray, fps: float) -> int:
    """Number of the picture at `start`, s: by the rate where that agrees with its timestamp, else the nearest one."""
    number = round(start * fps)
    if number < len(times) and abs(times[number] - start) > 0.5 / fps:
        return int(np.argmin(np.abs(times - start)))
    return number


def _episodes(root: Path, info: Mapping[str, Any], cameras: list[str]) -> list[Episode]:
    try:
        found = _episodes_v3(root, info, cameras) if info["codebase_version"] >= "v3" else _episodes_v2(root, info)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{root}: meta/episodes is damaged ({error!r}); download it again") from error
    if not found:
        raise UserError(f"{root}: meta/episodes lists no episode; download it again")
    number, times = Counter(episode.number for episode in found).most_common(1)[0]
    if times > 1:
        raise UserError(f"{root}: meta/episodes lists episode {number} {times} times; download it again")
    return sorted(found, key=lambda episode: episode.number)


def _episodes_v3(root: Path, info: Mapping[str, Any], cameras: list[str]) -> list[Episode]:
    found = []
    videos = [key for key in cameras if info["features"][key]["dtype"] == "video"]
    for file in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        places = [f"videos/{key}/{part}" for key in videos for part in ("chunk_index", "file_index", "from_timestamp")]
        columns = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index", *places]
        for row in read_parquet(file, columns, root).to_pylist():
            data = info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
            films = {}
            for key in videos:
                place = {part: row.get(f"videos/{key}/{part}") for part in ("chunk_index", "file_index")}
                start = row.get(f"videos/{key}/from_timestamp")
                if start is None or None in place.values():
                    continue  # this camera did not record; reported where its frames are needed
                name = info["video_path"].format(video_key=key, **place)
                films[key] = (inside(root, name), float(start))
            tasks = row.get("tasks") or []
            task = "; ".join(map(str, tasks)) if isinstance(tasks, list) else str(tasks)
            found.append(Episode(int(row["episode_index"]), int(row["length"]), task, inside(root, data), films))
    return found


def _episodes_v2(root: Path, info: Mapping[str, Any]) -> list[Episode]:
    found, file = [], root / "meta" / "episodes.jsonl"
    videos = [key for key, feature in info["features"].items() if feature.get("dtype") == "video"]
    for line in file_text(file).splitlines():
        if not line.strip():
            continue
        row = parse_json(line, file)
        number = int(row["episode_index"])
        place = {"episode_index": number, "episode_chunk": number // int(info.get("chunks_size") or 1000)}
        data = (info.get("data_path") or _V2_DATA).format(**place)
        video = info.get("video_path") or _V2_VIDEO
        films = {key: (inside(root, video.format(video_key=key, **place)), 0.0) for key in videos}
        task = "; ".join(map(str, row.get("tasks") or []))
        found.append(Episode(number, int(row["length"]), task, inside(root, data), films))
    return found


def _is_numeric(feature: Mapping[str, Any]) -> bool:
    return re.fullmatch(r"(float|u?int)\d+|bool", str(feature.get("dtype"))) is not None


def _flat_names(names: Any) -> tuple[str, ...]:
    """Names of the dimensions: a list, or a mapping of one or more groups to lists."""
    if isinstance(names, dict):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _fault(frames: np.ndarray, rows: Mapping[str, np.ndarray]) -> str:
    """What is wrong with the rows of an episode: frames that are missing or there twice, or values that are not finite.

    Args:
        frames: Their numbers of frame, ascending.
        rows: Per-frame arrays.
    """
    wrong = np.flatnonzero(frames != np.arange(len(frames)))
    if len(wrong):
        return f"row {wrong[0]} is that of frame {frames[wrong[0]]}, so that rows are missing or there twice"
    for name, values in rows.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            at = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0]
            return f"{name} is not a finite number at frame {at}"
    return ""
