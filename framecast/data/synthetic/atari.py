"""Synthetic source `atari`: episodes of Atari games from the emulator, with actions, rewards and ends.

Requires the emulator, `pip install "framecast[atari]"`, whose wheel contains the games.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.io import file_text, parse_json
from framecast.core.npy import map_npy
from framecast.core.types import ActionSpec
from framecast.data.synthetic.atari_players import PLAYERS, follow
from framecast.data.synthetic.atari_screen import FIELDS, UNRANKED, Screen, rank_colours
from framecast.data.synthetic.generator import Plan, SyntheticSource

#: Measured number of emulator frames at a game's start in which no sprite moves, whatever the action: in Ms. Pac-Man
#: a tune plays for 265 frames while only the power pills blink.
STILL_START = {"ms_pacman": 265}

_FPS = 60.0  # frame rate of the console
_ACTION_FILE_LIMIT = 1 << 26  # bytes


@dataclass(frozen=True, kw_only=True)
class AtariConfig:
    """Settings of Atari recordings; the same settings give the same bytes."""

    game: str = "ms_pacman"
    """Name of the game, see `list_games`; case, hyphens and underscores are ignored."""
    episodes: int = 12
    """Number of episodes."""
    max_frames: int = 600
    """Maximum recorded frames per episode, which also ends with the game."""
    frame_skip: int = 1
    """Emulator frames per recorded frame: the action is held, rewards are summed, the last image is stored."""
    policy: Literal["held", "random", "follow"] = "held"
    """Policy: held repeats each random action so that sprites move, random draws one per recorded frame, follow mixes
    held with a player that follows the ball (pong, breakout) or crosses the road (freeway)."""
    skill: float = 0.75
    """Share of the time in which the player of policy follow acts, 0…1."""
    hold_min: int = 8
    """Minimum emulator frames per held action."""
    hold_max: int = 48
    """Maximum emulator frames per held action."""
    actions_file: str | None = None
    """Actions instead of a policy, .json, .csv or .npy with an index or name per recorded frame, nested per episode."""
    sticky: float = 0.0
    """Probability that the console repeats the previous action; at 0, actions[i] is the action executed."""
    skip_start: int | None = None
    """Emulator frames without input before recording; if not given, the game's value in `STILL_START`, or 0."""
    field: bool = False
    """Crop to the field of play, without score and border; of pong, breakout, freeway and ms_pacman."""
    reduce: int = 1
    """Side of the blocks of pixels that become one, in exact colours; the rarest colour of a block is kept."""
    deflicker: bool = False
    """Paint a colour that the newest emulator frame lacks as in the newest of the last three that has it."""
    ram: bool = False
    """Store the 128 bytes of console memory per frame."""
    seed: int = 0
    """Random seed of policy and console."""

    def __post_init__(self) -> None:
        require_least(self, "atari: ", episodes=1, max_frames=2, frame_skip=1, hold_min=1, reduce=1, seed=0)
        if self.hold_max < self.hold_min:
            raise UserError(f"atari: hold_max {self.hold_max} is below hold_min {self.hold_min}; swap them")
        if not 0 <= self.sticky < 1:
            raise UserError(f"atari: sticky is a probability in 0…1, got {self.sticky}")
        if self.skip_start is not None and self.skip_start < 0:
            raise UserError(f"atari: skip_start must be at least 0, got {self.skip_start}")
        if not 0 <= self.skill <= 1:
            raise UserError(f"atari: skill is a share in 0…1, got {self.skill}")
        if self.policy not in ("held", "random", "follow"):
            raise UserError(
                f"atari: policy must be held, random or follow, got {self.policy!r}; for a file give actions_file"
            )


def list_games() -> list[str]:
    """Names of all games of the emulator.

    Raises:
        UserError: The emulator is not installed.
    """
    _, roms = _emulator()
    return sorted(roms.get_all_rom_ids())


