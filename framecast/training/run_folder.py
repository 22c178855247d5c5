"""Run folders: opening a run by folder, packaged name or hub name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framecast.core.checksums import CHECKSUMS
from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.io import read_file
from framecast.models import UNTRAINED
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.checkpoint import check_shapes, load_weights, snapshots
from framecast.training.config import CONFIG, RunConfig, config_from_json
from framecast.training.log import read_metrics


@dataclass
class Run:
    """An opened run folder.

    Attributes:
        folder: the folder.
        config: of the run.
        model_class: class of the model.
        name: as given by the user.
        own: whether it is a folder of the user; packaged and downloaded weights are read-only.
    """

    folder: Path
    config: RunConfig
    model_class: type[Predictor]
    name: str = ""
    own: bool = True

    @property
    def results(self) -> Path:
        """Folder for scores and reports: the run folder, or ./NAME-results for read-only weights."""
        return self.folder if self.own else Path(f"{self.name.partition('@')[0].rsplit('/', 1)[-1]}-results")

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Frame size (h, w) required by the model; None for any size."""
        return self.model_class.frame_size(self.config.model, self.config.spec)

    @property
    def trained(self) -> tuple[int | None, float | None]:
        """Steps and seconds of training, from the log, or from the config of exported weights."""
        kept = snapshots(self.folder)
        rows = read_metrics(self.folder)
        if not kept and not rows:
            path = self.folder / CONFIG
            stored = read_file(path).get("trained") if path.is_file() else None
            stored = stored if isinstance(stored, dict) else {}
            steps, seconds = stored.get("steps"), stored.get("seconds")
            return steps if isinstance(steps, int) else None, seconds if isinstance(seconds, int | float) else None
        steps = int(kept[-1].name[5:]) if kept else int(rows[-1]["step"])
        return steps, next((float(row["seconds"]) for row in reversed(rows) if "seconds" in row), None)

    @property
    def weights(self) -> Path:
        """The newest weights file.

        Raises:
            UserError: the run has none yet.
        """
        kept = snapshots(self.folder)
        path = (kept[-1] if kept else self.folder) / "model.safetensors"
        if not path.is_file():
            raise UserError(f"{self.folder}: has no weights yet; train it first (framecast train)")
        return path

    def model(self, device: str = "cpu") -> Predictor:
        """The predictor with its EMA weights, in eval mode."""
        import torch

        kept = snapshots(self.folder)
        path = (kept[-1] if kept else self.folder) / "model.safetensors"
        # a config decides how much memory a model takes: its shapes are compared with the weights before it is built
        if self.config.name not in UNTRAINED:  # a baseline may stand for a run and has no weights to compare
            check_shapes(lambda: self.model_class(self.config.model, self.config.spec), path)
        model = self.model_class(self.config.model, self.config.spec)
        if list(model.state_dict()):
            load_weights(model, self.weights)
        return model.to(torch.device(device)).eval().requires_grad_(False)


def open_run(name: str | Path, model_class: type[Predictor] | None = None) -> Run:
    """The run of a folder, a name of packaged weights, or `hf://org/name[@revision]`.

    Args:
        name: folder or name.
        model_class: class of a model outside the package.

    Raises:
        UserError: there is no such run, or the folder is no run folder.
    """
    folder, own = _resolve_run(str(name))
    path = folder / CONFIG
    if not path.is_file():
        kept = snapshots(folder)
        if not kept:
            raise UserError(f"{folder}: has no {CONFIG}; expected a run folder written by framecast train")
        path = kept[-1] / CONFIG
    config = config_from_json(read_file(path), path, model_class)
    return Run(folder, config, model_class or find_model(config.name), name=str(name), own=own)


def packaged() -> dict[str, Path]:
    """Folders of the packaged weights, by name."""
    root = Path(__file__).parents[1] / "pretrained"
    return {p.parent.name: p.parent for p in sorted(root.glob("*/config.json"))}


def _resolve_run(name: str) -> tuple[Path, bool]:
    """The run's folder, and whether it belongs to the user. Only hf:// names are downloaded."""
    folder = Path(name).expanduser()
    known = packaged()
    if folder.is_dir():
        return folder, folder.resolve() not in [p.resolve() for p in known.values()]
    if name in known:
        return known[name], False
    if name.startswith("hf://"):
        repository, _, revision = name.removeprefix("hf://").partition("@")
        return download_run(repository, revision or None), False
    if folder.is_file():
        raise UserError(f"{name}: is a file; expected the run's folder")
    parent = folder.parent if folder.parent.is_dir() else Path()
    near = [str(p) for p in parent.iterdir() if (p / CONFIG).is_file() or snapshots(p)] + list(known)
    raise UserError(f"{name}: no such run folder or packaged weights; {suggest(name, near)}")


def download_run(repository: str, revision: str | None = None, **options: Any) -> Path:
    """Folder of the weights in a repository of the Hugging Face Hub, downloaded once.

    Args:
        repository: organisation/name.
        revision: branch, tag or commit; None is the main branch.
        options: further arguments of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = f"hf://{repository}" + (f"@{revision}" if revision else "")
    if repository.count("/") != 1:
        raise UserError(f"{name}: expected hf://organisation/name or hf://organisation/name@revision")
    try:
        patterns = ["config.json", "model.safetensors", "README.md", "scores.json", CHECKSUMS]
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: cannot be fetched ({type(error).__name__}); check name, revision and network, or use a folder"
        ) from error
    if not (folder / CONFIG).is_file():
        raise UserError(f"{name}: has no {CONFIG}; expected weights that framecast push or framecast export wrote")
    return folder
