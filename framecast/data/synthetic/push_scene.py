"""The pushing scene as MuJoCo XML: a bin on a table, an arm of seven joints with a paddle, and objects to push."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from framecast.data.synthetic.rendering import VISUAL

#: Half of the bin's inside along x and y, m, and the height of its walls.
BIN = (0.25, 0.28)
WALL = 0.045
#: Range of the commanded x, y and z of the paddle's lower edge, m.
REACH = ((-0.2, 0.2), (-0.22, 0.22), (0.005, 0.12))
#: The arm's joints at rest above the bin, rad.
HOME = (0.0, 0.25, 0.0, 1.75, 0.0, 1.14, 0.0)
STEP = 0.004  # s of physics

#: Shapes and hues of objects; those of the novel set do not occur in the training set.
SEEN_KINDS = ("box", "bar", "cylinder", "ball", "ell", "plus")
NOVEL_KINDS = ("tee", "dumbbell", "mug", "arch")
_SEEN_HUES = (0.0, 0.08, 0.15, 0.33, 0.58, 0.66)
_NOVEL_HUES = (0.24, 0.47, 0.78, 0.9)


@dataclass(frozen=True)
class Thing:
    """An object: kind of SEEN_KINDS or NOVEL_KINDS, size (half its length, m), rgb in 0…1, mass in kg, friction."""

    kind: str
    size: float
    rgb: tuple[float, float, float]
    mass: float
    friction: float

    @property
    def radius(self) -> float:
        """Radius of its bounding circle seen from above, m."""
        return self.size * {"box": 1.3, "cylinder": 1.0, "ball": 1.0}.get(self.kind, 1.25)


def things(count: int, novel: bool, seed: int) -> list[Thing]:
    """A deterministic set of objects with shape, size, colour, mass and friction.

    Args:
        count: Number of objects.
        novel: Shapes and hues of the novel set.
        seed: Random seed.
    """
    rng = np.random.default_rng([seed, 77, int(novel)])
    kinds, hues = (NOVEL_KINDS, _NOVEL_HUES) if novel else (SEEN_KINDS, _SEEN_HUES)
    found = []
    for number in range(count):
        hue = float(rng.choice(hues)) + float(rng.uniform(-0.015, 0.015))
        rgb = colorsys.hsv_to_rgb(hue % 1, float(rng.uniform(0.7, 1)), float(rng.uniform(0.65, 1)))
        kind = kinds[number % len(kinds)]
        size = float(rng.uniform(0.026, 0.04)) * (1.3 if kind in ("bar", "ell", "plus", "tee", "dumbbell") else 1)
        found.append(Thing(kind, size, rgb, float(rng.uniform(0.05, 0.3)), float(rng.uniform(0.3, 0.9))))
    return found


def scene(chosen: Sequence[Thing], camera: tuple[float, float, float], fovy: float) -> str:
    """The XML of one clip.

    Bodies thing0, thing1, … are the objects, each with a free joint; site tip is the paddle's lower edge; camera 0
    records; the textures wood and floor are to be painted.

    Args:
        chosen: Objects of the clip.
        camera: Position of the camera, m; it points at the middle of the bin.
        fovy: Vertical field of view, degrees.
    """
    eye = np.array(camera)
    ahead = np.array([-0.03, 0.0, 0.0]) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    axes = " ".join(f"{value:.6f}" for value in (*right, *np.cross(right, ahead)))
    place = " ".join(f"{value:.6f}" for value in camera)
    bodies = "".join(_body(number, thing) for number, thing in enumerate(chosen))
    return f"""
