"""Run folders: opening a run by folder, packaged name or hub name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framecast.core.checksums import CHECKSUMS
from framecast.core.config import brief, from_dict, suggest
from framecast.core.errors import UserError
from framecast.core.io import read_file, read_json
from framecast.core.remote import hub_errors
from framecast.models import UNTRAINED
from framecast.models.base import Predictor
from framecast.models.registry import find_model
from framecast.training.checkpoint import check_format, check_shapes, load_weights, snapshots
from framecast.training.config import CONFIG, RunConfig, config_from_json
from framecast.training.log import read_metrics

#: File that names the links of a chain of trainings, and folder of its earlier links, in the run folder of the last.
CHAIN, LINKS = "chain.json", "chain"


@dataclass(frozen=True)
class ChainFile:
    """Content of chain.json.

    Attributes:
        name: of the model.
        profile: of the chain.
        links: their numbers and names, first to last, such as 1-drawn.
        length: steps, epochs or budget of all together.
        seconds_per_step: of a link, where a budget decides how long its schedules are.
        clearing: whether the rest of the folder is still to be deleted.
    """

    name: str
    profile: str
    links: tuple[str, ...]
    length: dict[str, Any]
    seconds_per_step: dict[str, float] = field(default_factory=dict)
    clearing: bool = False

    def key(self) -> tuple[Any, ...]:
        """What a command must share to resume the chain."""
        return self.name, self.profile, self.links, self.length


def read_chain(folder: Path) -> ChainFile | None:
    """The chain whose last link is the run of a folder; None if there is none.

    Raises:
        UserError: chain.json is damaged.
    """
    path = folder / CHAIN
    if not path.is_file():
        return None
    data = read_json(path)
    check_format(data.pop("format", None), path)
    found = from_dict(ChainFile, data, str(path))
    if not found.links or not all(re.fullmatch(r"\d{1,3}-[a-z0-9-]{1,40}", name) for name in found.links):
        raise UserError(
            f"{path}: expected names of links such as 1-drawn, got {brief(list(found.links))}; copy it again"
        )
    return found


def earlier_links(folder: Path) -> list[Path]:
    """The run folders of the links before the last one of a chain, as far as they are there; [] for other runs."""
    chain = read_chain(folder)
    names = () if chain is None else chain.links[:-1]
    return [folder / LINKS / name for name in names if (folder / LINKS / name / CONFIG).is_file()]


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
    def label(self) -> str:
        """What messages call the run: the name that the user gave, else the folder."""
        return self.name or str(self.folder)

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
        """Steps and seconds of training, from the log, or from the config of exported weights; of a chain those of all
        links that are there."""
        parts = [trained(folder) for folder in (*earlier_links(self.folder), self.folder)]
        steps = [count for count, _ in parts if count is not None]
        seconds = [time for _, time in parts if time is not None]
        return sum(steps) if steps else None, sum(seconds) if seconds else None

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


def trained(folder: Path) -> tuple[int | None, float | None]:
    """Steps and seconds of training of one run folder, from its log, or from the config of exported weights."""
    kept = snapshots(folder)
    rows = read_metrics(folder)
    if not kept and not rows:
        path = folder / CONFIG
        stored = read_file(path).get("trained") if path.is_file() else None
        stored = stored if isinstance(stored, dict) else {}
        steps, seconds = stored.get("steps"), stored.get("seconds")
        return steps if isinstance(steps, int) else None, seconds if isinstance(seconds, int | float) else None
    steps = int(kept[-1].name[5:]) if kept else int(rows[-1]["step"])
    return steps, next((float(row["seconds"]) for row in reversed(rows) if "seconds" in row), None)


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
        if not kept and read_chain(folder) is not None:
            there = earlier_links(folder)
            newest = f"the newest link is {there[-1]}" if there else "none has begun"
            raise UserError(f"{folder}: this chain has not reached its last link, {newest}; run its command again")
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

    name = f"hf://{repository}" + (f"@{revision}" if revision else "")
    if repository.count("/") != 1:
        raise UserError(f"{name}: expected hf://organisation/name or hf://organisation/name@revision")
    try:
        patterns = ["config.json", "model.safetensors", "README.md", "scores.json", CHECKSUMS]
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, **options))
    except hub_errors() as error:
        raise UserError(
            f"{name}: cannot be fetched ({type(error).__name__}); check name, revision and network, or use a folder"
        ) from error
    if not (folder / CONFIG).is_file():
        raise UserError(f"{name}: has no {CONFIG}; expected weights that framecast push or framecast export wrote")
    return folder
