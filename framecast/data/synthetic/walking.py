"""People who walk about in a room and wave, turn, squat and sit: several bodies, four cameras, joints, masks.

Needs the physics package, `pip install "framecast[mujoco]"`, for its bodies and its drawing, and OSMesa or EGL to draw
without a screen. The form is that of Human3.6M as hierarchical prediction used it: the whole room in view, a small
person, 12.5 frames per second, at least 256 frames, joints in the picture, tested on people never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.store import DatasetWriter, require_space
from framecast.data.synthetic.gait import ACTIONS, FINE, Walker
from framecast.data.synthetic.rendering import SceneRenderer, camera_points, load_mujoco
from framecast.data.synthetic.walk_scene import SITES, Subject, paint, scene, subject

CAMERAS = 4
_FLESH = 0.2  # m that a joint may lie behind the first surface in front of it and still count as seen


@dataclass(frozen=True, kw_only=True)
class WalkingConfig:
    """subjects: people.  held_out: how many, the last ones, are for testing, and as many before them for validation.
    takes: of each, one action after the other (walking, waving, turning, squatting, sitting).  cameras: that film a
    take, 1 to 4.  frames: of a take.  size: height and width, px.  fps: frames per second.  masks: keep a label per
    pixel.  seed: of everything.  One or two subjects are not split by who they are.
    """

    subjects: int = 7
    held_out: int = 1
    takes: int = 3
    cameras: int = 4
    frames: int = 272
    size: int = 64
    fps: float = 12.5
    masks: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(self, "walking: ", subjects=1, held_out=1, takes=1, frames=2, seed=0)
        if not 1 <= self.cameras <= CAMERAS:
            raise UserError(f"walking: cameras must be in 1…{CAMERAS}, got {self.cameras}")
        if 3 * self.held_out > max(3, self.subjects):
            raise UserError(
                f"walking: {self.held_out} people for testing and as many for validation need at least "
                f"{3 * self.held_out} subjects, got {self.subjects}"
            )
        if not 8 <= self.size <= 1024:
            raise UserError(f"walking: size must be in 8…1024, got {self.size}")
        if not 1 <= self.fps <= 60:
            raise UserError(f"walking: fps must be in 1…60, got {self.fps}")


class Walking:
    """Films people in a room, with the truth of every frame.

    Per frame: `joints` (16 points, x and y in -1…1 from the left and upper edge), `visibility` (1 where a joint is in
    the picture and nothing but its own flesh in front of it), `states` (x, y, z of the hips in m, pitch and yaw in
    rad), with masks also `masks` (1 person, 0 room). Names of the joints are in meta.json; subject, action_name and
    camera in the meta of each video. Cameras of one take are one episode.
    """

    Config: ClassVar[type] = WalkingConfig

    def __init__(self, config: WalkingConfig) -> None:
        self.config = config

    def prepare(
        self, folder: Path, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Move, film and write. progress: called with videos done and in all.

        Raises: UserError when MuJoCo or a GL library is missing, the folder is taken or there is too little disk space.
        """
        config, mujoco = self.config, load_mujoco()
        total = config.subjects * config.takes * config.cameras
        require_space(folder, total * config.frames * ((3 + config.masks) * config.size**2 + 4 * (3 * len(SITES) + 5)))
        meta = {
            "generator": "walking",
            "version": 1,
            "physics": f"mujoco {mujoco.__version__}",
            "parameters": asdict(config),
            "joints": list(SITES),
            "masks": "0 room, 1 person",
        }
        done = 0
        with ExitStack() as stack:
            writer = stack.enter_context(DatasetWriter(folder, config.fps, None, meta, overwrite))
            renderer: SceneRenderer | None = None
            for number in range(config.subjects):
                who = subject(number, config.seed)
                model = mujoco.MjModel.from_xml_string(scene(who))
                if renderer is None:
                    paint(model, config.seed)
                    renderer = stack.enter_context(SceneRenderer(model, config.size))
                renderer.show(model)
                for take in range(config.takes):
                    action = ACTIONS[(take + number) % len(ACTIONS)]
                    rng = np.random.default_rng([config.seed, number, take])
                    films = self._film(renderer, who, action, rng)
                    episode = f"{who.name}-{take:02d}-{action}"
                    for camera, arrays in enumerate(films):
                        writer.add(
                            arrays.pop("frames"),
                            name=f"{episode}-camera{camera}",
                            meta={"subject": who.name, "action_name": action, "camera": f"camera{camera}"},
                            axes="tchw",
                            episode=episode,
                            camera=f"camera{camera}",
                            split=self._split(number),
                            **arrays,
                        )
                        done += 1
                        if progress is not None:
                            progress(done, total)

    def _split(self, number: int) -> str | None:
        """By subject, from three subjects on."""
        subjects, held_out = self.config.subjects, self.config.held_out
        if subjects < 3:
            return None
        return "test" if number >= subjects - held_out else "val" if number >= subjects - 2 * held_out else "train"

    def _film(
        self, renderer: SceneRenderer, who: Subject, action: str, rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        """Per camera the frames and per-frame arrays of one take."""
        config, model = self.config, renderer.model
        walker = Walker(model, who, action, rng)
        for _ in range(round(2 * config.fps * FINE)):  # two seconds to get going
            walker.step(1 / (config.fps * FINE))
        bodies = _bodies_of_person(model)
        films: list[dict[str, list[np.ndarray]]] = [{} for _ in range(config.cameras)]
        for _ in range(config.frames):
            points = _sites(model, walker.data)
            for camera, film in enumerate(films):
                places, _ = camera_points(walker.data, model, camera, points)
                seen = _seen(model, walker.data, camera, points, bodies)
                row: dict[str, np.ndarray] = {
                    "frames": renderer.frame(walker.data, camera),
                    "joints": places.astype(np.float32),
                    "visibility": (seen & (np.abs(places) <= 1).all(1)).astype(np.float32),
                    "states": walker.state(),
                }
                if config.masks:
                    geoms = renderer.geoms(walker.data, camera)
                    row["masks"] = (bodies[model.geom_bodyid[geoms]] & (geoms >= 0)).astype(np.uint8)
                for name, value in row.items():
                    film.setdefault(name, []).append(value)
            for _ in range(FINE):
                walker.step(1 / (config.fps * FINE))
        return [{name: np.stack(values) for name, values in film.items()} for film in films]


def _sites(model: Any, data: Any) -> np.ndarray:
    """Places (joints, 3) of the joints, m."""
    mujoco = load_mujoco()
    numbers = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE.value, name) for name in SITES]
    found: np.ndarray = data.site_xpos[numbers].copy()
    return found


def _bodies_of_person(model: Any) -> np.ndarray:
    """Whether each body belongs to the person, bool (bodies,)."""
    mujoco = load_mujoco()
    root = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY.value, "person")
    found: np.ndarray = model.body_rootid == root
    return found


def _seen(model: Any, data: Any, camera: int, points: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """Whether the first thing on the way from a camera to each point is the flesh around it, bool (n,)."""
    mujoco, eye = load_mujoco(), data.cam_xpos[camera]
    found = np.zeros(len(points), bool)
    geom = np.zeros(1, np.int32)
    for i, point in enumerate(points):
        ray = point - eye
        length = float(np.linalg.norm(ray))
        hit = mujoco.mj_ray(model, data, eye, ray / length, None, True, -1, geom)
        person = geom[0] >= 0 and bool(bodies[model.geom_bodyid[geom[0]]])
        found[i] = hit < 0 or hit > length or (person and hit > length - _FLESH)
    return found
