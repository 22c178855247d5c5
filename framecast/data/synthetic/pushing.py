"""Synthetic source `pushing`: a simulated robot arm that pushes objects in a bin, with commands, states and poses.

Requires MuJoCo, `pip install "framecast[mujoco]"`, and OSMesa or EGL to render without a screen. The form is that of
the Robot Push set of Finn et al. (2016): 20 frames at 10 Hz, absolute poses as actions, seven joints, one test set
with objects of the training set and one with novel objects. The scene differs from the original.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import require_least
from framecast.core.errors import UserError
from framecast.core.types import ActionSpec
from framecast.data.synthetic.generator import Plan, SyntheticSource
from framecast.data.synthetic.push_scene import BIN, HOME, REACH, STEP, Thing, scene, things
from framecast.data.synthetic.rendering import SceneRenderer, cloudy, load_mujoco, painted, set_texture

#: Components of actions and states: pose of the paddle's lower edge, metres and radians.
POSE = ("x", "y", "z", "pitch", "yaw")
_SETTLE = 0.4  # s for objects to come to rest before the first frame
_POOL = (60, 24)  # numbers of different objects: seen and novel
_TIP_DOWN = np.diag([-1.0, 1.0, -1.0])  # axes of the tool at a pose of zeros: it points down


@dataclass(frozen=True, kw_only=True)
class PushingConfig:
    """Settings of the pushing clips."""

    train: int = 200
    """Clips of the train split."""
    val: int = 20
    """Clips of the val split."""
    test: int = 20
    """Test clips with objects of the training set (--split test/seen)."""
    novel: int = 20
    """Test clips with objects whose shapes and hues are not in the training set (--split test/novel)."""
    frames: int = 20
    """Frames per clip."""
    size: int = 64
    """Height and width, px."""
    fps: float = 10.0
    """Frames, and so commands, per second."""
    things_min: int = 1
    """Minimum number of objects in the bin."""
    things_max: int = 5
    """Maximum number of objects in the bin."""
    aimed: float = 0.5
    """Fraction of clips whose push passes through an object."""
    jitter: float = 0.01
    """Random displacement of the camera per clip, m."""
    masks: bool = True
    """Store a label per pixel."""
    seed: int = 0
    """Random seed of scenes, objects and pushes."""

    def __post_init__(self) -> None:
        require_least(self, "pushing: ", train=1, val=0, test=0, novel=0, frames=2, seed=0)
        if not 8 <= self.size <= 1024:
            raise UserError(f"pushing: size must be in 8…1024, got {self.size}")
        if not 1 <= self.fps <= 50:
            raise UserError(f"pushing: fps must be in 1…50, got {self.fps}")
        if not 1 <= self.things_min <= self.things_max <= 8:
            raise UserError(
                f"pushing: need 1 ≤ things_min ≤ things_max ≤ 8, got {self.things_min} and {self.things_max}"
            )
        if not 0 <= self.aimed <= 1 or not 0 <= self.jitter <= 0.1:
            raise UserError("pushing: need aimed in 0…1 and jitter in 0…0.1")


class Pushing(SyntheticSource):
    """An arm that pushes objects, as a packed store with ground truth per frame.

    Per frame: `actions` (x, y, z, pitch, yaw: the pose commanded at this frame for the next), `states` (the measured
    pose), `joints` (seven angles, rad), `objects` (position and quaternion of each object, zeros where there are
    fewer), with masks also `masks` (0 scene, 1 arm, 2 and up the objects). Poses are metres and radians; pitch and yaw
    rotate a tool that points straight down.
    """

    Config: ClassVar[type] = PushingConfig
    name = "pushing"

    def plan(self, folder: Path) -> Plan:
        config: PushingConfig = self.config
        mujoco = load_mujoco()
        clips = [
            *(("train", None),) * config.train,
            *(("val", None),) * config.val,
            *(("test", "seen"),) * config.test,
            *(("test", "novel"),) * config.novel,
        ]
        row = (3 + config.masks) * config.size**2 + 4 * (17 + 7 * config.things_max)
        low, high = _limits()
        return Plan(
            total=len(clips),
            size=len(clips) * config.frames * row,
            fps=config.fps,
            videos=self._videos(clips),
            meta={
                "physics": f"mujoco {mujoco.__version__}",
                "pose": list(POSE),
                "masks": "0 scene, 1 arm, 2 + k thing k",
            },
            actions=ActionSpec(kind="continuous", size=len(POSE), names=POSE, low=low, high=high),
        )

    def _videos(self, clips: list[tuple[str, str | None]]) -> Generator[dict[str, Any], None, None]:
        config: PushingConfig = self.config
        pools = {novel: things(_POOL[novel], novel, config.seed) for novel in (False, True)}
        with ExitStack() as stack:
            renderer: SceneRenderer | None = None
            for number, (split, subset) in enumerate(clips):
                clip = _Clip(config, number, pools[subset == "novel"])
                if renderer is None:
                    _paint(clip.model, config.seed)
                    renderer = stack.enter_context(SceneRenderer(clip.model, config.size))
                yield {
                    **clip.render(renderer),
                    "name": f"push-{number:05d}",
                    "meta": clip.meta(),
                    "axes": "tchw",
                    "split": split if config.val and config.test + config.novel else None,
                    "subset": subset,
                }


def _limits() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The lowest and the highest command."""
    return (*(r[0] for r in REACH), -0.35, -1.6), (*(r[1] for r in REACH), 0.35, 1.6)


