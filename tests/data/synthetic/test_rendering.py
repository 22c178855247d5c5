"""Off-screen rendering: pixels and geoms agree, and missing libraries are reported."""

import builtins
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from small_models import process_settings

from framecast.core.errors import UserError
from framecast.data.synthetic import rendering
from framecast.data.synthetic.rendering import SceneRenderer, camera_points, cloudy, load_mujoco, painted, set_texture

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("needs mujoco", allow_module_level=True)

XML = """
<mujoco><visual>{visual}</visual>
  <asset><texture name="t" type="2d" builtin="flat" rgb1="0 0 0" width="8" height="8"/>
    <material name="m" texture="t"/></asset>
  <worldbody>
    <camera pos="0 0 2" fovy="90"/><light pos="0 0 3" dir="0 0 -1" castshadow="false"/>
    <geom name="ground" type="plane" size="5 5 .1" material="m"/>
    <geom name="ball" type="sphere" pos="1 .5 .2" size=".2" rgba="1 0 0 1"/>
  </worldbody>
</mujoco>"""


@pytest.fixture(scope="module")
def scene():
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(XML.format(visual=rendering.VISUAL))
    set_texture(model, "t", np.full((8, 8, 3), (40, 90, 200), np.uint8))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with SceneRenderer(model, 40) as renderer:
        yield model, data, renderer


def test_frames_show_textures_and_colours(scene):
    _, data, renderer = scene
    frame = renderer.frame(data)
    assert frame.shape == (3, 40, 40)
    assert frame.dtype == np.uint8
    geoms = renderer.geoms(data)
    assert set(np.unique(geoms)) == {0, 1}
    ground, ball = frame[:, geoms == 0].mean(1), frame[:, geoms == 1].mean(1)
    assert ground[2] > ground[1] > ground[0]
    assert ball[0] > 80 > max(ball[1:])
    np.testing.assert_array_equal(frame, renderer.frame(data))


def test_projected_points_match_pixels(scene):
    model, data, renderer = scene
    place, depth = camera_points(data, model, 0, np.array([[1, 0.5, 0.2]]))
    rows, columns = np.nonzero(renderer.geoms(data) == 1)
    drawn = (np.array([columns.mean(), rows.mean()]) + 0.5) / 20 - 1
    np.testing.assert_allclose(place[0], drawn, atol=0.05)
    np.testing.assert_allclose(place[0], [1 / 1.8, -0.5 / 1.8], atol=1e-9)
    np.testing.assert_allclose(depth, 1.8)


def test_noise_is_periodic_and_seeded():
    clouds = cloudy(np.random.default_rng(0), 32, 48)
    assert clouds.shape == (32, 48)
    np.testing.assert_allclose([clouds.mean(), clouds.std()], [0, 1], atol=1e-9)
    step = np.abs(np.diff(clouds, axis=1)).max()
    assert np.abs(clouds[:, 0] - clouds[:, -1]).max() < 2 * step
    np.testing.assert_array_equal(clouds, cloudy(np.random.default_rng(0), 32, 48))
    assert painted((0.5, 0.5, 0.5), clouds, 0.1).shape == (32, 48, 3)


def test_missing_package_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name.split(".")[0] == "mujoco":
            raise ModuleNotFoundError("No module named 'mujoco'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r'install it: pip install "framecast\[mujoco\]"'):
        load_mujoco.__wrapped__()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bring their GL along")
@pytest.mark.parametrize("chosen", ["", "osmesa", "egl"])
def test_missing_gl_library_is_reported(monkeypatch, chosen):
    monkeypatch.setenv("MUJOCO_GL", chosen)
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(UserError, match=r"cannot render without a screen .* apt-get install libosmesa6"):
        load_mujoco.__wrapped__()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bring their GL along")
def test_broken_gl_library_is_reported():
    """GLFW is there but has no screen: one sentence, asked twice, and the process lives on."""
    settings = process_settings()
    settings["env"] = {k: v for k, v in settings["env"].items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    settings["env"]["MUJOCO_GL"] = "glfw"
    code = """if True:
        from framecast.data.synthetic.rendering import SceneRenderer, load_mujoco
        from framecast.core.errors import UserError

        model = load_mujoco().MjModel.from_xml_string("<mujoco/>")
        for _ in range(2):
            try:
                SceneRenderer(model, 16)
            except UserError as error:
                print(error)
    """
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, **settings)
    assert found.returncode == 0, found.stderr
    first, second = found.stdout.splitlines()
    assert first == second
    assert "cannot render without a screen" in first
