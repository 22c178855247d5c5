"""`framecast export`: weights to share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from framecast.cli.output import open_run_of, print_result
from framecast.core.flags import RunName, Switch, parse


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Exported weights: config.json, model.safetensors and a model card, without any local path.

    Example: framecast export runs/pacman --out pacman-weights --half
    """

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""
    out: str
    """Output folder; it must not exist yet or be empty."""
    half: Switch = False
    """Half precision for the stored weights, which halves the size."""
    inference_only: Switch = False
    """Weights for inference only, without modules that only training needs, such as a discriminator."""
    model_class: str | None = None
    """Class of a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


def run_export(argv: list[str]) -> None:
    """Write config, weights and model card of a run into a folder."""
    from framecast.inference.export import export

    flags = parse(ExportFlags, argv, "export")
    folder = export(open_run_of(flags), Path(flags.out), half=flags.half, inference_only=flags.inference_only)
    files = {p.name: p.stat().st_size for p in sorted(folder.iterdir())}
    text = f"weights: {folder}  ({sum(files.values()) / 1e6:.1f} MB; framecast.load({str(folder)!r}))"
    print_result(flags.json, {"weights": str(folder), "bytes": files}, text)