class _Clip:
    """One scene: the objects in the bin, the path of the paddle and the simulation."""

    def __init__(self, config: PushingConfig, number: int, pool: list[Thing]) -> None:
        self.config, self.mujoco = config, load_mujoco()
        self.rng = np.random.default_rng([config.seed, number])
        count = int(self.rng.integers(config.things_min, config.things_max + 1))
        self.things = [pool[i] for i in self.rng.choice(len(pool), count, replace=False)]
        eye = np.array([0.6, 0.0, 0.56]) + self.rng.uniform(-1, 1, 3) * config.jitter
        xml = scene(self.things, (float(eye[0]), float(eye[1]), float(eye[2])), 46.0)
        self.model = self.mujoco.MjModel.from_xml_string(xml)
        self.data = self.mujoco.MjData(self.model)
        self.places = self._lay_out()
        self.aimed = bool(self.rng.random() < config.aimed)
        self.path = self._aimed_path() if self.aimed else self._free_path()

    def meta(self) -> dict[str, Any]:
        return {"things": [thing.kind for thing in self.things], "aimed": self.aimed}

    # ------------------------------------------------------------------------------------------------------- path

    def _lay_out(self) -> np.ndarray:
        """Positions (n, 2) of the objects, with gaps to each other and to the walls."""
        placed: list[np.ndarray] = []
        for thing in self.things:
            room = np.array(BIN) - thing.radius - 0.03
            for _ in range(200):
                place = self.rng.uniform(-room, room)
                apart = (
                    np.linalg.norm(place - other) - thing.radius - mate.radius
                    for other, mate in zip(placed, self.things, strict=False)
                )
                if all(gap > 0.01 for gap in apart):
                    break
            placed.append(place)
        return np.array(placed)

    def _aimed_path(self) -> np.ndarray:
        """A path through the middle of an object, with the paddle's face in the direction of motion."""
        target = int(self.rng.integers(len(self.things)))
        middle, radius = self.places[target], self.things[target].radius
        best, room = (-np.inf, np.zeros(2), np.zeros(2), 0.0), np.array([REACH[0][1], REACH[1][1]])
        for _ in range(40):
            angle = self.rng.uniform(-np.pi, np.pi)
            ahead = np.array([np.cos(angle), np.sin(angle)])
            start = np.clip(middle - ahead * (radius + self.rng.uniform(0.03, 0.07)), -room, room)
            stop = np.clip(middle + ahead * self.rng.uniform(0.05, 0.14), -room, room)
            free = min(np.linalg.norm(start - p) - t.radius for p, t in zip(self.places, self.things, strict=True))
            score = min(free, 0.03) + 0.3 * float(np.linalg.norm(stop - start))
            if score > best[0]:
                best = (score, start, stop, angle)
        _, start, stop, angle = best
        yaw = _folded(angle) + self.rng.uniform(-0.2, 0.2)
        height, pitch = self.rng.uniform(0.008, 0.02), self.rng.uniform(-0.15, 0.15)
        lift = self.rng.uniform(0.02, 0.1)
        last = np.clip(stop + self.rng.uniform(-0.04, 0.04, 2), -room, room)
        poses = [
            (*start, height, pitch, yaw),
            (*stop, height, pitch, yaw + self.rng.uniform(-0.3, 0.3)),
            (*last, height + lift, 0.0, yaw),
        ]
        return self._smooth(np.array(poses), np.array([0, self.rng.uniform(0.6, 0.8), 1]))

    def _free_path(self) -> np.ndarray:
        """A path between random poses, most of them low."""
        count = int(self.rng.integers(3, 5))
        low, high = (np.array(limits) for limits in _limits())
        poses = self.rng.uniform(low, high, (count, 5))
        poses[:, 2] = np.where(self.rng.random(count) < 0.7, self.rng.uniform(0.008, 0.03, count), poses[:, 2])
        poses[:, 3:] *= 0.6
        free = [
            min(np.linalg.norm(p[:2] - q) - t.radius for q, t in zip(self.places, self.things, strict=True))
            for p in poses
        ]
        poses[[0, int(np.argmax(free))]] = poses[[int(np.argmax(free)), 0]]  # start in free space
        return self._smooth(poses, np.linspace(0, 1, count))

    def _smooth(self, poses: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Commands (frames + 1, 5): minimum-jerk interpolation between poses, at rest in each."""
        now = np.linspace(0, 1, self.config.frames + 1)
        leg = np.clip(np.searchsorted(times, now, side="right") - 1, 0, len(times) - 2)
        t = np.clip((now - times[leg]) / (times[leg + 1] - times[leg]), 0, 1)[:, None]
        low, high = (np.array(limits) for limits in _limits())
        path = poses[leg] + (poses[leg + 1] - poses[leg]) * t**3 * (10 - 15 * t + 6 * t * t)
        clipped: np.ndarray = np.clip(path, low, high)
        return clipped

    # ------------------------------------------------------------------------------------------------------- simulation

    def render(self, renderer: SceneRenderer) -> dict[str, Any]:
        """Frames uint8 (t, 3, h, w) and the per-frame arrays, by name."""
        config, model, data = self.config, self.model, self.data
        joints = self._joints()
        self._settle(joints[0])
        ends = np.zeros((config.frames, config.things_max, 7), np.float32)
        rows: dict[str, list[np.ndarray]] = {name: [] for name in ("frames", "states", "joints", "masks")}
        labels = self._labels()
        renderer.show(model)
        for i, goal in enumerate(joints[1:]):
            rows["frames"].append(renderer.frame(data))
            if config.masks:
                rows["masks"].append(labels[renderer.geoms(data)])
            rows["states"].append(self._pose())
            rows["joints"].append(data.qpos[:7].astype(np.float32))
            ends[i, : len(self.things)] = data.qpos[7:].reshape(-1, 7)
            for goal_now in self._between(data.ctrl.copy(), goal):
                data.ctrl[:] = goal_now
                self.mujoco.mj_step(model, data)
        arrays: dict[str, Any] = {name: np.stack(values) for name, values in rows.items() if values}
        return arrays | {"objects": ends, "actions": self.path[1:].astype(np.float32)}

    def _between(self, now: np.ndarray, goal: np.ndarray) -> Iterator[np.ndarray]:
        """Joint commands of the physics steps of one frame: linear from the last command to the next."""
        steps = max(1, round(1 / (self.config.fps * STEP)))
        for k in range(1, steps + 1):
            yield now + (goal - now) * k / steps

    def _settle(self, joints: np.ndarray) -> None:
        """Initial state: objects on the table, the arm at its first pose, everything at rest."""
        model, data = self.model, self.data
        data.qpos[:7] = data.ctrl[:] = joints
        for number, (thing, place) in enumerate(zip(self.things, self.places, strict=True)):
            turn = self.rng.uniform(-np.pi, np.pi)
            pose = (*place, thing.size, np.cos(turn / 2), 0, 0, np.sin(turn / 2))
            data.qpos[7 + 7 * number : 14 + 7 * number] = pose
        for _ in range(round(_SETTLE / STEP)):
            self.mujoco.mj_step(model, data)

    def _joints(self) -> np.ndarray:
        """Joint angles (frames + 1, 7) of the commanded poses, by damped least squares from one to the next."""
        mujoco, model = self.mujoco, self.model
        data = mujoco.MjData(model)
        data.qpos[:7] = HOME
        tip = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE.value, "tip")
        moves, turns = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        found = []
        for number, pose in enumerate(self.path):
            wanted = _rotation(pose[3], pose[4])
            for _ in range(60 if number == 0 else 5):
                mujoco.mj_kinematics(model, data)
                mujoco.mj_comPos(model, data)
                mujoco.mj_jacSite(model, data, moves, turns, tip)
                error = np.concatenate(
                    [pose[:3] - data.site_xpos[tip], _turn(data.site_xmat[tip].reshape(3, 3), wanted)]
                )
                jacobian = np.concatenate([moves[:, :7], turns[:, :7]])
                step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
                data.qpos[:7] += np.clip(step, -0.3, 0.3)
                data.qpos[:7] = np.clip(data.qpos[:7], *model.jnt_range[:7].T)
            found.append(data.qpos[:7].copy())
        return np.array(found)

    def _pose(self) -> np.ndarray:
        """The measured pose of the paddle's lower edge."""
        site = self.data.site("tip")
        turned = site.xmat.reshape(3, 3) @ _TIP_DOWN.T
        pitch, yaw = np.arcsin(np.clip(-turned[2, 0], -1, 1)), np.arctan2(turned[1, 0], turned[0, 0])
        return np.array([*site.xpos, pitch, yaw], np.float32)

    # -------------------------------------------------------------------------------------------------------- labels

    def _labels(self) -> np.ndarray:
        """Label of every geom; the last one is that of the background (index -1)."""
        model, mujoco = self.model, self.mujoco
        found = np.zeros(model.ngeom + 1, np.uint8)
        for geom in range(model.ngeom):
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY.value, model.geom_bodyid[geom]) or ""
            if name.startswith("thing"):
                found[geom] = 2 + int(name.removeprefix("thing"))
            elif name.startswith(("link", "base")):
                found[geom] = 1
        return found


