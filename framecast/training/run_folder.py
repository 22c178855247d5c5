"""A run: what is trained on what and how. Names become objects here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.checkpoint import load_weights, snapshots
from framecast.training.config import CONFIG, RunConfig, config_from_json
from framecast.training.log import read_metrics

# ------------------------------------------------------------------------------------------------- names to objects


# -------------------------------------------------------------------------------------------------------------- data


# -------------------------------------------------------------------------------------------------------- run folder


@dataclass
class Run:
    """An opened run folder: its config, and where its weights are.

    name: as the user gave it.  own: it is a folder of the user's; packaged and downloaded weights are only read.
    """

    folder: Path
    config: RunConfig
    model_class: type[Predictor]
    name: str = ""
    own: bool = True

    @property
    def results(self) -> Path:
        """Where scores and reports go: the run folder; NAME-results in the current one for weights only read."""
        return self.folder if self.own else Path(f"{self.name.partition('@')[0].rsplit('/', 1)[-1]}-results")

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """The one size (h, w) of frames that the run's model takes; None where it takes any."""
        return self.model_class.frame_size(self.config.model, self.config.spec)

    @property
    def trained(self) -> tuple[int | None, float | None]:
        """Steps and seconds of training: of its log, or, for weights that travelled, what their config says."""
        kept = snapshots(self.folder)
        rows = read_metrics(self.folder)
        if not kept and not rows:
            path = self.folder / CONFIG
            told = read_file(path).get("trained") if path.is_file() else None
            told = told if isinstance(told, dict) else {}
            steps, seconds = told.get("steps"), told.get("seconds")
            return steps if isinstance(steps, int) else None, seconds if isinstance(seconds, int | float) else None
        steps = int(kept[-1].name[5:]) if kept else int(rows[-1]["step"])
        return steps, next((float(row["seconds"]) for row in reversed(rows) if "seconds" in row), None)

    @property
    def weights(self) -> Path:
        """The newest weights file.

        Raises: UserError when the run has none yet.
        """
        kept = snapshots(self.folder)
        path = (kept[-1] if kept else self.folder) / "model.safetensors"
        if not path.is_file():
            raise UserError(f"{self.folder}: holds no weights yet; train it first (framecast train)")
        return path

    def model(self, device: str = "cpu") -> Predictor:
        """The predictor with its EMA weights, in eval mode."""
        import torch

        model = self.model_class(self.config.model, self.config.spec)
        if list(model.state_dict()):
            load_weights(model, self.weights)
        return model.to(torch.device(device)).eval().requires_grad_(False)


def open_run(name: str | Path, model_class: type[Predictor] | None = None) -> Run:
    """The run behind a folder, the name of packaged weights or `hf://org/name[@revision]`.

    Raises: UserError when there is none, or it is not a run folder.
    """
    folder, own = _resolve_run(str(name))
    path = folder / CONFIG
    if not path.is_file():
        kept = snapshots(folder)
        if not kept:
            raise UserError(f"{folder}: has no {CONFIG}, so it is not a run folder; make one with framecast train")
        path = kept[-1] / CONFIG
    config = config_from_json(read_file(path), path, model_class)
    return Run(folder, config, model_class or find_model(config.name), name=str(name), own=own)


def packaged() -> dict[str, Path]:
    """Weights that came with the package, by name."""
    root = Path(__file__).parents[1] / "pretrained"
    return {p.parent.name: p.parent for p in sorted(root.glob("*/config.json"))}


def _resolve_run(name: str) -> tuple[Path, bool]:
    """The run's folder, and whether it is the user's own. A path that does not exist is never fetched from anywhere."""
    folder = Path(name).expanduser()
    known = packaged()
    if folder.is_dir():
        return folder, folder.resolve() not in [p.resolve() for p in known.values()]
    if name in known:
        return known[name], False
    if name.startswith("hf://"):
        return _from_hub(name), False
    if folder.is_file():
        raise UserError(f"{name}: is a file; give the run's folder")
    parent = folder.parent if folder.parent.is_dir() else Path()
    near = [str(p) for p in parent.iterdir() if (p / CONFIG).is_file() or snapshots(p)] + list(known)
    raise UserError(f"{name}: no such run folder or packaged weights; {suggest(name, near)}")


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.removeprefix("hf://").partition("@")
    if repository.count("/") != 1:
        raise UserError(f"{name}: write hf://organisation/name or hf://organisation/name@revision")
    try:
        patterns = ["config.json", "model.safetensors", "README.md", "scores.json"]
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: cannot be fetched ({type(error).__name__}); check name, revision and network, or give a folder"
        ) from error
