"""The walking scene as MuJoCo XML: a furnished room with four cameras, and a person of capsules in it."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecast.data.synthetic.rendering import VISUAL, cloudy, painted, set_texture

#: Half the side of the room, m; people stay within WALK of its middle.
ROOM, WALK = 3.6, 1.15
#: Position of the chair, m, and heading of a person on it, rad.
CHAIR, CHAIR_HEADING = (1.55, -0.75), float(np.pi - 0.45)
SEAT = 0.44  # m above the floor

#: Sites whose image positions are the 2-D joints.
SITES = (
    *("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine"),
    *("neck", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
)
#: Sites under the feet that touch the floor.
SOLES = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("heel", "ball", "toe"))

#: Angles of a pose, rad: flexion bends forward (knees back), spread moves away from the body, turn is to the left.
ANGLES = (
    *("spine_bend", "spine_tilt", "spine_turn", "head_nod", "head_turn"),
    *(f"{side}_{name}" for side in ("left", "right") for name in ("hip", "hip_spread", "knee", "ankle")),
    *(f"{side}_{name}" for side in ("left", "right") for name in ("shoulder", "shoulder_spread", "elbow")),
)


@dataclass(frozen=True)
class Subject:
    """Body, clothes and gait of a person.

    height: m. girth: relative to the average. Colours: RGB in 0…1. cadence: strides per second. stride: step length
    relative to the average. swing: amplitude of the arms relative to the average. lean: forward, rad.
    """

    name: str
    height: float
    girth: float
    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    shirt: tuple[float, float, float]
    trousers: tuple[float, float, float]
    shoes: tuple[float, float, float]
    long_hair: bool
    long_sleeves: bool
    cadence: float
    stride: float
    swing: float
    lean: float


def subject(number: int, seed: int) -> Subject:
    """Person S1, S2, …, which does not depend on the number of people."""
    rng = np.random.default_rng([seed, 31, number])
    skins = ((0.95, 0.78, 0.66), (0.87, 0.67, 0.53), (0.74, 0.53, 0.4), (0.5, 0.34, 0.25), (0.36, 0.24, 0.18))
    hairs = ((0.1, 0.08, 0.07), (0.3, 0.18, 0.1), (0.55, 0.38, 0.18), (0.85, 0.72, 0.4), (0.6, 0.6, 0.6))
    # Golden-ratio steps around the hue circle, so that consecutive people differ.
    hue = (0.13 + 0.618 * number + float(rng.uniform(-0.03, 0.03))) % 1
    lower = (hue + float(rng.uniform(0.3, 0.7))) % 1
    return Subject(
        name=f"S{number + 1}",
        height=float(rng.uniform(1.55, 1.92)),
        girth=float(rng.uniform(0.85, 1.25)),
        skin=skins[int(rng.integers(len(skins)))],
        hair=hairs[int(rng.integers(len(hairs)))],
        shirt=colorsys.hsv_to_rgb(hue, float(rng.uniform(0.6, 0.95)), float(rng.uniform(0.55, 0.95))),
        trousers=colorsys.hsv_to_rgb(lower, float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.15, 0.45))),
        shoes=colorsys.hsv_to_rgb(float(rng.random()), 0.3, float(rng.uniform(0.1, 0.9))),
        long_hair=bool(rng.random() < 0.5),
        long_sleeves=bool(rng.random() < 0.5),
        cadence=float(rng.uniform(0.82, 1.02)),
        stride=float(rng.uniform(0.85, 1.1)),
        swing=float(rng.uniform(0.7, 1.3)),
        lean=float(rng.uniform(0.0, 0.07)),
    )


def scene(person: Subject) -> str:
    """The XML of the room, four cameras in its corners, and the person with a free joint, then ANGLES."""
    return f"""