<mujoco model="pushing">
  <compiler angle="radian"/>
  <option timestep="{STEP}" integrator="implicitfast" cone="elliptic" impratio="3"/>
  <visual>{VISUAL}<map znear=".01"/></visual>
  <statistic center="0 0 0" extent="1"/>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1=".75 .78 .8" rgb2=".45 .47 .5" width="32" height="192"/>
    <texture name="wood" type="2d" builtin="flat" rgb1=".5 .4 .3" width="128" height="128"/>
    <texture name="floor" type="2d" builtin="flat" rgb1=".4 .4 .4" width="64" height="64"/>
    <material name="wood" texture="wood" texrepeat="1 1" specular="0" shininess="0"/>
    <material name="floor" texture="floor" texrepeat="6 6" texuniform="true" specular="0"/>
    <material name="shell" rgba=".93 .93 .9 1" specular=".3" shininess=".4"/>
    <material name="joint" rgba=".95 .45 .1 1" specular=".2" shininess=".3"/>
    <material name="metal" rgba=".35 .37 .4 1" specular=".4" shininess=".5"/>
    <material name="wall" rgba=".36 .25 .17 1" specular="0"/>
  </asset>
  <default>
    <default class="seen"><geom contype="0" conaffinity="0" mass="0"/></default>
    <default class="thing"><geom contype="3" conaffinity="3" condim="4" solref=".01 1"/></default>
    <default class="link"><geom contype="0" conaffinity="0" mass="1" material="shell"/></default>
  </default>
  <worldbody>
    <camera name="front" pos="{place}" xyaxes="{axes}" fovy="{fovy:.4f}"/>
    <light pos=".5 -.6 1.6" dir="-.3 .4 -1" diffuse=".55 .55 .5" specular=".2 .2 .2" castshadow="false"/>
    <light pos="-.4 .8 1.5" dir=".2 -.5 -1" diffuse=".25 .25 .3" specular="0 0 0" castshadow="false"/>
    <geom class="seen" type="plane" pos="0 0 -.6" size="4 4 .1" material="floor"/>
    <geom name="table" type="box" pos="0 0 -.02" size="{BIN[0]} {
        BIN[1]
    } .02" material="wood" contype="1" conaffinity="1"
          friction=".6 .01 .001"/>
    <geom class="seen" type="box" pos="-.2 0 -.045" size=".75 .55 .02" rgba=".62 .62 .6 1"/>
    {_walls()}
    {_ARM}
    {bodies}
  </worldbody>
  <actuator>
    {
        "".join(
            f'<position name="motor{i}" joint="joint{i}" kp="{kp}" dampratio="1" forcerange="-200 200"/>'
            for i, kp in enumerate((1500, 1500, 1000, 1000, 600, 600, 400))
        )
    }
  </actuator>
