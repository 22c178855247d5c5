"""Experiment trackers: TensorBoard, Weights & Biases, MLflow and Trackio behind one interface.

Each is an extra of its own and is imported when it is used. A tracker continues the run of a resumed training: its id
is kept in trackers.json of the run folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import read_json, write_json

IDS = "trackers.json"
_PROJECT = "framecast"


class Tracker:
    """Receiver of what a training reports; the default ignores it.

    Args:
        folder: the run folder.
        step: step at which the run resumes.
        config: of the run, plain values.
        run_id: id of an earlier part of the run in the tracker; None for a new run.
    """

    #: Id of the run in the tracker, stored for a resumed training; None if it needs none.
    run_id: str | None = None
    #: Package that an extra of the tracker's name installs; None if framecast itself brings it.
    package: ClassVar[str | None] = None

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any], run_id: str | None) -> None:
        self.folder = folder

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """An image, uint8 (c, h, w)."""

    def video(self, step: int, name: str, path: Path) -> None:
        """A written video."""

    def scores(self, values: Mapping[str, float]) -> None:
        """Final scores of the run."""

    def close(self) -> None:
        """End of the training."""


class TensorBoard(Tracker):
    """Files for TensorBoard in tensorboard/ of the run folder; its videos silently write nothing and are left out."""

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any], run_id: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.writer.add_image(name, image, step)

    def close(self) -> None:
        self.writer.close()


class WandB(Tracker):
    """Weights & Biases; WANDB_PROJECT and WANDB_MODE (online, offline) as usual."""

    package = "wandb"

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any], run_id: str | None) -> None:
        import wandb

        self.library: Any = wandb
        try:
            self.run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", _PROJECT),
                name=folder.name,
                dir=str(folder),
                config=dict(config),
                id=run_id,
                resume="allow",
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.UsageError as error:
            raise UserError(
                "wandb has no account on this machine: run wandb login, or set WANDB_MODE=offline to log to files"
            ) from error
        self.run_id = self.run.id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.run.log({name: self.library.Image(image.transpose(1, 2, 0))}, step=step)

    def video(self, step: int, name: str, path: Path) -> None:
        self.run.log({name: self.library.Video(str(path), format=path.suffix[1:])}, step=step)

    def scores(self, values: Mapping[str, float]) -> None:
        self.run.summary.update({f"final/{name}": value for name, value in values.items()})

    def close(self) -> None:
        self.run.finish()


class MLflow(Tracker):
    """MLflow; $MLFLOW_TRACKING_URI, or mlflow/ of the run folder."""

    package = "mlflow"

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any], run_id: str | None) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 by default: minutes for a server that is down
        import mlflow

        self.library: Any = mlflow
        if not (address := os.environ.get("MLFLOW_TRACKING_URI")):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need further packages
            address = (folder / "mlflow").resolve().as_uri()
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT))
        self.run_id = mlflow.start_run(run_id=run_id, run_name=None if run_id else folder.name).info.run_id
        if run_id is None:
            mlflow.log_params({name: str(value)[:500] for name, value in _flat(config).items()})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.library.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.library.log_image(image.transpose(1, 2, 0), artifact_file=f"{name}/step-{step}.png")

    def video(self, step: int, name: str, path: Path) -> None:
        self.library.log_artifact(str(path), artifact_path="videos")

    def scores(self, values: Mapping[str, float]) -> None:
        self.library.log_metrics({f"final/{name}": float(value) for name, value in values.items()})

    def close(self) -> None:
        self.library.end_run()


class Trackio(WandB):
    """Trackio, a local dashboard with the interface of Weights & Biases; its files are where TRACKIO_DIR points."""

    package = "trackio"

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any], run_id: str | None) -> None:
        import trackio

        self.library: Any = trackio
        self.run_id = run_id or folder.name
        self.run: Any = trackio.init(project=_PROJECT, name=self.run_id, config=dict(config), resume="allow")

    def video(self, step: int, name: str, path: Path) -> None:
        self.run.log({name: self.library.Video(path, format=path.suffix[1:])}, step=step)

    def scores(self, values: Mapping[str, float]) -> None:
        self.run.log({f"final/{name}": value for name, value in values.items()})


#: Name on the command line -> class; each has an extra of its name, TensorBoard comes with the package.
TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow, "trackio": Trackio}


class Trackers(Tracker):
    """Several trackers as one. One that fails during the training is left out from then on, with a sentence.

    Args:
        names: of `TRACKERS`.
        folder: the run folder.
        step: step at which the run resumes.
        config: of the run, plain values.

    Raises:
        UserError: a tracker is not installed, has no account or cannot be started.
    """

    def __init__(self, names: Sequence[str], folder: Path, step: int, config: Mapping[str, Any]) -> None:
        stored = read_json(folder / IDS) if (folder / IDS).is_file() else {}
        self.parts: dict[str, Tracker] = {}
        for name in names:
            try:
                self.parts[name] = TRACKERS[name](folder, step, config, stored.get(name) if step else None)
            except UserError:
                raise
            except ImportError as error:
                raise _missing(name) from error
            except Exception as error:  # other people's code and servers may fail in any way
                if name == "tensorboard":  # a file of the run folder
                    raise
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{name} cannot be started ({type(error).__name__}: {reason}); check its settings and its server, "
                    "or leave it out of --log"
                ) from error
        found = {name: part.run_id for name, part in self.parts.items() if part.run_id is not None}
        if found:
            write_json(folder / IDS, {**stored, **found})

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, part in list(self.parts.items()):
            try:
                call(part)
            except OSError:
                if name == "tensorboard":  # a file of the run folder: the disk is full
                    raise
                self._leave_out(name)
            except Exception:  # other people's code and servers may fail in any way, and training is worth more
                self._leave_out(name)

    def _leave_out(self, name: str) -> None:
        del self.parts[name]
        reason = " ".join(str(sys.exception()).split())[:200]
        print(f"{name} failed and is left out from here on ({reason}); the log of the run is whole", file=sys.stderr)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._each(lambda part: part.scalars(step, values))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self._each(lambda part: part.image(step, name, image))

    def video(self, step: int, name: str, path: Path) -> None:
        self._each(lambda part: part.video(step, name, path))

    def scores(self, values: Mapping[str, float]) -> None:
        self._each(lambda part: part.scores(values))

    def close(self) -> None:
        self._each(lambda part: part.close())


def tracker_names(log: str, tensorboard: bool) -> tuple[str, ...]:
    """Names of a comma-separated list, TensorBoard first if it is on.

    Raises:
        UserError: an unknown name.
    """
    names = [name.strip() for name in log.split(",") if name.strip()]
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"unknown tracker {name!r}; {suggest(name, TRACKERS)}")
    return tuple(dict.fromkeys([*(["tensorboard"] if tensorboard else []), *names]))


def check_trackers(log: str) -> None:
    """Require that the libraries of the trackers in a comma-separated list are installed, without importing them.

    Raises:
        UserError: an unknown name, or a library that is missing.
    """
    for name in tracker_names(log, False):
        package = TRACKERS[name].package
        if package is not None and importlib.util.find_spec(package) is None:
            raise _missing(name)


def _missing(name: str) -> UserError:
    return UserError(f"{name} is not installed; pip install 'framecast[{name}]'")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    out: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        out |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: json.dumps(value)}
    return out