class Atari(SyntheticSource):
    """Recorded games as a packed store; each episode is a video.

    Per frame: `actions` (index into the game's minimal action set; executed at frame i, leads to frame i + 1),
    `rewards` (float32), `terminated` (the game ends) and `truncated` (the recording ends before the game does) of the
    transition from frame i to frame i + 1, with ram also `ram` (128 bytes). The last frame of an episode has action 0,
    reward 0 and no end. Frames are RGB at the game's own size, 210x160 for most games, or with `field` and `reduce`
    smaller in the same exact colours.
    """

    Config: ClassVar[type] = AtariConfig
    name = "atari"

    def plan(self, folder: Path) -> Plan:
        config: AtariConfig = self.config
        game = find_game(config.game)
        if config.policy == "follow" and config.actions_file is None and game not in PLAYERS:
            raise UserError(f"atari: there is no player to follow in {game}, only in {', '.join(PLAYERS)}; use held")
        console = Console(config, 0)
        legal, (height, width, _) = console.legal, console.image().shape
        names = tuple(action.name for action in legal)
        given = None if config.actions_file is None else read_actions(Path(config.actions_file), names)
        return Plan(
            total=config.episodes,
            size=config.episodes * config.max_frames * (3 * height * width + 14 + 128 * config.ram),
            fps=_FPS / config.frame_skip,
            videos=self._videos(game, console, given),
            meta=self.described(),
            actions=ActionSpec(kind="discrete", size=len(legal), names=names),
        )

    def _videos(
        self, game: str, console: Console, given: Sequence[Sequence[int]] | None
    ) -> Generator[dict[str, Any], None, None]:
        config = self.config
        for episode in range(config.episodes):
            console = Console(config, episode) if episode else console
            rng = np.random.default_rng([config.seed, episode])
            chosen = iter(given[episode % len(given)]) if given else _policy(config, console, rng)
            arrays: dict[str, list[Any]] = {name: [] for name in _Column.TYPES if name != "ram" or config.ram}
            columns = {name: _Column(name, values) for name, values in arrays.items()}
            frames = _play(console, chosen, config, arrays)
            yield {"frames": frames, "name": f"{game}-{episode:04d}", "axes": "thwc", "meta": {"game": game}, **columns}

    def console(self, episode: int = 0) -> Console:
        """The game at the first frame of an episode."""
        return Console(self.config, episode)

    @classmethod
    def replay(cls, meta: Mapping[str, Any], name: str, actions: Sequence[int]) -> Console:
        """The state of a recorded episode after the given actions.

        Args:
            meta: Meta of the store.
            name: Name of the episode in the store.
            actions: Indices of the actions up to the frame wanted.

        Raises:
            UserError: The meta holds no settings of this version, or the emulator is not installed.
        """
        parameters, episode = meta.get("parameters"), name.rpartition("-")[2]
        known = {f.name for f in fields(AtariConfig)}
        if not isinstance(parameters, Mapping) or set(parameters) != known or not episode.isdecimal():
            raise UserError(f"{name}: the recording holds no emulator settings; record it again")
        console = Console(AtariConfig(**{**parameters, "actions_file": None}), int(episode))
        for action in actions:
            console.act(action)
        return console

    def described(self) -> dict[str, Any]:
        """Entries of meta.json about emulator, settings and field of play."""
        (ale, _), game = _emulator(), find_game(self.config.game)
        settings = asdict(self.config) | {"game": game, "skip_start": _skip_start(self.config, game)}
        if self.config.actions_file is not None:
            settings["actions_file"] = Path(self.config.actions_file).name
        field = {"field": list(FIELDS[game])} if self.config.field and game in FIELDS else {}
        return {"emulator": f"ale-py {ale.__version__}", "parameters": settings, **field}


