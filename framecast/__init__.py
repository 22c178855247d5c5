"""Predict the next frames of a video.

    import framecast
    model = framecast.load("runs/pacman")              # a Predictor in eval mode with EMA weights
    future = model.predict(context, horizon=64)        # (s, b, t, c, h, w) float 0…1

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "DatasetWriter",
    "Predictor",
    "anomaly",
    "compare",
    "evaluate",
    "from_pretrained",
    "load",
    "metrics",
    "push_to_hub",
    "read_video",
    "rollout",
    "run_benchmark",
    "save_pretrained",
    "train",
    "write_video",
]

if TYPE_CHECKING:
    from framecast import metrics
    from framecast.benchmark.runner import run_benchmark
    from framecast.data.writer import DatasetWriter
    from framecast.evaluation.anomaly import anomaly
    from framecast.evaluation.compare import compare
    from framecast.evaluation.evaluate import evaluate
    from framecast.inference.export import from_pretrained, save_pretrained
    from framecast.inference.hub import push_to_hub
    from framecast.inference.load import load
    from framecast.media.video import read_video, write_video
    from framecast.models.base import Predictor
    from framecast.models.rollout import rollout
    from framecast.training.train import train

_HOME = {
    "DatasetWriter": "framecast.data.writer",
    "Predictor": "framecast.models.base",
    "anomaly": "framecast.evaluation.anomaly",
    "run_benchmark": "framecast.benchmark.runner",
    "compare": "framecast.evaluation.compare",
    "evaluate": "framecast.evaluation.evaluate",
    "from_pretrained": "framecast.inference.export",
    "load": "framecast.inference.load",
    "push_to_hub": "framecast.inference.hub",
    "read_video": "framecast.media.video",
    "rollout": "framecast.models.rollout",
    "save_pretrained": "framecast.inference.export",
    "train": "framecast.training.train",
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
