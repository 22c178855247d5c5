"""Reader of the Atari Grand Challenge: an image per frame, and its action, reward and score.

    <folder>/screens/<game>/<episode>/<n>.png      RGB, 160 wide and 210 high, 60 per second
    <folder>/trajectories/<game>/<episode>.txt     metadata, a header, then frame,reward,score,terminal,action

Source: Kurin, Nowozin, Hofmann, Beyer, Leibe 2017, arXiv 1705.10998, and the release's own reader.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError
from framecast.core.migration import migrate_terminals
from framecast.core.types import ActionSpec, Clip, ClipSpec
from framecast.data.base import clip_stop
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.frames import read_images
from framecast.data.splits import SplitByName
from framecast.media.images import image_size, natural_key
from framecast.media.resize import target_size

#: The eighteen actions of the console, by index.
ACTIONS = (
    *("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT"),
    *("UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE"),
)
COLUMNS = ("frame", "reward", "score", "terminal", "action")
_FPS = 60.0
_TRAJECTORY_LIMIT = 1 << 28  # maximum bytes of a trajectory; the longest of the release has about 4 MB


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of one episode: folder and numbers of the images, and rows of the trajectory by name."""

    folder: Path
    numbers: np.ndarray
    rows: Mapping[str, np.ndarray]


class GrandChallenge(SplitByName):
    """An Atari Grand Challenge folder as a source: each gapless segment of an episode is a video.

    Per frame: `actions` (0…17, see ACTIONS), `rewards` (float32), `scores`, `terminated`. Images and rows match by
    number; the offset of the image numbers (0 or 1) is the one that leaves fewer images without a row, per episode.
    Episodes are cut at missing numbers, so no clip crosses a gap; the segments of an episode stay in one split.

    Args:
        path: Folder that holds `screens` and `trajectories`, or its parent, or `screens/<game>` for one game.
        options: skip_bad leaves out episodes without a readable trajectory.

    Attributes:
        skipped: Episodes left out.
        groups: Name -> episode.
        games: Name -> game.

    Raises:
        UserError: Files are missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        found = find_root(Path(path))
        if found is None:
            raise UserError(f"{path} holds no screens/<game>/<episode>/<n>.png; give the folder with screens in it")
        self.path, chosen = found
        self.options = options
        self.skipped: list[str] = []
        self.stretches: list[Stretch] = []
        self.names: list[str] = []
        self.groups: dict[str, str] = {}
        self.games: dict[str, str] = {}
        self.counts: dict[str, Counter[str]] = {}
        for game in [chosen] if chosen else _folders(self.path / "screens"):
            self._read_game(game)
        if not self.stretches:
            raise UserError(f"{self.path / 'screens'} holds no episode that can be read, first {self.skipped[0]}")
        self.lengths = [len(s.numbers) for s in self.stretches]
        first = self.stretches[0]
        self.stored = image_size(first.folder / f"{first.numbers[0]}.png")
        height, width = target_size(*self.stored, options.size, options.fit)
        self.spec = ClipSpec(
            channels=3,
            height=height,
            width=width,
            fps=float(options.fps or _FPS),
            actions=ActionSpec(kind="discrete", size=len(ACTIONS), names=ACTIONS),
            extras={"rewards": (), "scores": (), "terminated": ()},
        )

    def _read_game(self, game: str) -> None:
        images, rows = self.path / "screens" / game, self.path / "trajectories" / game
        if not rows.is_dir():
            raise UserError(
                f"{rows} is missing, expected the trajectories of {game}; unpack them next to its screens, or give "
                f"{images} for the images only"
            )
        count = self.counts.setdefault(game, Counter())
        for episode in _folders(images):
            try:
                numbers = _numbers(images / episode)
                trajectory = read_trajectory(rows / f"{episode}.txt")
            except UserError:
                if not self.options.skip_bad:
                    raise
                self.skipped.append(f"{game}/{episode}")
                continue
            count["episodes"] += 1
            for stretch in _stretches(images / episode, numbers, trajectory, count):
                group = f"{game}/{episode}"
                name = group if group not in self.groups else f"{group}@{stretch.numbers[0]}"
                self.names.append(name)
                self.groups[name], self.games[name] = group, game
                self.stretches.append(stretch)
                count["frames"] += len(stretch.numbers)

    def clip(self, index: int, start: int, length: int, stride: int = 1) -> Clip:
        """Frames start, start + stride, … of segment `index`, with actions, rewards, scores and ends."""
        stretch = self.stretches[index]
        stop = clip_stop(self.names[index], self.lengths[index], start, length, stride)
        files = [stretch.folder / f"{number}.png" for number in stretch.numbers[start:stop:stride]]
        first = self.stretches[0]
        frames = read_images(files, first.folder / f"{first.numbers[0]}.png", self.stored, self.options)
        game, _, episode = self.groups[self.names[index]].partition("/")
        return Clip(
            frames=frames,
            arrays={name: values[start:stop:stride] for name, values in stretch.rows.items()},
            name=self.names[index],
            fps=self.spec.fps / stride,
            meta={"game": game, "episode": episode, "first": int(stretch.numbers[0])},
        )

    def meta(self) -> dict[str, Any]:
        """Kind, name, counts per game, and notes on missing frames."""
        found: dict[str, Any] = {"source": "atari-grand-challenge", "path": self.path.resolve().name}
        found["games"] = {game: dict(sorted(count.items())) for game, count in self.counts.items()}
        total = sum(self.counts.values(), Counter[str]())
        notes = []
        if total["gaps"]:
            notes.append(
                f"{total['gaps']} gaps in the frame numbers, {total['missing']} frames missing; no clip crosses them"
            )
        if total["without_row"]:
            notes.append(f"{total['without_row']} images without a row in their trajectory left out")
        if notes:
            found["notes"] = notes
        if self.skipped:
            found["skipped"] = self.skipped
        return found


def find_root(path: Path) -> tuple[Path, str | None] | None:
    """The folder with `screens` and `trajectories`, and the game if `path` selects one; None for other folders.

    Episodes and images must be numbered, so a folder of other images named screens is not matched.
    """
    if path.parent.name == "screens" and (path.parent.parent / "trajectories" / path.name).is_dir():
        return (path.parent.parent, path.name) if _has_episodes(path) else None
    for root in (path, path / "atari_v1"):
        screens = root / "screens"
        if screens.is_dir() and any(_has_episodes(screens / game) for game in _folders(screens)):
            return root, None
    return None


def read_trajectory(path: Path) -> dict[str, np.ndarray]:
    """Columns of a trajectory by name: frame, reward, score, terminal, action, each int64 (rows,).

    Raises:
        UserError: The file is missing or damaged; the message names the line.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing but its images exist; unpack it, or remove the episode")
    if path.stat().st_size > _TRAJECTORY_LIMIT:
        raise UserError(f"{path} is larger than {_TRAJECTORY_LIMIT >> 20} MiB, the limit of a trajectory; replace it")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    header = [word.strip().lower() for word in lines[1].split(",")] if len(lines) > 1 else []
    if sorted(header) != sorted(COLUMNS):
        raise UserError(f"{path}: line 2 must name the columns {', '.join(COLUMNS)}; the file is damaged")
    rows = []
    for number, line in enumerate(lines[2:], 3):
        if not line.strip():
            continue
        try:
            values = [int(word) for word in line.split(",")]
        except ValueError:
            values = []
        if len(values) != len(COLUMNS):
            raise UserError(f"{path}: line {number} is not {len(COLUMNS)} whole numbers; the file is damaged")
        rows.append(values)
    if not rows:
        raise UserError(f"{path} has no rows; remove the episode")
    table = np.array(rows, np.int64)
    found = {name: table[:, header.index(name)] for name in COLUMNS}
    if (np.diff(found["frame"]) <= 0).any():
        raise UserError(f"{path}: frame numbers are not increasing; the file is damaged")
    if not 0 <= found["action"].min() <= found["action"].max() < len(ACTIONS):
        raise UserError(f"{path}: actions must be 0 to {len(ACTIONS) - 1}; the file is damaged")
    return found