def _paint(model: Any, seed: int) -> None:
    """Paint the textures of bin and floor, which are the same in every clip."""
    rng = np.random.default_rng([seed, 5])
    grain = np.sin(6.0 * cloudy(rng, 128, 128, (2, 4)) + 20 * np.linspace(0, 1, 128)[:, None])
    set_texture(model, "wood", painted((0.72, 0.55, 0.37), grain + 0.4 * cloudy(rng, 128, 128), 0.07))
    set_texture(model, "floor", painted((0.42, 0.43, 0.45), cloudy(rng, 64, 64, (8, 16)), 0.06))


def _folded(angle: float) -> float:
    """The equivalent yaw in -pi/2…pi/2: the paddle has two equal faces."""
    return float((angle + np.pi / 2) % np.pi - np.pi / 2)


def _rotation(pitch: float, yaw: float) -> np.ndarray:
    """Rotation matrix of a tool that points down, rotated by pitch about y, then by yaw about z."""
    cp, sp, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    turned: np.ndarray = np.array([[cy * cp, -sy, cy * sp], [sy * cp, cy, sy * sp], [-sp, 0, cp]]) @ _TIP_DOWN
    return turned


def _turn(now: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rotation from `now` to `wanted`: a vector along its axis whose length is the sine of its angle."""
    error = wanted @ now.T
    return np.array([error[2, 1] - error[1, 2], error[0, 2] - error[2, 0], error[1, 0] - error[0, 1]]) / 2
