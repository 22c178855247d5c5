"""Synthetic source `walking`: people who walk, wave, turn, squat and sit, with four cameras, joints and masks.

Requires MuJoCo, `pip install "framecast[mujoco]"`, for bodies and rendering, and OSMesa or EGL to render without a
screen. The form is that of Human3.6M in hierarchical prediction: the whole room in view, a small person, 12.5 frames
per second, at least 256 frames, joints in image coordinates, test people that are not in the training set.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.data.synthetic.gait import ACTIONS, FINE, Walker
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.data.synthetic.rendering import SceneRenderer, camera_points, load_mujoco
from framecast.data.synthetic.walk_scene import SITES, Subject, paint, scene, subject

CAMERAS = 4
_FLESH = 0.2  # m between a visible joint and the body surface in front of it at most


@dataclass(frozen=True, kw_only=True)
class WalkingConfig:
    """Settings of the walking videos; one or two subjects are not split by subject."""

    subjects: int = 7
    """Number of people."""
    held_out: int = 1
    """People of the test split (the last ones), and as many before them of the val split."""
    takes: int = 3
    """Takes per person, each with the next action of walking, waving, turning, squatting, sitting."""
    cameras: int = 4
    """Cameras per take, 1 to 4."""
    frames: int = 272
    """Frames per take."""
    size: int = 64
    """Height and width, px."""
    fps: float = 12.5
    """Frames per second."""
    masks: bool = True
    """Store a label per pixel."""
    seed: int = 0
    """Random seed of people, room and motion."""

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


class Walking(SyntheticSource):
    """Videos of people in a room, as a packed store with ground truth per frame.

    Per frame: `joints` (16 points, x and y in -1…1 from the left and upper edge), `visibility` (1 where a joint is in
    the image and occluded by nothing but the body around it), `states` (x, y, z of the hips in m, pitch and yaw in
    rad), with masks also `masks` (1 person, 0 room). Names of the joints are in meta.json; subject, action_name and
    camera in the meta of each video. Cameras of one take are one episode.
    """

    Config: ClassVar[type] = WalkingConfig
    name = "walking"

    def plan(self, folder: Path) -> Plan:
        config: WalkingConfig = self.config
        mujoco = load_mujoco()
        total = config.subjects * config.takes * config.cameras
        return Plan(
            total=total,
            size=total * config.frames * ((3 + config.masks) * config.size**2 + 4 * (3 * len(SITES) + 5)),
            fps=config.fps,
            videos=self._videos(),
            meta={
                "physics": f"mujoco {mujoco.__version__}",
                "joints": list(SITES),
                "masks": "0 room, 1 person",
            },
        )

    def _videos(self) -> Generator[dict[str, Any], None, None]:
        config: WalkingConfig = self.config
        mujoco = load_mujoco()
        with ExitStack() as stack:
            renderer: SceneRenderer | None = None
            for number in range(config.subjects):
                person = subject(number, config.seed)
                model = mujoco.MjModel.from_xml_string(scene(person))
                if renderer is None:
                    paint(model, config.seed)
                    renderer = stack.enter_context(SceneRenderer(model, config.size))
                renderer.show(model)
                for take in range(config.takes):
                    action = ACTIONS[(take + number) % len(ACTIONS)]
                    rng = np.random.default_rng([config.seed, number, take])
                    episode = f"{person.name}-{take:02d}-{action}"
                    for camera, arrays in enumerate(self._take(renderer, person, action, rng)):
                        yield {
                            "name": f"{episode}-camera{camera}",
                            "meta": {"subject": person.name, "action_name": action, "camera": f"camera{camera}"},
                            "axes": "tchw",
                            "episode": episode,
                            "camera": f"camera{camera}",
                            "split": self._split(number),
                            **arrays,
                        }

    def _split(self, number: int) -> str | None:
        """Split of a subject; None with fewer than three subjects."""
        subjects, held_out = self.config.subjects, self.config.held_out
        if subjects < 3:
            return None
        return "test" if number >= subjects - held_out else "val" if number >= subjects - 2 * held_out else "train"

    def _take(
        self, renderer: SceneRenderer, person: Subject, action: str, rng: np.random.Generator
    ) -> list[dict[str, Any]]:
        """Frames and per-frame arrays of one take, per camera."""
        config, model = self.config, renderer.model
        walker = Walker(model, person, action, rng)
        for _ in range(round(2 * config.fps * FINE)):  # two seconds of motion before the first frame
            walker.step(1 / (config.fps * FINE))
        bodies = _bodies_of_person(model)
        videos: list[dict[str, list[np.ndarray]]] = [{} for _ in range(config.cameras)]
        for _ in range(config.frames):
            points = _sites(model, walker.data)
            for camera, video in enumerate(videos):
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
                    video.setdefault(name, []).append(value)
            for _ in range(FINE):
                walker.step(1 / (config.fps * FINE))
        return [{name: np.stack(values) for name, values in video.items()} for video in videos]


def _sites(model: Any, data: Any) -> np.ndarray:
    """Positions (joints, 3) of the joints, m."""
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
    """Whether nothing but the body surface around each point occludes it from a camera, bool (n,)."""
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
