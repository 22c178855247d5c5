"""Key bindings: actions bound to arrows and space by the words in their names."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from framecast.core.types import ActionSpec
from framecast.data.loader import standardise

#: Names of keys in messages to the page.
KEYS = ("up", "down", "left", "right", "space")

#: Words in action names by key; the empty string is the idle action.
_WORDS = {
    "up": ("up", "upward", "upwards", "north", "forward", "forwards", "accelerate", "gas"),
    "down": ("down", "downward", "downwards", "south", "back", "backward", "backwards", "brake"),
    "left": ("left", "leftward", "leftwards", "west"),
    "right": ("right", "rightward", "rightwards", "east"),
    "space": ("fire", "jump", "shoot", "push", "press", "button", "grasp", "grab", "kick", "flap", "space"),
    "": ("noop", "no", "op", "none", "stay", "idle", "wait", "still", "nothing", "rest", "turn", "move", "go", "and"),
}
_MEANING = {word: key for key, words in _WORDS.items() for word in words}
#: Longest first: a name such as UPRIGHTFIRE is read from the left.
_WORD = re.compile("|".join(sorted(_MEANING, key=len, reverse=True)))

#: Names of continuous dimensions that lie along the arrows: the key that lowers the value, and the one that raises it.
_AXES = {
    ("left", "right"): ("x", "steer", "steering", "yaw", "horizontal", "joint 1"),
    ("down", "up"): ("y", "throttle", "gas", "speed", "vertical", "joint 2"),
}
_AXIS = {name: keys for keys, names in _AXES.items() for name in names}


def meaning(name: str) -> frozenset[str] | None:
    """Keys of an action name, empty for the idle action; None if a word is unknown.

    UPRIGHT, "up-right" and "move_up_and_right" are all up and right.
    """
    keys = set()
    for part in re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()):
        at = 0
        while at < len(part):
            word = _WORD.match(part, at)
            if word is None:
                return None
            keys.add(_MEANING[word[0]])
            at = word.end()
    return frozenset(keys - {""}) if keys else None


def pad(spec: ActionSpec) -> dict[str, Any]:
    """Description of the actions for the page, as plain data.

    Discrete: `choices`, each with label and keys (None for an unknown name), and `idle`, the choice when no key is
    down; None keeps the last one. Continuous: `axes`, each with label, low, high, idle and keys (lowering, raising) or
    None.
    """
    if spec.kind == "discrete":
        return _choices(spec)
    labels = spec.names or tuple(f"a{i}" for i in range(spec.size))
    bound = [_AXIS.get(_plain(label)) for label in labels]
    free = [keys for keys in _AXES if keys not in bound]
    axes, unnamed, taken = [], not any(bound), set[tuple[str, str]]()
    for i, label in enumerate(labels):
        own = bound[i]
        keys = own if own is not None and own not in taken else None
        if keys is not None:
            taken.add(keys)
        if keys is None and unnamed and free:  # unknown names: the arrows control the first two
            keys = free.pop(0)
        low, high = spec.bounds[i]
        idle = min(max(0.0, low), high)
        axes.append({"label": label, "low": low, "high": high, "idle": idle, "keys": keys and list(keys)})
    return {"kind": "continuous", "axes": axes}


def _choices(spec: ActionSpec) -> dict[str, Any]:
    labels = spec.names or tuple(str(i) for i in range(spec.size))
    found = [meaning(label) for label in labels] if spec.names else [None] * spec.size
    seen: set[frozenset[str]] = set()
    choices = []
    for label, keys in zip(labels, found, strict=True):
        first = keys is not None and keys not in seen  # of two with one meaning, the first has the key
        if keys is not None:
            seen.add(keys)
        choices.append({"label": label, "keys": sorted(keys, key=KEYS.index) if first and keys is not None else None})
    idle = next((i for i, choice in enumerate(choices) if choice["keys"] == []), None)
    return {"kind": "discrete", "choices": choices, "idle": idle}


def _plain(label: str) -> str:
    """Name of a dimension without prefixes and suffixes: vx, dx, "x position" and delta_x are all x."""
    words = re.findall(r"[a-z]+", label.lower())
    words = [w for w in words if w not in ("delta", "velocity", "position", "pos", "force", "target")] or words
    text = " ".join(words)
    return text[1:] if re.fullmatch(r"[dvf][xyz]", text) else text


def idle(spec: ActionSpec) -> Any:
    """Idle action: an index, or a list of numbers."""
    layout = pad(spec)
    if spec.kind == "discrete":
        return 0 if layout["idle"] is None else layout["idle"]
    return [axis["idle"] for axis in layout["axes"]]


def finite(value: Any) -> bool:
    """Whether a value from the page is a finite number; integers beyond floats are not."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def vector(spec: ActionSpec, given: Any) -> Tensor:
    """Model input (1, a) of an action from the page: one-hot, or standardised and clipped to its range.

    Args:
        spec: actions of the model.
        given: index; for continuous actions a list of numbers.

    Raises:
        ValueError: invalid action, in one sentence.
    """
    if spec.kind == "discrete":
        if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < spec.size:
            raise ValueError(f"an action is a number in 0…{spec.size - 1}")
        return torch.nn.functional.one_hot(torch.tensor([given]), spec.size).float()
    if not isinstance(given, list) or len(given) != spec.size or not all(map(finite, given)):
        raise ValueError(f"an action is a list of {spec.size} finite numbers")
    values = torch.tensor([min(max(float(v), low), high) for v, (low, high) in zip(given, spec.bounds, strict=True)])
    return torch.from_numpy(standardise(values.numpy(), spec))[None]
