"""Off-screen rendering of MuJoCo scenes: package, GL context, frames and the geom at each pixel."""

from __future__ import annotations

import ctypes.util
import functools
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError

#: Frames are rendered at twice their size and averaged, which preserves thin objects; the cost is small because small
#: frames are bound by the number of triangles.
SUPERSAMPLING = 2

#: Contents of <visual> of every scene: no shadows (five times the cost), few triangles for round geoms.
VISUAL = (
    '<headlight ambient=".35 .35 .35" diffuse=".35 .35 .35" specular="0 0 0"/>'
    '<quality shadowsize="0" offsamples="0" numslices="14" numstacks="8" numquads="1"/>'
)


@functools.cache
def load_mujoco() -> Any:
    """The mujoco package, configured to render without a screen.

    MUJOCO_GL selects the backend (egl, osmesa, glfw); if it is not set, EGL is used on a machine with an NVIDIA GPU,
    otherwise OSMesa, otherwise EGL. The package reads it on import, so it must not be imported earlier.

    Raises:
        UserError: The package or a GL library is not installed.
    """
    _choose_library()
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise UserError('this scene needs MuJoCo; install it: pip install "framecast[mujoco]"') from error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise UserError(_no_library(str(error))) from error
    return mujoco


def _choose_library() -> None:
    if not sys.platform.startswith("linux"):
        return
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    names = {"osmesa": "OSMesa", "egl": "EGL"}
    if not chosen:
        order = ("egl", "osmesa") if Path("/dev/nvidia0").exists() else ("osmesa", "egl")
        chosen = next((name for name in order if ctypes.util.find_library(names[name])), "")
        if not chosen:
            raise UserError(_no_library("neither OSMesa nor EGL is installed"))
        os.environ["MUJOCO_GL"] = chosen
    elif chosen in names and not ctypes.util.find_library(names[chosen]):
        raise UserError(_no_library(f"MUJOCO_GL is {chosen} but its library is not installed"))


def _no_library(why: str) -> str:
    return (
        f"MuJoCo cannot render without a screen ({why}); install a GL library: apt-get install libosmesa6, "
        "or libegl1 with a GPU, and leave MUJOCO_GL unset"
    )


@functools.cache
def _context() -> tuple[Any, str]:
    """The GL context of the process, or the error; created once, as a second failure may end the process."""
    mujoco = load_mujoco()
    try:
        context = type("KeptContext", (mujoco.GLContext,), {"__del__": lambda self: None})(64, 64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GLFW only warns without a screen; rendering then fails
            context.make_current()
        mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_50.value).free()
    except Exception as error:  # error types differ between platforms
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
    return context, ""


