"""Motion of a person: walking, turning, waving, squatting and sitting as joint angles, with feet fixed to the floor.

The joint angles are the normative curves of level walking (Winter 2009; Perry 1992), sampled at a dozen points of the
stride. The motion is kinematic: at every time the lowest point of the sole stays fixed on the floor and the body
follows, so step length results from the legs and feet do not slide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.data.synthetic.rendering import load_mujoco
from framecast.data.synthetic.walk_scene import ANGLES, CHAIR, CHAIR_HEADING, SOLES, WALK, Subject

#: Actions of people between walks.
ACTIONS = ("walking", "waving", "turning", "squatting", "sitting")
#: Motion steps per frame.
FINE = 8

_INDEX = {name: number for number, name in enumerate(ANGLES)}


def _curve(points: dict[float, float]) -> np.ndarray:
    """A smoothed periodic curve through (per cent of the stride, degrees) as 200 values, rad."""
    share, degrees = np.array(list(points)) / 100, np.array(list(points.values()))
    values = np.interp(np.arange(200) / 200, share, degrees, period=1)
    spectrum = np.fft.rfft(values)
    spectrum[8:] = 0
    return np.deg2rad(np.fft.irfft(spectrum, 200))


#: Joint angles from one heel strike of a leg to its next.
_HIP = _curve({0: 30, 10: 25, 20: 15, 30: 5, 40: -4, 50: -10, 60: -5, 70: 13, 80: 27, 88: 33, 95: 32})
_KNEE = _curve({0: 4, 8: 12, 15: 17, 22: 15, 30: 9, 40: 5, 50: 12, 60: 36, 66: 50, 72: 58, 80: 47, 88: 22, 95: 6})
_ANKLE = _curve({0: 0, 7: -6, 15: 0, 30: 6, 45: 10, 52: 4, 60: -15, 63: -17, 70: -8, 80: 0, 90: 2})


def _at(curve: np.ndarray, phase: float) -> float:
    place = phase % 1 * 200
    low = int(place)
    return float(curve[low % 200] + (curve[(low + 1) % 200] - curve[low % 200]) * (place - low))


@dataclass
class _Target:
    """Target of a person: position, heading or pose. Poses fade in and out within half a second.

    spot: Position during the turn to `heading`, reached by the small steps of the turn.
    """

    goal: tuple[float, float] | None = None
    heading: float | None = None
    pose: str = ""
    seconds: float = 0.0
    spot: tuple[float, float] | None = None


def script(action: str, rng: np.random.Generator) -> Iterator[_Target]:
    """Targets without end: walks to positions in the middle of the room, interrupted by the action."""
    heading = rng.uniform(-np.pi, np.pi)
    while True:
        for _ in range(int(rng.integers(1, 3)) if action != "walking" else 3):
            heading += rng.uniform(0.6, 1.6) * rng.choice([-1, 1])
            radius = WALK * np.sqrt(rng.uniform(0.3, 1))
            yield _Target(goal=(radius * np.cos(heading), radius * np.sin(heading)))
        if action == "waving":
            yield _Target(pose="wave", seconds=rng.uniform(2.5, 4))
        elif action == "squatting":
            for _ in range(int(rng.integers(1, 3))):
                yield _Target(pose="squat", seconds=rng.uniform(1.5, 2.5))
                yield _Target(seconds=0.6)
        elif action == "turning":
            for _ in range(2):
                yield _Target(heading=rng.uniform(-np.pi, np.pi))
                yield _Target(pose="look", seconds=1.0)
        elif action == "sitting":
            ahead = np.array([np.cos(CHAIR_HEADING), np.sin(CHAIR_HEADING)])
            yield _Target(goal=(CHAIR[0] + 0.8 * ahead[0], CHAIR[1] + 0.8 * ahead[1]))
            spot = np.array(CHAIR) + 0.42 * ahead
            yield _Target(goal=(spot[0], spot[1]), heading=CHAIR_HEADING, spot=(spot[0], spot[1]))
            yield _Target(pose="sit", seconds=rng.uniform(3, 6))
            yield _Target(goal=(CHAIR[0] + 1.2 * ahead[0], CHAIR[1] + 1.2 * ahead[1]))


class Walker:
    """A person in motion; `data` holds the current pose.

    Args:
        model: MuJoCo model of `walk_scene.scene`.
        person: Body and style of walking.
        action: One of ACTIONS.
        rng: Random generator of the motion.
    """

    def __init__(self, model: Any, person: Subject, action: str, rng: np.random.Generator) -> None:
        self.mujoco, self.model, self.person = load_mujoco(), model, person
        self.data = self.mujoco.MjData(model)
        names = [self.mujoco.mj_id2name(model, self.mujoco.mjtObj.mjOBJ_JOINT.value, i) for i in range(model.njnt)]
        self._places = np.array([model.jnt_qposadr[names.index(name)] for name in ANGLES])
        self._soles = [self.mujoco.mj_name2id(model, self.mujoco.mjtObj.mjOBJ_SITE.value, name) for name in SOLES]
        self._script = script(action, rng)
        self._target = next(self._script)
        start = rng.uniform(-np.pi, np.pi)
        self.place = np.array([WALK * 0.8 * np.cos(start), WALK * 0.8 * np.sin(start)])
        self.heading = start + np.pi + rng.uniform(-0.5, 0.5)
        self.phase, self._clock = float(rng.random()), float(rng.uniform(0, 10))
        self._weights = {"walk": 0.0, "march": 0.0, "wave": 0.0, "squat": 0.0, "sit": 0.0, "look": 0.0}
        self._speeds = dict.fromkeys(self._weights, 0.0)
        self._height = 0.53 * person.height
        self._standing: tuple[int, np.ndarray] | None = None
        self._pose()

    # ----------------------------------------------------------------------------------------------------- time

    def step(self, seconds: float) -> None:
        """Advance the motion by `seconds`."""
        steering = self._steer(seconds)
        self.heading += steering
        self._clock += seconds
        pace = self.person.cadence * (0.85 + 0.15 * self._weights["walk"])
        if self._weights["walk"] > 0.02 or self._weights["march"] > 0.02:
            self.phase += pace * seconds
        self._pose()

    def _steer(self, seconds: float) -> float:
        """Change of heading towards the target; moves the weights of the poses towards their targets."""
        target, wanted, turn = self._target, dict.fromkeys(self._weights, 0.0), 0.0
        resting = max(self._weights["squat"], self._weights["sit"])
        if target.goal is not None:
            way = np.array(target.goal) - self.place
            distance, off = float(np.linalg.norm(way)), _around(np.arctan2(way[1], way[0]) - self.heading)
            exact = target.heading is not None
            if distance < 0.12 or (not exact and distance < 0.55 and abs(off) > 0.9):
                target.goal = None  # reached, or passed closely
            elif resting < 0.05:
                ahead = max(0.0, np.cos(off))
                wanted["walk"] = ahead**2 * min(1.0, 0.35 + distance) if exact else min(1.0, 1.6 * ahead)
                wanted["march"] = 1 - wanted["walk"] if ahead < 0.5 else 0.0
                turn = float(np.clip(2.5 * off, -1.6, 1.6))
        elif target.heading is not None:
            off = _around(target.heading - self.heading)
            away = np.zeros(2) if target.spot is None else np.array(target.spot) - self.place
            if abs(off) < 0.06 and np.linalg.norm(away) < 0.05:
                target.heading = None
            elif resting < 0.05:
                wanted["march"], turn = 1.0, float(np.clip(2.5 * off, -1.3, 1.3))
                pace = 0.3 * seconds * self._weights["march"] / max(float(np.linalg.norm(away)), 1e-6)
                self._shift(away * min(1.0, pace))
        elif target.seconds > 0:
            if target.pose:
                wanted[target.pose] = 1.0
            if self._weights["walk"] + self._weights["march"] < 0.05:
                target.seconds -= seconds
            elif target.pose in ("squat", "sit"):
                wanted[target.pose] = 0.0  # come to a halt first
        else:
            self._target = next(self._script)
        for name, weight in self._weights.items():  # critically damped
            rate = 4.0 if name in ("squat", "sit") else 7.0
            force = rate * rate * (wanted[name] - weight) - 2 * rate * self._speeds[name]
            self._speeds[name] += force * seconds
            self._weights[name] = float(np.clip(weight + self._speeds[name] * seconds, 0, 1))
        return turn * seconds * min(1.0, self._weights["walk"] + self._weights["march"])

    def _shift(self, way: np.ndarray) -> None:
        """Move the body and its supporting sole."""
        self.place = self.place + way
        if self._standing is not None:
            sole, spot = self._standing
            self._standing = (sole, spot + np.array([*way, 0.0]))

    # ----------------------------------------------------------------------------------------------------- pose

    def _pose(self) -> None:
        """Joint angles, then the position of the body from the soles."""
        angles, lean = self._angles()
        data, half = self.data, self.heading / 2
        data.qpos[self._places] = angles
        upright, bent = (
            np.array([np.cos(half), 0, 0, np.sin(half)]),
            np.array([np.cos(lean / 2), 0, np.sin(lean / 2), 0]),
        )
        turned = np.empty(4)
        self.mujoco.mju_mulQuat(turned, upright, bent)
        data.qpos[:7] = (*self.place, self._height, *turned)
        self.mujoco.mj_kinematics(self.model, data)
        soles = data.site_xpos[self._soles].copy()
        lowest = self._supporting_sole(soles[:, 2])
        if self._standing is not None:
            before, spot = self._standing
            # The body moves back by the displacement of the supporting sole.
            self.place = self.place + spot[:2] - soles[before, :2]
        self._height -= soles[:, 2].min()  # of both feet, which avoids a jump when the lower foot changes
        data.qpos[:3] = (*self.place, self._height)
        self.mujoco.mj_kinematics(self.model, data)
        self.mujoco.mj_comPos(self.model, data)
        self.mujoco.mj_camlight(self.model, data)
        self._standing = (lowest, data.site_xpos[self._soles[lowest]].copy())

    def _supporting_sole(self, heights: np.ndarray) -> int:
        """Index of the supporting sole: the lowest one, during steps that of the stance leg."""
        if self._weights["walk"] + self._weights["march"] > 0.15:
            half = len(heights) // 2
            first = 0 if self.phase % 1 < 0.5 else half
            return first + int(np.argmin(heights[first : first + half]))
        return int(np.argmin(heights))

    def state(self) -> np.ndarray:
        """x, y, z of the hips (m), pitch and yaw (rad), float32."""
        _, lean = self._angles()
        return np.array([*self.place, self._height, lean, _around(self.heading)], np.float32)

    def _angles(self) -> tuple[np.ndarray, float]:
        """The pose as ANGLES, and the forward lean of the hips, rad."""
        person, w = self.person, self._weights
        pose = np.zeros(len(ANGLES))
        lean = person.lean * w["walk"]
        breath = np.sin(2 * np.pi * 0.25 * self._clock)

        def add(name: str, value: float) -> None:
            pose[_INDEX[name]] += value

        for side, offset, sign in (("left", 0.0, 1), ("right", 0.5, -1)):
            phase, stride = self.phase + offset, person.stride * w["walk"]
            add(f"{side}_hip", stride * _at(_HIP, phase) + lean)
            add(f"{side}_knee", 0.04 + (0.75 + 0.25 * person.stride) * w["walk"] * _at(_KNEE, phase))
            add(f"{side}_ankle", 0.04 + stride * _at(_ANKLE, phase))
            # The swing leg is lifted above the floor, also in small steps.
            lift = max(0.0, -np.sin(2 * np.pi * (phase - 0.03))) ** 2
            clear = 0.12 * min(1.0, 3 * w["walk"]) + 0.45 * max(0.0, min(1.0, 3 * w["walk"]) - w["walk"])
            add(f"{side}_hip", 0.55 * clear * lift)
            add(f"{side}_knee", clear * lift)
            add(f"{side}_ankle", 0.6 * clear * lift)
            add(f"{side}_hip", w["march"] * 0.5 * lift)
            add(f"{side}_knee", w["march"] * 0.9 * lift)
            add(f"{side}_ankle", w["march"] * 0.25 * lift)
            add(f"{side}_hip_spread", 0.04 + 0.05 * w["squat"] * 4 + 0.06 * w["sit"])
            wave = np.cos(2 * np.pi * phase)
            swing = person.swing * w["walk"]
            add(f"{side}_shoulder", -0.4 * swing * wave + 0.05)
            add(f"{side}_elbow", 0.25 + 0.25 * swing * (1 - wave) / 2 + 0.15 * w["walk"])
            add(f"{side}_shoulder_spread", 0.12 + 0.01 * breath)
            add("spine_turn", 0.12 * w["walk"] * sign * wave)
            add("spine_tilt", 0.03 * w["walk"] * sign * np.sin(2 * np.pi * phase))
            # Squatting and sitting: thighs forward, shins back, soles flat (ankle = knee - hip + lean of the hips).
            add(f"{side}_hip", 1.95 * w["squat"] + 1.6 * w["sit"])
            add(f"{side}_knee", 2.0 * w["squat"] + 1.55 * w["sit"])
            add(f"{side}_ankle", 0.5 * w["squat"] - 0.05 * w["sit"])
            add(f"{side}_shoulder", 1.1 * w["squat"] + 0.45 * w["sit"])
            add(f"{side}_elbow", 0.9 * w["sit"])
        lean += 0.45 * w["squat"] + w["sit"] * 0.0
        going_down = 4 * w["sit"] * (1 - w["sit"])
        lean += 0.5 * going_down
        for side in ("left", "right"):
            add(f"{side}_hip", 0.5 * going_down)
        add("spine_bend", 0.25 * w["squat"] + 0.05 + 0.3 * going_down - 0.05 * w["sit"])
        add("spine_turn", 0.35 * w["look"] * np.sin(2 * np.pi * 0.5 * self._clock))
        add("head_turn", 0.7 * w["look"] * np.sin(2 * np.pi * 0.5 * self._clock))
        add("head_turn", 0.15 * np.sin(2 * np.pi * 0.11 * self._clock))
        add("head_nod", -0.3 * w["squat"])
        beat = np.sin(2 * np.pi * 1.4 * self._clock)
        add("right_shoulder_spread", w["wave"] * (2.3 + 0.12 * beat))
        add("right_shoulder", w["wave"] * 0.2)
        add("right_elbow", w["wave"] * (0.5 + 0.5 * beat))
        return pose, lean


def _around(angle: float) -> float:
    """The same angle in -pi…pi."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
