"""Translation of names of older versions when their files are read; no other module contains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

#: Fields of `TrainConfig` and `ActionSpec` that were renamed: old name -> new name.
_TRAIN = {"accumulate": "grad_accum_steps"}
_ACTIONS = {"sd": "std"}

#: Per-frame arrays that were renamed. `terminals` marked the frame at which a game is over, `terminated` marks the
#: transition to it, one row earlier.
ARRAYS = {"terminals": "terminated"}

#: Fields of `TrainConfig` that older configs lack, with the values that repeat their runs.
_ADDED = {"deterministic": False, "select": "last", "select_horizon": 0, "log": "", "prefetch": None, "compile": "auto"}
_ADDED |= {"cuda_graph": False}

#: Flags that were renamed: they work for one more version, with a warning.
RENAMED_FLAGS = {
    "--accumulate": "--grad-accum-steps",
    "--lean": "--inference-only",
}

#: Profiles of whole runs that got another name, by model: a setting that only the present one has, and the name.
_FORMER_SMALL = {
    "dreams": ("background", "narrow"),
    "hierarchical": ("background", "narrow"),
    "visual-dynamics": ("guess_weight", "pairs"),
}

#: Phases of the autoencoders that were renamed; they key the optimisers of a checkpoint.
_PHASES = {"fool": "generator", "judge": "discriminator"}


def migrate_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `config.json` with present names.

    Args:
        data: the parsed file, written by this or an older version.

    Returns:
        A copy in which renamed keys have their new names.
    """
    found = dict(data)
    if isinstance(found.get("train"), Mapping):
        found["train"] = _renamed(found["train"], _TRAIN)
    if isinstance(found.get("spec"), Mapping):
        found["spec"] = migrate_spec(found["spec"])
    if "version" in found and found.get("profile") == "small" and found.get("name") in _FORMER_SMALL:
        setting, profile = _FORMER_SMALL[found["name"]]
        if setting not in found.get("model", {}):
            found["profile"] = profile
    return found


def complete_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data settings of a run's stored config, with those that its version lacked, at their defaults.

    Args:
        data: "data" of a whole `config.json`.
    """
    return {"cuts": True, **data}


def complete_train(data: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings of a run's stored config, with those that its version lacked.

    Args:
        data: "train" of a whole `config.json`; in a file that sets some fields, missing ones are those of the profile.

    Returns:
        A copy in which added settings have the values that repeat older runs.
    """
    return {**_ADDED, **data}


def migrate_spec(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON form of a `ClipSpec` with present names.

    Args:
        data: the parsed form, from a run's config or a store's index.

    Returns:
        A copy in which renamed keys have their new names.
    """
    found = dict(data)
    if isinstance(found.get("actions"), Mapping):
        found["actions"] = _renamed(found["actions"], _ACTIONS)
    if isinstance(found.get("extras"), Mapping):
        found["extras"] = _renamed(found["extras"], ARRAYS)
    return found


def migrate_terminals(terminals: np.ndarray, offsets: Sequence[int], lengths: Sequence[int]) -> np.ndarray:
    """The array `terminated` of videos that were stored with `terminals`.

    Args:
        terminals: bool or number (n,), rows of all videos; true where the game is over.
        offsets: first row of each video.
        lengths: rows of each video.
    """
    over = terminals != 0
    found: np.ndarray = over & False
    for offset, length in zip(offsets, lengths, strict=True):
        stop = offset + length
        found[offset : stop - 1] = over[offset + 1 : stop] & ~over[offset : stop - 1]
    return found


def migrate_checkpoint(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint with present names.

    Args:
        saved: the result of `torch.load`.

    Returns:
        A copy whose optimisers are keyed by the present names of phases, with counters that older versions lacked.
    """
    found = {"stage_seconds": 0.0, **saved}
    if isinstance(found.get("optimisers"), Mapping) and set(_PHASES) & set(found["optimisers"]):
        found["optimisers"] = _renamed(found["optimisers"], _PHASES)
    return found


def migrate_run_folder(folder: Path) -> None:
    """Rename files of an older version in a run folder, so that a resumed run finds its precomputed latents.

    Args:
        folder: the run folder; one of this version is left unchanged.
    """
    old, new = folder / "codes", folder / "latents"
    if old.is_dir() and not new.exists():
        for index in old.glob("*/codes.json"):
            index.rename(index.with_name("latents.json"))
        old.rename(new)


def _renamed(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in data.items()}
