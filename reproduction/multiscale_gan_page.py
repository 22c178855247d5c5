"""Writes docs/results/multiscale-gan.md from docs/results/multiscale-gan.json, and nothing else.

python -m reproduction.multiscale_gan_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reproduction.claims import OLDER_HEADLINE, RESULTS

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
        lines += [f"## {name}", "", f"{result['sentence'][0].upper()}{result['sentence'][1:]}.", ""]
        if "command" in result:
            lines += ["```", result["command"], "```", ""]
        lines += _scores(result) + _table(result) + _film(name, result, folder) + [_circumstances(result), ""]
    return "\n".join(lines).rstrip() + "\n"


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
        table = scores["headline"][metric]
        frames = list(next(iter(table.values())))
        lines += [f"| {label} | " + " | ".join(f"frame {k}" for k in frames) + " |", "|---" * (len(frames) + 1) + "|"]
        for predictor, row in table.items():
            cells = (
                "–" if row[k] is None else f"{row[k]:.3f}" if "ratio" in metric or metric == "ssim" else f"{row[k]:.2f}"
                for k in frames
            )
            lines.append(f"| {predictor} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _table(result: dict[str, Any]) -> list[str]:
    table = result.get("table")
    if not table:
        return []
    columns = list(next(iter(table.values())))
    lines = ["| loss | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for loss, row in table.items():
        lines.append(f"| {loss} | " + " | ".join(f"{row[c]['mean']:.3f} ± {row[c]['sd']:.3f}" for c in columns) + " |")
    return [*lines, "", "Mean and standard deviation over seeds.", ""]


def _film(name: str, result: dict[str, Any], folder: Path) -> list[str]:
    film = result.get("film")
    if not film or not (folder / film).is_file():
        return []
    still = film.rsplit(".", 1)[0] + ".png"
    rows = result.get("rows", "truth, prediction, copy-last")
    return [f"![{rows}]({film})", "", f"![every eighth of the horizon]({still})", ""]


def _circumstances(result: dict[str, Any]) -> str:
    versions, hardware = result["versions"], result["hardware"]
    return (
        f"framecast {versions['framecast']} ({result['commit']}), torch {versions['torch']}, {hardware['cpu']}, "
        f"{hardware['cores']} core(s), {hardware['torch_threads']} torch thread(s), {result['date']}."
    )


if __name__ == "__main__":
    data = json.loads((RESULTS / "multiscale-gan.json").read_text())
    (RESULTS / "multiscale-gan.md").write_text(page(data, RESULTS), encoding="utf-8")