class Console:
    """A game of the emulator at its first frame to record, which continues under actions (`data/base.py: World`).

    Args:
        config: Settings; of several episodes each has a random seed of its own.
        episode: Number of the episode.
    """

    def __init__(self, config: AtariConfig, episode: int) -> None:
        self.skip, self.game = config.frame_skip, find_game(config.game)
        self.console = _start(self.game, config, episode)
        self.legal = self.console.getMinimalActionSet()
        field = FIELDS.get(self.game) if config.field else None
        if config.field and field is None:
            raise UserError(f"atari: the field of play of {self.game} is unknown, only that of {', '.join(FIELDS)}")
        self.ranks = _ranks(self.game, config.skip_start, field) if config.reduce > 1 else UNRANKED
        plain = field is None and config.reduce == 1 and not config.deflicker
        self.screen = None if plain else Screen(field, config.reduce, config.deflicker, self.ranks)
        if self.screen is not None:
            self.screen.push(self.console)

    @property
    def over(self) -> bool:
        """Whether the game is over."""
        return bool(self.console.game_over())

    def image(self) -> np.ndarray:
        """The screen, uint8 (h, w, 3)."""
        image: np.ndarray = self.console.getScreenRGB() if self.screen is None else self.screen.image()
        return image

    def frame(self) -> np.ndarray:
        """The screen, uint8 (3, h, w)."""
        return np.ascontiguousarray(self.image().transpose(2, 0, 1))

    def act(self, action: Any) -> tuple[float, bool]:
        """Hold an action, given as its index, for one recorded frame; without effect once the game is over.

        Returns:
            Reward, and whether the game is over.
        """
        reward = 0.0
        for k in range(self.skip):
            if self.over:
                break
            reward += self.console.act(self.legal[int(action)])
            if self.screen is not None and (self.skip - k <= self.screen.memory or self.over):
                self.screen.push(self.console)
        return reward, self.over

    def save(self) -> Any:
        """The state of the console with its random generator, and its last images."""
        recent = [] if self.screen is None else list(self.screen.recent)
        return self.console.cloneState(include_rng=True), recent

    def restore(self, state: Any) -> None:
        """Return to a state of `save`."""
        self.console.restoreState(state[0])
        if self.screen is not None:
            self.screen.recent.clear()
            self.screen.recent.extend(state[1])


@lru_cache(maxsize=8)
def _ranks(game: str, skip_start: int | None, field: tuple[int, int, int, int] | None) -> np.ndarray:
    return rank_colours(_start(game, AtariConfig(game=game, skip_start=skip_start), 0), field)


def find_game(name: str) -> str:
    """The emulator's name of a game: ms_pacman for MsPacman, ms-pacman or "Ms. Pacman".

    Raises:
        UserError: No such game; the message holds the nearest name.
    """
    games = {_letters(game): game for game in list_games()}
    if _letters(name) in games:
        return games[_letters(name)]
    near = difflib.get_close_matches(_letters(name), games, n=1, cutoff=0.5)
    hint = f"did you mean {games[near[0]]}?" if near else "see framecast.data.synthetic.atari.list_games()"
    raise UserError(f"unknown game {name!r}; {hint}")


