"""The mixed set on which the packaged weights `direct-any` are trained, and the sets held out from it.

Training clips are 64x64 windows: of games at several frame skips and scales, of generated scenes, and of photographs
that installed packages ship, set in motion. Whole games, scenes and photographs are held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.random import seed_for
from framecast.data.registry import find_source
from framecast.data.store import DatasetWriter, Store

SIDE, LENGTH = 64, 96
#: Games of the emulator in the training set.
GAMES = (
    *("alien", "amidar", "assault", "asteroids", "atlantis", "beam_rider", "berzerk", "bowling", "boxing", "breakout"),
    *("carnival", "centipede", "chopper_command", "demon_attack", "enduro", "fishing_derby", "frostbite", "gopher"),
    *("hero", "ice_hockey", "jamesbond", "kung_fu_master", "phoenix", "pong"),
)
#: Games that are never trained on.
HELD_OUT_GAMES = ("ms_pacman", "space_invaders", "seaquest", "freeway", "qbert", "asterix")
#: Games that decide whether weights are packaged, never trained on.
VALIDATION_GAMES = (
    *("elevator_action", "frogger", "gravitar", "kangaroo", "krull", "name_this_game", "private_eye", "road_runner"),
    *("tutankham", "wizard_of_wor"),
)
#: Games of the emulator that need a second player, so that it does not start them.
FOR_TWO = ("combat", "joust", "maze_craze", "warlords")
SKIPS = (1, 2, 4)
#: Photographs of scikit-image and matplotlib, of known origin and free to use.
PHOTOS = ("astronaut", "brick", "camera", "coins", "grass", "gravel", "hubble_deep_field", "moon", "rocket")
HELD_OUT_PHOTOS = ("chelsea", "coffee")


def all_games() -> tuple[str, ...]:
    """Games of the wide set: all of the emulator, `GAMES` first, but those that are set aside."""
    from framecast.data.synthetic.atari import list_games

    apart = {*GAMES, *HELD_OUT_GAMES, *VALIDATION_GAMES, *FOR_TWO}
    return (*GAMES, *(game for game in list_games() if game not in apart))


def windows_of_games(
    root: Path, games: Sequence[str] = GAMES, starts: bool = False, per_episode: int = 4, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Windows of recorded episodes at random scales; places where nothing moves are taken once in five times.

    Args:
        root: folder of the recordings.
        games: their names.
        starts: whether to add, at frame skip 1, episodes from the first frame of the game.
        per_episode: windows of each episode.
        seed: random seed.
    """
    import cv2

    for game in games:
        for skip, start in [(skip, 90) for skip in SKIPS] + [(1, 0)] * starts:
            store = recorded(root, game, skip, start)
            rng = np.random.default_rng(seed_for(seed, game, skip, *([] if start else ["start"])))
            for video, name in enumerate(store.names):
                length = store.lengths[video]
                if length < LENGTH:  # the game was over early
                    continue
                frames = store.clip(video, 0, length, 1).frames.transpose(0, 2, 3, 1)
                for number in range(per_episode):
                    scale = float(rng.choice([0.4, 0.5, 0.75, 1.0]))
                    height, width = round(frames.shape[1] * scale), round(frames.shape[2] * scale)
                    first = int(rng.integers(length - LENGTH + 1))
                    shown = frames[first : first + LENGTH]
                    clip = np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in shown])
                    yield {
                        "frames": _moving_window(clip, rng).transpose(0, 3, 1, 2),
                        "name": f"{game}-{skip}{'' if start else '-start'}-{name}-{number}",
                        "fps": 60 / skip,
                    }


