"""How people move: feet that stay where they stand, steps of a walk's length and speed, poses that are reached."""

import importlib.util

import numpy as np
import pytest

from framecast.data.synthetic.gait import ACTIONS, Walker
from framecast.data.synthetic.rendering import load_mujoco
from framecast.data.synthetic.walk_scene import CHAIR, SEAT, WALK, scene, subject

if importlib.util.find_spec("mujoco") is None:
    pytest.skip("needs mujoco", allow_module_level=True)

SECONDS = 14


@pytest.fixture(scope="module")
def tracks():
    """Per action what happens in a quarter of a minute, at a hundred moments a second."""
    found = {}
    for number, action in enumerate(ACTIONS):
        who = subject(number, 0)
        model = load_mujoco().MjModel.from_xml_string(scene(who))
        walker = Walker(model, who, action, np.random.default_rng([0, number]))
        rows = []
        for _ in range(SECONDS * 100):
            standing = walker._standing
            walker.step(0.01)
            slid = np.linalg.norm(walker.data.site_xpos[walker._soles[standing[0]]][:2] - standing[1][:2])
            lowest = walker.data.site_xpos[walker._soles][:, 2].min()
            rows.append((*walker.place, *walker.state()[2:], slid, lowest, *walker._weights.values()))
        found[action] = np.array(rows), list(walker._weights)
    return found


def test_feet_do_not_slide_nor_sink(tracks):
    for rows, _ in tracks.values():
        assert rows[:, 5].max() < 0.004  # m in a hundredth of a second, and only while turning before a chair
        assert np.median(rows[:, 5]) < 1e-9
        np.testing.assert_allclose(rows[:, 6], 0, atol=1e-9)


def test_walking_has_the_speed_of_a_walk(tracks):
    rows, names = tracks["walking"]
    walking = rows[1:, 7 + names.index("walk")] > 0.95
    speed = np.linalg.norm(np.diff(rows[:, :2], axis=0), axis=1)[walking] * 100
    assert walking.mean() > 0.3
    assert 0.7 < speed.mean() < 1.7
    assert np.ptp(rows[walking.nonzero()[0], 2]) < 0.08  # the hips rise and fall by a few centimetres


def test_motion_is_smooth(tracks):
    for rows, _ in tracks.values():
        assert np.abs(np.diff(rows[:, 2])).max() < 0.02
        turn = (np.diff(rows[:, 4]) + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(turn).max() < 0.03


def test_people_stay_in_the_middle_of_the_room(tracks):
    for action, (rows, _) in tracks.items():
        reach = np.linalg.norm(rows[:, :2], axis=1).max()
        assert reach < (2.0 if action == "sitting" else WALK + 0.6), action


def test_every_action_is_performed(tracks):
    weights = {"waving": "wave", "turning": "look", "squatting": "squat", "sitting": "sit"}
    for action, name in weights.items():
        rows, names = tracks[action]
        assert rows[:, 7 + names.index(name)].max() > 0.9, action


def test_sitting_person_is_on_the_chair(tracks):
    rows, names = tracks["sitting"]
    seated = rows[rows[:, 7 + names.index("sit")] > 0.99]
    assert np.linalg.norm(seated[:, :2] - np.array(CHAIR), axis=1).max() < 0.15
    assert (np.abs(seated[:, 2] - SEAT - 0.08) < 0.08).all()  # hips rest above the seat


def test_squatting_person_is_low(tracks):
    rows, names = tracks["squatting"]
    low = rows[rows[:, 7 + names.index("squat")] > 0.9, 2]
    assert low.max() < 0.75 * rows[:, 2].max()
