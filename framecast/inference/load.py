"""Loading the predictor of a run."""

from __future__ import annotations

from pathlib import Path

from framecast.models.base import Predictor
from framecast.training.run_folder import open_run


def load(name: str | Path, device: str = "cpu", model: type[Predictor] | None = None) -> Predictor:
    """The predictor of a run, in eval mode with EMA weights.

    Args:
        name: run folder, packaged weights or hf:// name.
        device: torch device.
        model: class of the model, for a model outside the package.

    Raises:
        UserError: the run does not exist or is damaged.
    """
    return open_run(name, model).model(device)