</mujoco>"""


def _walls() -> str:
    x, y, h = BIN[0], BIN[1], WALL / 2
    places = (
        (x + 0.01, 0, 0.01, y + 0.02),
        (-x - 0.01, 0, 0.01, y + 0.02),
        (0, y + 0.01, x, 0.01),
        (0, -y - 0.01, x, 0.01),
    )
    return "".join(
        f'<geom type="box" pos="{px} {py} {h}" size="{sx} {sy} {h}" material="wall" contype="1" conaffinity="1"/>'
        for px, py, sx, sy in places
    )


def _link(number: int, place: str, axis: str, limit: float, inside: str) -> str:
    return (
        f'<body name="link{number}" pos="{place}" gravcomp="1"><joint name="joint{number}" axis="{axis}" '
        f'armature=".05" damping="1" range="-{limit} {limit}" limited="true"/>{inside}</body>'
    )


def _arm() -> str:
    """XML of the arm: shoulder, elbow and wrist rotate about y, with a twist between each two: seven joints."""
    paddle = (
        '<geom class="link" type="cylinder" fromto="0 0 0 0 0 .03" size=".032" material="joint"/>'
        '<geom class="link" type="capsule" fromto="0 0 .03 0 0 .13" size=".011" material="metal"/>'
        '<geom name="paddle" type="box" pos="0 0 .16" size=".008 .03 .03" material="metal" mass=".2" contype="2" '
        'conaffinity="2" condim="4" friction=".4 .01 .001"/><site name="tip" pos="0 0 .19" size=".002"/>'
    )
    seventh = _link(6, "0 0 .07", "0 0 1", 3.0, paddle)
    sixth = _link(5, "0 0 .2", "0 1 0", 2.4, f'<geom class="link" type="sphere" size=".04" material="joint"/>{seventh}')
    fifth = _link(
        4, "0 0 .2", "0 0 1", 2.9, f'<geom class="link" type="capsule" fromto="0 0 0 0 0 .17" size=".038"/>{sixth}'
    )
    fourth = _link(
        3,
        "0 0 .2",
        "0 1 0",
        2.5,
        '<geom class="link" type="cylinder" fromto="0 -.05 0 0 .05 0" size=".048" material="joint"/>'
        f'<geom class="link" type="capsule" fromto="0 0 .03 0 0 .2" size=".04"/>{fifth}',
    )
    third = _link(
        2, "0 0 .2", "0 0 1", 2.9, f'<geom class="link" type="capsule" fromto="0 0 0 0 0 .17" size=".045"/>{fourth}'
    )
    second = _link(
        1,
        "0 0 .18",
        "0 1 0",
        2.2,
        '<geom class="link" type="cylinder" fromto="0 -.055 0 0 .055 0" size=".055" material="joint"/>'
        f'<geom class="link" type="capsule" fromto="0 0 .03 0 0 .2" size=".048"/>{third}',
    )
    first = _link(
        0, "0 0 .14", "0 0 1", 2.9, f'<geom class="link" type="cylinder" fromto="0 0 0 0 0 .15" size=".055"/>{second}'
    )
    return (
        '<body name="base" pos="-.5 0 -.02"><geom class="link" type="cylinder" fromto="0 0 0 0 0 .14" size=".075"/>'
        f"{first}</body>"
    )


_ARM = _arm()


def _body(number: int, thing: Thing) -> str:
    """XML of an object as a free body."""
    parts = _parts(thing)
    mass, rgba = thing.mass / len(parts), " ".join(f"{v:.4f}" for v in (*thing.rgb, 1))
    geoms = "".join(
        f'<geom class="thing" type="{kind}" pos="{_numbers(place)}" size="{_numbers(size)}" rgba="{rgba}" '
        f'mass="{mass:.5f}" friction="{thing.friction:.4f} .01 .001"{extra}/>'
        for kind, place, size, extra in parts
    )
    return f'<body name="thing{number}"><freejoint/>{geoms}</body>'


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.5f}" for value in values)


_Part = tuple[str, tuple[float, float, float], tuple[float, ...], str]
_ALONG_X = ' quat=".70711 0 .70711 0"'


def _parts(thing: Thing) -> list[_Part]:
    """Geoms of an object: (type, centre, size, attributes)."""
    s, flat = thing.size, 0.45 * thing.size
    middle = (0.0, 0.0, 0.0)
    made: dict[str, list[_Part]] = {
        "box": [("box", middle, (s, s * 0.85, s * 0.7), "")],
        "bar": [("box", middle, (s * 1.25, flat, flat), "")],
        "cylinder": [("cylinder", middle, (s, s * 0.6), "")],
        "ball": [("sphere", middle, (s * 0.85,), "")],
        "ell": [
            ("box", (0.0, -s * 0.6, 0.0), (s, s * 0.35, flat), ""),
            ("box", (-s * 0.65, s * 0.35, 0.0), (s * 0.35, s * 0.6, flat), ""),
        ],
        "plus": [("box", middle, (s * 1.1, s * 0.33, flat), ""), ("box", middle, (s * 0.33, s * 1.1, flat), "")],
        "tee": [
            ("box", (0.0, s * 0.65, 0.0), (s, s * 0.33, flat), ""),
            ("box", (0.0, -s * 0.33, 0.0), (s * 0.33, s * 0.66, flat), ""),
        ],
        "dumbbell": [
            ("sphere", (-s * 0.7, 0.0, 0.0), (s * 0.5,), ""),
            ("sphere", (s * 0.7, 0.0, 0.0), (s * 0.5,), ""),
            ("cylinder", middle, (s * 0.22, s * 0.5), _ALONG_X),
        ],
        "mug": [
            ("cylinder", middle, (s * 0.8, s * 0.8), ""),
            ("box", (s * 1.05, 0.0, 0.0), (s * 0.25, s * 0.16, s * 0.5), ""),
        ],
        "arch": [
            ("box", (-s * 0.75, 0.0, -s * 0.2), (s * 0.28, s * 0.5, s * 0.55), ""),
            ("box", (s * 0.75, 0.0, -s * 0.2), (s * 0.28, s * 0.5, s * 0.55), ""),
            ("box", (0.0, 0.0, s * 0.55), (s * 1.03, s * 0.5, s * 0.2), ""),
        ],
    }
    return made[thing.kind]