class SceneRenderer:
    """Renderer of models with the same textures, from their cameras; a context manager.

    Args:
        model: Compiled MuJoCo model; its textures must be final.
        size: Height and width, px.

    Raises:
        UserError: No GL context can be created.
    """

    def __init__(self, model: Any, size: int) -> None:
        mujoco = load_mujoco()
        context, fault = _context()
        if fault:
            raise UserError(_no_library(fault))
        context.make_current()
        self.size, self._mujoco = size, mujoco
        side = size * SUPERSAMPLING
        model.vis.global_.offwidth = model.vis.global_.offheight = max(side, 64)
        self._graphics = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._graphics)
        self._options, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self.show(model)

    def show(self, model: Any) -> None:
        """Render this model from now on; the graphics context, which is slow to create, is reused."""
        self.model = model
        self._scene = self._mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_FOG", "mjRND_HAZE"):
            self._scene.flags[getattr(self._mujoco.mjtRndFlag, flag)] = False

    def frame(self, data: Any, camera: int = 0) -> np.ndarray:
        """Image of a camera, uint8 (3, h, w)."""
        self._update(data, camera)
        pixels = self._draw(self.size * SUPERSAMPLING)
        total = np.zeros((self.size, self.size, 3), np.uint16)
        for i in range(SUPERSAMPLING):
            for j in range(SUPERSAMPLING):
                total += pixels[i::SUPERSAMPLING, j::SUPERSAMPLING]
        area = SUPERSAMPLING * SUPERSAMPLING
        return ((total + area // 2) // area).astype(np.uint8).transpose(2, 0, 1)

    def geoms(self, data: Any, camera: int = 0) -> np.ndarray:
        """Index of the geom at the centre of every pixel, int32 (h, w); -1 without a geom."""
        flags = (self._mujoco.mjtRndFlag.mjRND_SEGMENT, self._mujoco.mjtRndFlag.mjRND_IDCOLOR)
        self._update(data, camera)
        for flag in flags:
            self._scene.flags[flag] = True
        pixels = self._draw(self.size).astype(np.int32)
        for flag in flags:
            self._scene.flags[flag] = False
        numbers = np.full(self._scene.ngeom + 2, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == self._mujoco.mjtObj.mjOBJ_GEOM and geom.segid >= 0:
                numbers[geom.segid + 1] = geom.objid
        found: np.ndarray = numbers[pixels[..., 0] + (pixels[..., 1] << 8) + (pixels[..., 2] << 16)]
        return found

    def _update(self, data: Any, camera: int) -> None:
        self._camera.fixedcamid = camera
        every = self._mujoco.mjtCatBit.mjCAT_ALL.value
        self._mujoco.mjv_updateScene(self.model, data, self._options, None, self._camera, every, self._scene)

    def _draw(self, side: int) -> np.ndarray:
        """The rendered pixels, uint8 (side, side, 3), first row on top."""
        rect, pixels = self._mujoco.MjrRect(0, 0, side, side), np.empty((side, side, 3), np.uint8)
        self._mujoco.mjr_render(rect, self._scene, self._graphics)
        self._mujoco.mjr_readPixels(pixels, None, rect, self._graphics)
        return pixels[::-1]

    def close(self) -> None:
        """Free the graphics memory."""
        self._graphics.free()

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def camera_points(data: Any, model: Any, camera: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projection of world points into the square image of a camera.

    Args:
        data: MuJoCo data of the scene.
        model: MuJoCo model of the scene.
        camera: Index of the camera.
        points: (n, 3), metres.

    Returns:
        (x, y) in -1…1 from the left and upper edge, (n, 2), and the depth in front of the camera in metres, (n,).
    """
    turned = (points - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
    depth = -turned[:, 2]
    focal = 1 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
    return focal * turned[:, :2] * np.array([1, -1]) / np.maximum(depth, 1e-6)[:, None], depth


def set_texture(model: Any, name: str, pixels: np.ndarray) -> None:
    """Replace a texture of the model by uint8 (h, w, 3) of its size, before the first rendering."""
    texture = load_mujoco().mj_name2id(model, load_mujoco().mjtObj.mjOBJ_TEXTURE.value, name)
    start, size = model.tex_adr[texture], pixels.size
    assert pixels.shape == (model.tex_height[texture], model.tex_width[texture], 3), pixels.shape
    model.tex_data[start : start + size] = pixels.reshape(-1)


def cloudy(rng: np.random.Generator, height: int, width: int, cells: tuple[int, ...] = (4, 8, 16)) -> np.ndarray:
    """Smooth periodic noise, float (height, width) with mean 0 and standard deviation 1.

    Args:
        rng: Random generator.
        height: Height, px.
        width: Width, px.
        cells: Grid cells along each axis, one number per octave, each with half the amplitude of the previous one.
    """
    total = np.zeros((height, width))
    for octave, count in enumerate(cells):
        coarse = rng.normal(size=(count, count))
        at = [np.arange(n) * count / n for n in (height, width)]
        low = [a.astype(int) for a in at]
        share = [(3 - 2 * t) * t * t for t in (a - low_ for a, low_ in zip(at, low, strict=True))]
        rows = [coarse[(low[0] + k) % count] for k in (0, 1)]
        mixed = rows[0] + (rows[1] - rows[0]) * share[0][:, None]
        left, right = mixed[:, low[1] % count], mixed[:, (low[1] + 1) % count]
        total += (left + (right - left) * share[1]) / 2**octave
    scaled: np.ndarray = (total - total.mean()) / total.std()
    return scaled


def painted(colour: tuple[float, float, float], shade: np.ndarray, strength: float) -> np.ndarray:
    """A texture, uint8 (h, w, 3): `colour` (0…1) modulated by `strength` times `shade` (h, w), about -1…1."""
    values = np.asarray(colour) * (1 + strength * shade[..., None])
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
