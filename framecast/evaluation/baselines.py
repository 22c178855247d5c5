"""Baselines of every table, and the reasons for those that cannot be computed."""

from __future__ import annotations

import importlib.util

from framecast.core.types import ClipSpec
from framecast.metrics.scores import BASELINES
from framecast.models.base import Predictor
from framecast.models.registry import find_model

_FLOW = "linear-flow"


def baselines(spec: ClipSpec, context: int, seen: int | None = None) -> dict[str, Predictor]:
    """Baselines that can be computed on these clips, by name.

    Args:
        spec: Of the compared frames.
        context: Context frames of the evaluated model, which temporal-mean averages.
        seen: Context frames of the clips, at least `context`; None is `context`.
    """
    left_out = missing_baselines(context if seen is None else seen)
    found: dict[str, Predictor] = {}
    for name in (n for n in BASELINES if n not in left_out):
        model_class = find_model(name)
        # optical flow needs two frames, also beside a model of one
        frames = max(context, 2) if name == _FLOW else context
        found[name] = model_class(model_class.Config(context=frames), spec).eval()
    return found


def missing_baselines(context: int) -> dict[str, str]:
    """Baselines that cannot be computed -> the reason, shown in place of their row.

    Args:
        context: Context frames of the clips.
    """
    if importlib.util.find_spec("cv2") is None:
        return {_FLOW: "not installed (pip install 'framecast[flow]')"}
    return {_FLOW: "not defined: optical flow needs two context frames"} if context < 2 else {}
