"""Predict the next frames of a video.

    import framecast
    model = framecast.load("runs/pacman")              # a Predictor in eval mode with EMA weights
    future = model.predict(context, horizon=64)        # (s, b, t, c, h, w) float 0…1

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "DatasetWriter",
    "Predictor",
    "benchmark",
    "compare",
    "evaluate",
    "from_pretrained",
    "load",
    "metrics",
    "read_video",
    "rollout",
    "save_pretrained",
    "train",
    "write_video",
]

if TYPE_CHECKING:
    from framecast import metrics
    from framecast.benchmark import benchmark
    from framecast.compare import compare
    from framecast.data.writer import DatasetWriter
    from framecast.export import from_pretrained, save_pretrained
    from framecast.held_out import evaluate
    from framecast.media.video import read_video, write_video
    from framecast.models.base import Predictor
    from framecast.rollout import rollout
    from framecast.run import load
    from framecast.train import train

_HOME = {
    "DatasetWriter": "framecast.data.writer",
    "Predictor": "framecast.models.base",
    "benchmark": "framecast.benchmark",
    "compare": "framecast.compare",
    "evaluate": "framecast.held_out",
    "from_pretrained": "framecast.export",
    "load": "framecast.run",
    "read_video": "framecast.media.video",
    "rollout": "framecast.rollout",
    "save_pretrained": "framecast.export",
    "train": "framecast.train",
    "write_video": "framecast.media.video",
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("framecast.metrics")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'framecast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


class _Package(types.ModuleType):
    """`framecast.train` is a function though `train.py` is a file: importing the file must not replace the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