def _moving_window(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window (t, SIDE, SIDE, c), chosen among 8 by the motion in it, at random once in five times."""
    best, most, any_one = None, -1.0, rng.random() < 0.2
    for _ in range(1 if any_one else 8):
        y = int(rng.integers(clip.shape[1] - SIDE + 1))
        x = int(rng.integers(clip.shape[2] - SIDE + 1))
        window = clip[:, y : y + SIDE, x : x + SIDE]
        motion = float(np.abs(np.diff(window[::8].astype(np.int16), axis=0)).mean())
        if motion > most:
            best, most = window, motion
    assert best is not None
    return best


def recorded(
    root: Path, game: str, skip: int, start: int = 90, episodes: int = 3, frames: int = 128, seed: int = 0
) -> Store:
    """Episodes of a game from the emulator's frame `start` on, recorded once."""
    folder = root / (f"{game}-{skip}" if start else f"{game}-{skip}-start")
    if not (folder / "index.json").is_file():
        source = find_source("atari")
        config = source.Config(
            game=game, episodes=episodes, max_frames=frames, frame_skip=skip, skip_start=start, seed=seed
        )
        source(config).prepare(folder)
    return Store(folder)


def photograph(name: str) -> np.ndarray:
    """A photograph that scikit-image ships, uint8 (h, w, 3)."""
    from skimage import data, transform

    image = np.asarray(getattr(data, name)())
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, 2)
    image = image[..., :3]
    scale = 300 / min(image.shape[:2])
    if scale < 1:
        small = transform.resize(image, [round(s * scale) for s in image.shape[:2]], anti_aliasing=True)
        image = np.rint(255 * small).astype(np.uint8)
    return image