def read_actions(path: Path, names: Sequence[str]) -> list[list[int]]:
    """Action indices per episode from a .json, .csv or .npy file of indices or names.

    Args:
        path: File; a flat list is one episode, which every episode repeats.
        names: Names of the game's actions.

    Raises:
        UserError: The file cannot be read, or an entry is not an action.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the .json, .csv or .npy with the actions")
    if path.stat().st_size > _ACTION_FILE_LIMIT:
        raise UserError(f"{path} is larger than {_ACTION_FILE_LIMIT >> 20} MiB, the maximum for actions; shorten it")
    try:
        rows = _rows_of(path)
    except (ValueError, EOFError, RecursionError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of actions ({error}); give indices or names") from error
    episodes = rows if rows and isinstance(rows[0], list) else [rows]
    if not all(isinstance(episode, list) and episode for episode in episodes):
        raise UserError(f"{path} holds an episode without actions; give one per recorded frame")
    return [[_index_of(entry, names, path) for entry in episode] for episode in episodes]


def _rows_of(path: Path) -> list[Any]:
    kind = path.suffix.lower()
    if kind == ".npy":
        rows = map_npy(path).tolist()
    elif kind == ".json":
        rows = parse_json(file_text(path), path)
    elif kind == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
        rows = rows[1:] if rows and _letters(rows[0]) in ("action", "actions") else rows
    else:
        raise ValueError(f"the ending {kind!r} is not .json, .csv or .npy")
    if not isinstance(rows, list):
        raise ValueError("it is not a list")
    return rows


def _index_of(entry: Any, names: Sequence[str], path: Path) -> int:
    if isinstance(entry, str) and entry.upper() in names:
        return names.index(entry.upper())
    if isinstance(entry, str) and entry.isdigit():
        entry = int(entry)
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(names):
        return entry
    raise UserError(f"{path}: {entry!r} is not an action of this game; use 0…{len(names) - 1} or {', '.join(names)}")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _emulator() -> tuple[Any, Any]:
    try:
        import ale_py
        from ale_py import roms
    except ModuleNotFoundError as error:
        raise UserError('Atari games need the emulator ale-py; install it: pip install "framecast[atari]"') from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # otherwise it prints a greeting to stderr
    return ale_py, roms


def _skip_start(config: AtariConfig, game: str) -> int:
    return STILL_START.get(game, 0) if config.skip_start is None else config.skip_start


def _start(game: str, config: AtariConfig, episode: int) -> Any:
    """A console at the first frame to record, seeded per episode, so further episodes leave earlier ones unchanged."""
    ale, roms = _emulator()
    path = roms.get_rom_path(game)
    if path is None:
        raise UserError(f"the emulator has no ROM of {game!r}; choose another game")
    console = ale.ALEInterface()
    console.setInt("random_seed", int(np.random.SeedSequence([config.seed, episode]).generate_state(1)[0] >> 1))
    console.setFloat("repeat_action_probability", config.sticky)
    console.setInt("frame_skip", 1)
    console.loadROM(str(path))
    noop = console.getMinimalActionSet()[0]
    for _ in range(_skip_start(config, game)):
        console.act(noop)
    return console


def _policy(config: AtariConfig, console: Console, rng: np.random.Generator) -> Iterator[int]:
    """Action indices without end, one per recorded frame."""
    names = [action.name for action in console.legal]
    while True:
        action = int(rng.integers(len(names)))
        held = 0 if config.policy == "random" else int(rng.integers(config.hold_min, config.hold_max + 1))
        count = max(1, round(held / config.frame_skip))
        if config.policy == "follow" and rng.random() < config.skill:
            error = float(rng.uniform(-1, 1))
            for _ in range(count):
                yield follow(console.game, console.console.getRAM(), error, names)
        else:
            yield from repeat(action, count)


def _play(
    console: Console, chosen: Iterator[int], config: AtariConfig, arrays: dict[str, list[Any]]
) -> Iterator[np.ndarray]:
    """Frames (h, w, 3) of one game, one by one; appends a row per frame to `arrays`."""
    for count in range(1, config.max_frames + 1):
        yield console.image()
        if config.ram:
            arrays["ram"].append(console.console.getRAM().copy())
        wanted = None if console.over or count == config.max_frames else next(chosen, None)
        reward, over = (0.0, False) if wanted is None else console.act(wanted)
        for name, value in (("actions", wanted or 0), ("rewards", reward), ("terminated", over), ("truncated", False)):
            arrays[name].append(value)
        if wanted is None:
            arrays["truncated"][-2:-1] = [not console.over] * (count > 1)
            return


class _Column:
    """A per-frame list filled while frames are written, converted to an array of fixed type afterwards."""

    TYPES: ClassVar[dict[str, type[np.generic]]] = {
        "actions": np.int64,
        "rewards": np.float32,
        "terminated": np.bool_,
        "truncated": np.bool_,
        "ram": np.uint8,
    }

    def __init__(self, name: str, values: list[Any]) -> None:
        self.dtype, self.values = self.TYPES[name], values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype or self.dtype)
