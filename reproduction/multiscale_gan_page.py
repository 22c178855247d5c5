"""Writes docs/results/multiscale-gan.md from docs/results/multiscale-gan.json, and nothing else.

python -m reproduction.multiscale_gan_page
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduction.claims import OLDER_HEADLINE
from reproduction.pages import code, machine, opening, rewrite, table, text

METRICS = {
    "moving_psnr": "PSNR, moving area [dB]",
    "psnr": "PSNR [dB]",
    "ssim": "SSIM",
    "sharp_diff": "Sharp Diff [dB]",
    "sharpness_ratio": "sharpness ratio",
}


def page(found: dict[str, Any], folder: Path) -> str:
    """The page's text: a section per result with its command, protocol, figures and film."""
    lines = [
        "# Results: multi-scale adversarial prediction",
        "",
        "Written by `reproduction/multiscale_gan_page.py` from [multiscale-gan.json](multiscale-gan.json), which the runs of",  # noqa: E501
        "`make acceptance` write: figures, protocol, command, seed, versions and hardware. Intervals are 95 %.",
        "",
        *OLDER_HEADLINE,
    ]
    for name, result in found["results"].items():
        lines += opening(name, result) + (code(result["command"]) if "command" in result else [])
        lines += _scores(result) + _table(result) + _film(name, result, folder) + machine(result)
    return text(lines)


def _scores(result: dict[str, Any]) -> list[str]:
    scores = result.get("scores")
    if not scores:
        return []
    protocol = scores["protocol"]
    lines = [
        f"{result['steps']:,} steps in {result['training_seconds'] / 60:.0f} minutes, seed {result['seed']}. "
        f"{protocol['clips']} clips of {protocol['videos']} held-out videos, {protocol['context']} context frames, "
        f"horizon {protocol['horizon']}, {protocol['height']}x{protocol['width']}. {protocol['split_rule']}",
        "",
    ]
    for metric, label in METRICS.items():
        if metric not in scores["headline"]:
            continue
        values = scores["headline"][metric]
        frames = list(next(iter(values.values())))
        digits = 3 if "ratio" in metric or metric == "ssim" else 2
        rows = (
            [name, *("–" if row[k] is None else f"{row[k]:.{digits}f}" for k in frames)] for name, row in values.items()
        )
        lines += table([label, *(f"frame {k}" for k in frames)], rows)
    return lines


def _table(result: dict[str, Any]) -> list[str]:
    values = result.get("table")
    if not values:
        return []
    columns = list(next(iter(values.values())))
    rows = ([loss, *(f"{row[c]['mean']:.3f} ± {row[c]['sd']:.3f}" for c in columns)] for loss, row in values.items())
    return [*table(["loss", *columns], rows), "Mean and standard deviation over seeds.", ""]


def _film(name: str, result: dict[str, Any], folder: Path) -> list[str]:
    film = result.get("film")
    if not film or not (folder / film).is_file():
        return []
    still = film.rsplit(".", 1)[0] + ".png"
    rows = result.get("rows", "truth, prediction, copy-last")
    return [f"![{rows}]({film})", "", f"![every eighth of the horizon]({still})", ""]


if __name__ == "__main__":
    rewrite("multiscale-gan", page)