def moving_photographs(names: tuple[str, ...], count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Clips of a camera that pans, zooms and turns over a photograph, some with cut-outs that move in front."""
    import cv2

    images = [photograph(n) for n in names]
    for i in range(count):
        rng = np.random.default_rng(seed_for(seed, "photographs", i))
        which = int(rng.integers(len(images)))
        image = images[which]
        if rng.random() < 0.3:
            image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 2)))
        path = _path(rng, LENGTH)
        frames = [_view(image, at, cv2) for at in path]
        for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.6 else 0):
            _add_cutout(frames, images[int(rng.integers(len(images)))], rng, cv2)
        clip = np.stack(frames)
        if rng.random() < 0.5:  # noise of a sensor
            noise = rng.normal(0, rng.uniform(0.5, 4), clip.shape)
            clip = np.clip(np.rint(clip + noise), 0, 255).astype(np.uint8)
        if rng.random() < 0.15:
            clip = np.repeat(clip.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
        yield {"frames": clip.transpose(0, 3, 1, 2), "name": f"photo-{i:04d}-{names[which]}", "fps": 30.0}


def _path(rng: np.random.Generator, length: int) -> np.ndarray:
    """Camera path (length, 4): x, y in px of the picture, log zoom, angle; velocities wander, some stop or shake."""
    speed = np.array([1.0, 1.0, 0.006, 0.006]) * rng.exponential(0.7) * (rng.random(4) < [0.8, 0.8, 0.4, 0.3])
    keep = float(rng.choice([1.0, 0.98, 0.9]))
    velocity = rng.normal(size=4) * speed
    shake = rng.exponential(0.3) * np.array([1, 1, 0.002, 0.002]) * (rng.random() < 0.5)
    state, path = np.zeros(4), []
    still = rng.random() < 0.2
    for _ in range(length):
        velocity = keep * velocity + (1 - keep**2) ** 0.5 * rng.normal(size=4) * speed
        state = state + velocity * (not still)
        path.append(state + rng.normal(size=4) * shake)
    return np.array(path)


def _view(image: np.ndarray, at: np.ndarray, cv2: Any, sides: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """What the camera at `at`, see `_path`, sees of the photograph; sides: height and width, px."""
    zoom, angle = float(np.exp(at[2])) * 0.6, np.degrees(float(at[3]))
    height, width = image.shape[:2]
    centre = (width / 2 + float(at[0]), height / 2 + float(at[1]))
    matrix = cv2.getRotationMatrix2D(centre, angle, zoom)
    matrix[:, 2] += np.array(sides[::-1]) / 2 - np.array(centre)
    return np.asarray(
        cv2.warpAffine(image, matrix, sides[::-1], flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
    )


def own_clips(
    length: int = 240, sides: tuple[int, int] = (128, 168), seed: int = 0
) -> Iterator[tuple[str, np.ndarray]]:
    """Two clips made from the photographs that are held out, as a camera in a hand would film them.

    A pan to and fro over the coffee, and a zoom into and out of the cat behind a ball that bounces; both with a shake
    of half a pixel and the noise of a sensor.

    Args:
        length: frames of each, at 30 a second.
        sides: height and width, px.
        seed: random seed of shake and noise.

    Yields:
        Name and frames, uint8 (t, 3, h, w).
    """
    import cv2

    (h, w), t = sides, np.arange(length) / 30
    turn = 2 * np.pi * t
    paths = {
        "pan-coffee": np.stack([50 * np.sin(turn / 5), 15 * np.sin(turn / 3.7), 0 * t, 0 * t], 1),
        "zoom-chelsea": np.stack([0 * t, 0 * t, 0.35 - 0.35 * np.cos(turn / 4), 0.05 * np.sin(turn / 6)], 1),
    }
    for number, (name, path) in enumerate(paths.items()):
        rng = np.random.default_rng(seed_for(seed, "own clips", number))
        image = photograph(name.partition("-")[2])
        path = path + rng.normal(size=path.shape) * [0.5, 0.5, 0.001, 0.001]
        frames = np.stack([_view(image, at, cv2, sides) for at in path]).astype(np.float32)
        if name.startswith("zoom"):
            ball = 10 + (w - 20) * np.abs((t / 1.7) % 2 - 1), h - 12 - (h - 30) * np.abs(np.sin(turn / 2.3))
            for frame, x, y in zip(frames, *ball, strict=True):
                cv2.circle(frame, (round(16 * x), round(16 * y)), 16 * 9, (40, 90, 230), -1, cv2.LINE_AA, 4)
        frames = np.clip(np.rint(frames + rng.normal(0, 2, frames.shape)), 0, 255).astype(np.uint8)
        yield name, frames.transpose(0, 3, 1, 2)


def _add_cutout(frames: list[np.ndarray], image: np.ndarray, rng: np.random.Generator, cv2: Any) -> None:
    """Draw an ellipse of another photograph that moves over the frames, with its edges softened."""
    size = int(rng.integers(8, 29))
    y, x = (int(rng.integers(s - size)) for s in image.shape[:2])
    part = image[y : y + size, x : x + size].astype(np.float32)
    grid = np.linspace(-1, 1, size)
    radius = np.hypot(grid[:, None] * rng.uniform(1, 1.6), grid[None] * rng.uniform(1, 1.6))
    mask = np.clip((1 - radius) * size / 3, 0, 1)[..., None].astype(np.float32)
    place, velocity = rng.uniform(0, SIDE - size, 2), rng.normal(0, 1.2, 2)
    keep = float(rng.choice([1.0, 1.0, 0.95]))
    for i, frame in enumerate(frames):
        velocity = keep * velocity + (1 - keep**2) ** 0.5 * rng.normal(0, 1.2, 2)
        place = place + velocity
        for k in range(2):  # bounce at the frame's edge
            if not 0 <= place[k] <= SIDE - size:
                velocity[k], place[k] = -velocity[k], np.clip(place[k], 0, SIDE - size)
        matrix = np.float32([[1, 0, place[1]], [0, 1, place[0]]])
        there = cv2.warpAffine(mask, matrix, (SIDE, SIDE))[..., None]
        moved = cv2.warpAffine(part, matrix, (SIDE, SIDE))
        frames[i] = np.rint(frame * (1 - there) + moved * there).astype(np.uint8)


#: Generated scenes in the training set, with the settings of their recording.
SCENES: dict[str, dict[str, int]] = {
    "bouncing": {"videos": 80, "frames": LENGTH},
    "pushing": {"train": 60, "val": 1, "test": 1, "novel": 1, "frames": LENGTH},
    "walking": {"subjects": 2, "held_out": 1, "takes": 2, "frames": LENGTH},
}


def scenes(root: Path, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Videos of generated scenes, without their actions."""
    for name, settings in SCENES.items():
        folder = root / name
        if not (folder / "index.json").is_file():
            maker = find_source(name)
            maker(maker.Config(seed=seed, **settings)).prepare(folder)
        store = Store(folder)
        for video in range(len(store.names)):
            length = min(store.lengths[video], LENGTH)
            if length == LENGTH:
                clip = store.clip(video, 0, length, 1)
                yield {"frames": clip.frames, "name": f"{name}-{video:03d}", "fps": store.spec.fps}


def make(folder: Path, root: Path, wide: bool = False) -> Path:
    """The mixed store in `folder`, of `GAMES` or wide, of all games; recordings are kept in `root`."""
    if not (folder / "index.json").is_file():
        games = all_games() if wide else GAMES
        played = windows_of_games(root, games, starts=True, per_episode=2) if wide else windows_of_games(root)
        photographs = moving_photographs(PHOTOS, 800 if wide else 500)
        meta = {"games": games, "skips": SKIPS, "photographs": PHOTOS, "scenes": SCENES}
        with DatasetWriter(folder, fps=30, meta=meta) as writer:
            for videos in (scenes(root), photographs, played):
                for video in videos:
                    writer.add(**video)
    return folder