<mujoco model="walking">
  <compiler angle="radian" autolimits="false"/>
  <visual>{VISUAL}<map znear=".05" zfar="30"/></visual>
  <statistic center="0 0 1" extent="3"/>
  <asset>
    {_texture("floor", 128)}{_texture("rug", 64)}{_texture("paper", 64)}{_texture("plaster", 64)}
    {"".join(_texture(f"picture{i}", 32) for i in range(3))}
    <material name="floor" texture="floor" texrepeat="4 4" specular="0"/>
    <material name="rug" texture="rug" specular="0"/>
    <material name="paper" texture="paper" texrepeat="9 4" specular="0"/>
    <material name="plaster" texture="plaster" texrepeat="3 2" specular="0"/>
    {"".join(f'<material name="picture{i}" texture="picture{i}" specular="0"/>' for i in range(3))}
    <material name="wood" rgba=".45 .3 .18 1" specular=".1"/>
    <material name="white" rgba=".9 .9 .88 1" specular="0"/>
    <material name="cloth" rgba=".25 .32 .42 1" specular="0"/>
    <material name="leaf" rgba=".15 .4 .15 1" specular="0"/>
    <material name="glass" rgba=".75 .88 1 1" emission=".5" specular="0"/>
  </asset>
  <default><geom contype="0" conaffinity="0" mass=".1"/></default>
  <worldbody>
    {_cameras()}
    <light pos="1.5 -1 2.65" dir="-.35 .25 -1" diffuse=".55 .54 .5" specular="0 0 0" castshadow="false" cutoff="90"/>
    <light pos="-3 1 2.4" dir="1 -.3 -.5" diffuse=".6 .6 .64" specular="0 0 0" castshadow="false" cutoff="90"/>
    {_room()}
    {_person(person)}
  </worldbody>