def _stretches(
    folder: Path, numbers: np.ndarray, trajectory: Mapping[str, np.ndarray], count: Counter[str]
) -> Iterator[Stretch]:
    """Gapless segments of images that have a row; gaps and missing frames are added to `count`."""
    frames = trajectory["frame"]
    # Image n belongs to the row of frame n - offset; ties choose 0.
    offset = max((0, 1, -1), key=lambda o: int(np.isin(numbers - o, frames).sum()))
    known = np.isin(numbers - offset, frames)
    count["without_row"] += int((~known).sum())
    numbers = numbers[known]
    if not len(numbers):
        raise UserError(f"{folder}: none of its images has a row in its trajectory; remove the episode")
    rows = np.searchsorted(frames, numbers - offset)
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    count["gaps"] += len(breaks)
    count["missing"] += int(numbers[-1] - numbers[0] + 1 - len(numbers))
    for part in np.split(np.arange(len(numbers)), breaks):
        chosen = rows[part]
        yield Stretch(
            folder,
            numbers[part],
            {
                "actions": trajectory["action"][chosen],
                "rewards": trajectory["reward"][chosen].astype(np.float32),
                "scores": trajectory["score"][chosen],
                # The file marks the frame at which the game is over, `terminated` the transition to it.
                "terminated": migrate_terminals(trajectory["terminal"][chosen].astype(np.bool_), [0], [len(chosen)]),
            },
        )


def _numbers(folder: Path) -> np.ndarray:
    """Sorted numbers of the images of a folder."""
    with os.scandir(folder) as entries:
        found = [e.name[:-4] for e in entries if e.name.endswith(".png") and e.name[:-4].isdecimal()]
    if not found:
        raise UserError(f"{folder} holds no <number>.png; remove the episode")
    return np.array(sorted(map(int, found)), np.int64)


def _folders(path: Path) -> Sequence[str]:
    if not path.is_dir():
        return []
    return sorted((p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_key)


def _has_episodes(path: Path) -> bool:
    """Whether the first numbered episode in a game's folder holds numbered images."""
    for episode in _folders(path):
        if episode.isdecimal():
            return any(p.name[:-4].isdecimal() for p in (path / episode).glob("*.png"))
    return False
