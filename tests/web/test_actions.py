"""Actions and the keys they are bound to."""

import pytest
import torch

from framecast.core.types import ActionSpec
from framecast.web.actions import idle, meaning, pad, vector

PACMAN = ("NOOP", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("UP", {"up"}),
        ("UPRIGHTFIRE", {"up", "right", "space"}),
        ("up-right", {"up", "right"}),
        ("moveUpAndLeft", {"up", "left"}),
        ("FIRE", {"space"}),
        ("turn left", {"left"}),
        ("forward", {"up"}),
        ("south_west", {"down", "left"}),
        ("NOOP", set()),
        ("no-op", set()),
        ("stay", set()),
        ("jump", {"space"}),
        ("button", {"space"}),
        ("supper", None),
        ("3", None),
        ("", None),
        ("open door", None),
    ],
)
def test_action_names_map_to_keys(name, keys):
    assert meaning(name) == (None if keys is None else frozenset(keys))


def test_game_actions_use_arrows_and_space():
    result = pad(ActionSpec(kind="discrete", size=9, names=PACMAN))
    assert result["kind"] == "discrete"
    assert result["idle"] == 0
    assert {c["label"]: c["keys"] for c in result["choices"]} == {
        "NOOP": [],
        "UP": ["up"],
        "RIGHT": ["right"],
        "LEFT": ["left"],
        "DOWN": ["down"],
        "UPRIGHT": ["up", "right"],
        "UPLEFT": ["up", "left"],
        "DOWNRIGHT": ["down", "right"],
        "DOWNLEFT": ["down", "left"],
    }


def test_unknown_names_have_no_keys_and_duplicates_bind_once():
    result = pad(ActionSpec(kind="discrete", size=4))
    assert [c["keys"] for c in result["choices"]] == [None] * 4
    assert [c["label"] for c in result["choices"]] == ["0", "1", "2", "3"]
    assert result["idle"] is None
    result = pad(ActionSpec(kind="discrete", size=3, names=("left", "west", "kiss")))
    assert [c["keys"] for c in result["choices"]] == [["left"], None, None]
    assert result["idle"] is None


def test_continuous_dimensions_use_arrows():
    spec = ActionSpec(kind="continuous", size=3, names=("vy", "delta_x", "grip"), low=(-2, -1, 0.5), high=(2, 1, 1))
    axes = pad(spec)["axes"]
    assert [a["keys"] for a in axes] == [["down", "up"], ["left", "right"], None]
    assert [(a["low"], a["high"], a["idle"]) for a in axes] == [(-2, 2, 0), (-1, 1, 0), (0.5, 1, 0.5)]
    assert [a["keys"] for a in pad(ActionSpec(kind="continuous", size=3))["axes"]] == [
        ["left", "right"],
        ["down", "up"],
        None,
    ]
    assert idle(spec) == [0, 0, 0.5]


def test_unstated_ranges_come_from_mean_and_std():
    axes = pad(ActionSpec(kind="continuous", size=2, mean=(1.0, 5.0), std=(2.0, 0.0)))["axes"]
    assert [(a["low"], a["high"]) for a in axes] == [(-3, 5), (4, 6)]
    assert [(a["low"], a["high"]) for a in pad(ActionSpec(kind="continuous", size=1))["axes"]] == [(-1, 1)]


def test_page_action_becomes_model_input():
    discrete = ActionSpec(kind="discrete", size=3)
    assert vector(discrete, 2).tolist() == [[0, 0, 1]]
    assert idle(discrete) == 0
    spec = ActionSpec(kind="continuous", size=2, low=(-1, -1), high=(1, 1), mean=(0.5, 0), std=(0.5, 0))
    torch.testing.assert_close(vector(spec, [1, 0.25]), torch.tensor([[1.0, 0.25]]))
    assert torch.equal(vector(spec, [9, 9]), vector(spec, [1, 1]))  # never beyond what was recorded


@pytest.mark.parametrize("given", [3, -1, True, 1.0, "1", None, [1], {}])
def test_invalid_choice_raises(given):
    with pytest.raises(ValueError, match="an action is a number in 0…2"):
        vector(ActionSpec(kind="discrete", size=3), given)


@pytest.mark.parametrize("given", [1, [1], [1, 2, 3], [1, float("nan")], [1, "2"], [1, None], "ab", None])
def test_invalid_vector_raises(given):
    with pytest.raises(ValueError, match="an action is a list of 2 finite numbers"):
        vector(ActionSpec(kind="continuous", size=2), given)
