"""Pairs of shapes: published geometry, distribution of motion, and frames that match the ground truth."""

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.shapes import Scene, Shapes, ShapesConfig
from framecast.media.draw import MOVERS, draw_shape

CONFIG = ShapesConfig()


@pytest.fixture(scope="module")
def scenes():
    return [Scene.draw(CONFIG, np.random.default_rng([0, 9, i])) for i in range(6_000)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "s"
    Shapes(ShapesConfig(train=6, val=2, test=3, visualise=1, size=64)).prepare(folder)
    return Store(folder)


def test_published_numbers_are_the_defaults():
    assert (CONFIG.train, CONFIG.test, CONFIG.visualise, CONFIG.size, CONFIG.largest) == (20_000, 500, 8, 128, 10)


def test_distribution_of_motion(scenes):
    motion = {kind: np.array([s.motion[kind] for s in scenes]) for kind in MOVERS}
    for values in motion.values():
        assert (values.min(), values.max()) == (-10, 10)
    counts = np.bincount(motion["square"] + 10, minlength=21)
    assert np.abs(counts - 6_000 / 21).max() < 5 * np.sqrt(6_000 / 21)
    assert np.abs(motion["triangle"] - motion["circle"]).max() == 1
    assert np.corrcoef(motion["circle"], motion["triangle"])[0, 1] > 0.98
    assert abs(np.corrcoef(motion["circle"], motion["square"])[0, 1]) < 0.04


def test_every_kind_moves_along_its_axis(scenes):
    for scene in scenes[:500]:
        moved = {k: np.subtract(scene.place(k, 1), scene.place(k, 0)).tolist() for k in MOVERS}
        m = scene.motion
        assert moved == {
            "circle": [0, m["circle"]],
            "square": [m["square"], 0],
            "triangle": [m["triangle"], -m["triangle"]],
        }


def test_geometry_and_colours(scenes):
    assert list(MOVERS) == ["circle", "triangle", "square"]  # the order they are drawn in
    for scene in scenes[:500]:
        assert all(180 <= v <= 255 for v in scene.ground)
        assert sorted(int(np.argmax(c)) for c in scene.colour.values()) == [0, 1, 2]
        for kind, colour in scene.colour.items():
            low, middle, high = sorted(colour)
            assert middle <= 75
            assert high >= 180
            assert low >= 0
            assert 13 <= scene.radius[kind] <= 19
            assert all(32 <= v <= 96 for v in scene.centre[kind])


def test_copy_last_error_matches_the_published_one(scenes):
    errors = []
    for scene in scenes[:250]:
        a, b = (scene.frame(128, t).astype(np.float64) for t in (0, 1))
        errors.append(np.mean(((b - a) / 127.5) ** 2))
    assert np.mean(errors) == pytest.approx(0.073, abs=0.006)


def test_squares_have_hard_edges_and_triangles_point_down():
    scene = Scene((200, 200, 200), dict.fromkeys(MOVERS, (64, 64)), dict.fromkeys(MOVERS, 13), {}, {})
    canvas = np.zeros((1, 128, 128), np.uint8)
    draw_shape(canvas, MOVERS["square"][0], scene.place("square", 0) if scene.motion else (64, 64), 26, (255,))
    assert set(np.unique(canvas)) == {0, 255}
    assert canvas.sum() == 255 * 26 * 26
    canvas = np.zeros((1, 128, 128), np.uint8)
    draw_shape(canvas, MOVERS["triangle"][0], (64, 64), 26, (255,))
    rows = canvas[0].astype(int).sum(1)
    assert rows[51] > rows[64] > rows[76] > 0
    assert canvas[0].sum() == pytest.approx(255 * 26 * 26 / 2, rel=0.01)


def test_frames_equal_drawing_of_ground_truth(store):
    clip = store.clip(0, 0, 2)
    for t in (0, 1):
        a = {k: v[t] for k, v in clip.arrays.items()}
        canvas = np.empty((3, 64, 64), np.uint8)
        canvas[...] = a["ground"][:, None, None]
        for k, (outline, _) in enumerate(MOVERS.values()):
            draw_shape(canvas, outline, a["position"][k].tolist(), float(a["extent"][k]), a["colour"][k].tolist())
        np.testing.assert_array_equal(canvas, clip.frames[t])
    for k, (kind, (_, direction)) in enumerate(MOVERS.items()):
        step = (clip.arrays["position"][1, k] - clip.arrays["position"][0, k]) * 2  # 64 px frames of 128 px scenes
        np.testing.assert_array_equal(step, np.multiply(direction, clip.meta["motion"][kind]))


def test_parts_are_independent_of_each_others_size(store, tmp_path):
    splits = {k: [store.names[s.video] for s in v] for k, v in store.splits(2).items()}
    assert {k: len(v) for k, v in splits.items()} == {"train": 6, "val": 3, "test": 3}
    assert all(name.startswith("shapes-test") for name in splits["test"])
    Shapes(ShapesConfig(train=2, val=1, test=1, visualise=0, size=64)).prepare(tmp_path / "s")
    other = Store(tmp_path / "s")
    for name in other.names:
        a, b = other.clip(other.names.index(name), 0, 2), store.clip(store.names.index(name), 0, 2)
        np.testing.assert_array_equal(a.frames, b.frames)


def test_normal_distribution_of_motion():
    config = ShapesConfig(law="normal", sd=3)
    values = [Scene.draw(config, np.random.default_rng([1, i])).motion["square"] for i in range(3000)]
    assert np.std(values) == pytest.approx(3, abs=0.15)
    assert np.abs(values).max() <= 10


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train": 0}, "train must be at least 1"),
        ({"jitter": -1}, "jitter must be at least 0"),
        ({"size": 8}, "size must be 16 to 1024"),
        ({"largest": 40}, "largest must be 1 to 32"),
        ({"law": "normal", "sd": 0.0}, "sd must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        ShapesConfig(**settings)