</mujoco>"""


def paint(model: Any, seed: int) -> None:
    """Paint the textures of the room, which are the same for all people."""
    rng = np.random.default_rng([seed, 32])
    rows, columns = np.mgrid[0:128, 0:128]
    planks = rng.normal(size=8)[rows // 16] + 1.5 * np.sin(
        columns / 128 * 2 * np.pi * 3 + 5 * cloudy(rng, 128, 128, (2,))
    )
    joints = np.where((rows % 16 == 0) | ((columns + 37 * (rows // 16)) % 64 == 0), -4.0, 0.0)
    set_texture(model, "floor", painted((0.58, 0.43, 0.29), 0.4 * planks + joints, 0.09))
    stripes = np.sign(np.sin(np.arange(64) / 64 * 2 * np.pi * 4))[None, :] * np.ones((64, 1))
    set_texture(model, "paper", painted((0.74, 0.7, 0.58), stripes + 0.3 * cloudy(rng, 64, 64), 0.05))
    set_texture(model, "plaster", painted((0.66, 0.72, 0.72), cloudy(rng, 64, 64, (16, 32)), 0.02))
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    rings = np.sign(np.sin(9 * np.maximum(abs(x), abs(y)))) + 0.2 * cloudy(rng, 64, 64)
    set_texture(model, "rug", painted((0.55, 0.22, 0.2), rings, 0.2))
    for i in range(3):
        blend = cloudy(rng, 32, 32, (2, 4))[..., None] * rng.normal(size=3)
        set_texture(model, f"picture{i}", np.rint(255 / (1 + np.exp(-1.5 * blend))).astype(np.uint8))


def _texture(name: str, side: int) -> str:
    return f'<texture name="{name}" type="2d" builtin="flat" rgb1=".5 .5 .5" width="{side}" height="{side}"/>'


def _cameras() -> str:
    """Four cameras in the corners at 1.9 m, aimed at the middle at hip height."""
    found = []
    for number, (x, y) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        eye = np.array([x * (ROOM - 0.25), y * (ROOM - 0.25), 1.9])
        ahead = np.array([0, 0, 0.85]) - eye
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0, 0, 1])
        right /= np.linalg.norm(right)
        axes = _numbers((*right, *np.cross(right, ahead)))
        found.append(f'<camera name="camera{number}" pos="{_numbers(eye)}" xyaxes="{axes}" fovy="53"/>')
    return "".join(found)


def _box(place: tuple[float, ...], size: tuple[float, ...], material: str) -> str:
    return f'<geom type="box" pos="{_numbers(place)}" size="{_numbers(size)}" material="{material}"/>'


def _room() -> str:
    r, h = ROOM, 1.35
    walls = (
        _box((r + 0.05, 0, h), (0.05, r, h), "paper")
        + _box((-r - 0.05, 0, h), (0.05, r, h), "plaster")
        + _box((0, r + 0.05, h), (r, 0.05, h), "plaster")
        + _box((0, -r - 0.05, h), (r, 0.05, h), "paper")
    )
    skirting = "".join(
        _box((x * r, y * r, 0.05), (0.01 if x else r, 0.01 if y else r, 0.05), "white")
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    things = [
        _box((-r, 0.9, 1.5), (0.02, 0.7, 0.55), "glass"),  # a window
        _box((-r + 0.01, 0.9, 1.5), (0.025, 0.03, 0.55), "white"),
        _box((-r + 0.01, 0.9, 0.93), (0.08, 0.78, 0.03), "white"),
        _box((1.7, -r, 1.0), (0.45, 0.02, 1.0), "wood"),  # a door
        _box((0, 0, 0.005), (1.3, 1.0, 0.004), "rug"),
        _box((0.0, r - 0.3, 0.45), (0.7, 0.25, 0.45), "wood"),  # a cupboard with a lamp
        '<geom type="cylinder" pos="-.4 3.3 1.02" size=".04 .12" material="white"/>',
        '<geom type="ellipsoid" pos="-.4 3.3 1.25" size=".16 .16 .14" rgba="1 .9 .6 1"/>',
        _box((r - 0.45, 0.6, 0.22), (0.4, 0.9, 0.22), "cloth"),  # a sofa
        _box((r - 0.15, 0.6, 0.6), (0.1, 0.9, 0.25), "cloth"),
        '<geom type="cylinder" pos="-2.9 -2.9 .2" size=".18 .2" rgba=".6 .35 .25 1"/>',  # a plant
        '<geom type="ellipsoid" pos="-2.9 -2.9 .85" size=".35 .35 .5" material="leaf"/>',
        _box((r, -1.2, 1.6), (0.02, 0.35, 0.45), "picture0"),
        _box((-0.9, r, 1.7), (0.5, 0.02, 0.35), "picture1"),
        _box((-1.3, -r, 1.6), (0.4, 0.02, 0.5), "picture2"),
        _chair(),
    ]
    return (
        f'<geom type="plane" size="{r} {r} .1" material="floor"/>'
        f'<geom type="plane" pos="0 0 {2 * h}" size="{r} {r} .1" zaxis="0 0 -1" material="white"/>'
        + walls
        + skirting
        + "".join(things)
    )


def _chair() -> str:
    legs = "".join(
        f'<geom type="cylinder" pos="{x} {y} .21" size=".02 .21" material="wood"/>'
        for x in (-0.18, 0.18)
        for y in (-0.18, 0.18)
    )
    return (
        f'<body pos="{CHAIR[0]} {CHAIR[1]} 0" euler="0 0 {CHAIR_HEADING}">{legs}'
        f'<geom type="box" pos="0 0 {SEAT - 0.02}" size=".21 .21 .02" material="wood"/>'
        f'<geom type="box" pos="-.2 0 {SEAT + 0.27}" size=".02 .2 .14" material="wood"/></body>'
    )


def _person(person: Subject) -> str:
    """XML of the person, with average proportions (Winter 2009): lengths as fractions of the height."""
    h, g = person.height, person.girth * person.height / 1.75
    skin, hair, shirt, trousers, shoes = (
        f'rgba="{_numbers((*colour, 1))}"'
        for colour in (person.skin, person.hair, person.shirt, person.trousers, person.shoes)
    )
    sleeve = shirt if person.long_sleeves else skin
    thigh, shank, ankle, foot = 0.245 * h, 0.246 * h, 0.039 * h, 0.152 * h
    upper, fore, hand, skull = 0.186 * h, 0.146 * h, 0.06 * h, 0.058 * h

    def leg(side: str) -> str:
        y, thick = 1 if side == "left" else -1, 0.034 * h / 1.75
        heel, toe = -0.3 * foot, 0.62 * foot
        shoe = _capsule((heel + thick, 0, thick - ankle), (toe - thick, 0, thick - ankle), thick, shoes)
        soles = _site(f"{side}_heel", heel, -ankle) + _site(f"{side}_ball", 0.4 * foot, -ankle)
        soles += _site(f"{side}_toe", toe, 0.004 - ankle)
        below = _body((0, 0, -shank), _site(f"{side}_ankle"), _joint(f"{side}_ankle", "0 -1 0"), soles, shoe)
        calf = _capsule((0, 0, 0), (0, 0, -0.5 * shank), 0.053 * g, trousers)
        shin = _capsule((0, 0, -0.5 * shank), (0, 0, -shank), 0.043 * g, trousers)
        lower = _body((0, 0, -thigh), _site(f"{side}_knee"), _joint(f"{side}_knee", "0 1 0"), calf, shin, below)
        bends = _joint(f"{side}_hip", "0 -1 0") + _joint(f"{side}_hip_spread", f"{y} 0 0")
        flesh = _capsule((0, 0, 0), (0, 0, -thigh), 0.068 * g, trousers)
        return _body((0, y * 0.052 * h, -0.02 * h), _site(f"{side}_hip"), bends, flesh, lower)

    def arm(side: str) -> str:
        y = 1 if side == "left" else -1
        palm = _ellipsoid((0, 0, -fore - 0.8 * hand), (0.045 * g, 0.028 * g, hand), skin)
        flesh = _capsule((0, 0, 0), (0, 0, -fore), 0.036 * g, sleeve) + _site(f"{side}_wrist", 0, -fore)
        lower = _body((0, 0, -upper), _site(f"{side}_elbow"), _joint(f"{side}_elbow", "0 -1 0"), flesh, palm)
        bends = _joint(f"{side}_shoulder", "0 -1 0") + _joint(f"{side}_shoulder_spread", f"{y} 0 0")
        flesh = _capsule((0, 0, 0), (0, 0, -upper), 0.043 * g, shirt)
        return _body((0, y * 0.115 * h, 0.2 * h), _site(f"{side}_shoulder"), bends, flesh, lower)

    locks = _ellipsoid((-0.35 * skull, 0, 0.5 * skull), (1.02 * skull, 1.08 * skull, skull), hair)
    if person.long_hair:
        locks += _ellipsoid((-0.75 * skull, 0, -0.7 * skull), (0.5 * skull, 0.95 * skull, 1.5 * skull), hair)
    face = _ellipsoid((0, 0, 0), (0.95 * skull, 0.8 * skull, 1.3 * skull), skin)
    face += _ellipsoid((0.95 * skull, 0, -0.1 * skull), (0.16 * skull,) * 3, skin)
    neck = _capsule((0, 0, -0.01 * h), (0.01 * h, 0, 0.05 * h), 0.045 * g, skin)
    turns = _joint("head_nod", "0 1 0") + _joint("head_turn", "0 0 1")
    skull_body = _body((0.012 * h, 0, 0.1 * h), _site("head"), face, locks)
    head = _body((0, 0, 0.245 * h), _site("neck"), turns, neck, skull_body)
    chest = _capsule((0, -0.05 * h, 0.16 * h), (0, 0.05 * h, 0.16 * h), 0.078 * g, shirt)
    chest += _capsule((0, -0.075 * h, 0.205 * h), (0, 0.075 * h, 0.205 * h), 0.05 * g, shirt)
    belly = _ellipsoid((0, 0, 0.09 * h), (0.1 * g, 0.15 * g, 0.14 * h), shirt)
    bends = _joint("spine_bend", "0 1 0") + _joint("spine_tilt", "1 0 0") + _joint("spine_turn", "0 0 1")
    trunk = _body((0, 0, 0.04 * h), _site("spine", 0, 0.1 * h), bends, chest, belly, head, arm("left"), arm("right"))
    hips = _capsule((0, -0.042 * h, -0.01 * h), (0, 0.042 * h, -0.01 * h), 0.085 * g, trousers)
    inside = f'<freejoint name="root"/>{_site("pelvis")}{hips}{trunk}{leg("left")}{leg("right")}'
    return f'<body name="person" pos="0 0 {0.53 * h:.4f}">{inside}</body>'


def _body(place: tuple[float, ...], *inside: str) -> str:
    return f'<body pos="{_numbers(place)}">{"".join(inside)}</body>'


def _joint(name: str, axis: str) -> str:
    return f'<joint name="{name}" axis="{axis}"/>'


def _site(name: str, x: float = 0, z: float = 0) -> str:
    return f'<site name="{name}" pos="{_numbers((x, 0, z))}" size=".01" rgba="0 0 0 0"/>'


def _capsule(start: tuple[float, ...], stop: tuple[float, ...], radius: float, colour: str) -> str:
    return f'<geom type="capsule" fromto="{_numbers((*start, *stop))}" size="{radius:.4f}" {colour}/>'


def _ellipsoid(place: tuple[float, ...], size: tuple[float, ...], colour: str) -> str:
    return f'<geom type="ellipsoid" pos="{_numbers(place)}" size="{_numbers(size)}" {colour}/>'


def _numbers(values: Any) -> str:
    return " ".join(f"{float(value):.5f}" for value in values)
