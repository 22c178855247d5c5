"""Writes docs/results/generative-autoencoders.md from the .json beside it, and nothing else.

python benchmarks/autoencoders_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
FRAMES = ("1", "5", "10", "20", "60")
METRICS = {
    "moving_psnr": ("PSNR where something moves [dB]", 2),
    "psnr": ("PSNR [dB]", 2),
    "ssim": ("SSIM", 3),
    "ms_ssim": ("MS-SSIM", 3),
    "sharp_diff": ("Sharp Diff [dB]", 2),
    "sharpness_ratio": ("sharpness ratio, 1 as sharp as the truth", 3),
    "total_variation": ("total variation of the forecast", 0),
    "mae": ("MAE", 4),
    "mse": ("MSE", 5),
}
HEADS = {
    "small": "Profile `small`: drawn upon the newest frame known, 256 numbers",
    "default": "Profile `default` at 84x64: drawn from 30 numbers alone",
}


def page(found: dict[str, Any], folder: Path) -> str:
    """The page's text."""
    results = found["results"]
    lines = [
        "# Results: generative autoencoders",
        "",
        "Written by `benchmarks/autoencoders_page.py` from",
        "[generative-autoencoders.json](generative-autoencoders.json), which `make acceptance` fills part by part:",
        "figures, protocol, command, versions, hardware. Every run of a table had the same wall-clock budget on one",
        "core. Scored on a fresh recording of 16 episodes. Intervals are 95 %, over episodes.",
        "",
    ]
    for profile, head in HEADS.items():
        rows = {r["model"]: r for n, r in results.items() if r.get("profile") == profile and _main(n, r)}
        whole = results.get(f"{profile}-all")
        if rows:
            lines += [f"## {head}", "", *_series(rows, results), *(_whole(whole, folder) if whole else [])]
    lines += _options(results) + _games(results, folder) + _overfit(results)
    return "\n".join(lines).rstrip() + "\n"


def _main(name: str, row: dict[str, Any]) -> bool:
    return row.get("game") == "ms_pacman" and "option" not in row and name != "multiscale-gan"


def _series(rows: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """One line a model: how long it trained, and its scores five frames ahead with their intervals."""
    first = next(iter(rows.values()))
    minutes, protocol = first["training_seconds"] / 60, first["protocol"]
    lines = [
        f"Ms. Pac-Man at 60 frames a second, {minutes:.0f} minutes of training each, {protocol['clips']} clips of "
        f"{protocol['videos']} episodes, {protocol['height']}x{protocol['width']}. At five frames:",
        "",
        "| | steps | weights | PSNR [dB] | where something moves [dB] | SSIM | sharpness ratio "
        "| beats the temporal mean | beats copy-last where something moves |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    shown = {**rows, **({"multiscale-gan": results["multiscale-gan"]} if "multiscale-gan" in results else {})}
    for name, row in shown.items():
        lines.append(_line(name, row["table"][name], row["table"], f"{row['steps']:,}", f"{row['parameters']:,}"))
    for name in ("copy-last", "temporal-mean"):
        lines.append(_line(name, first["table"][name], None, "", ""))
    return [*lines, ""]


def _line(name: str, own: dict[str, Any], table: dict[str, Any] | None, steps: str, weights: str) -> str:
    cells = [_interval(own["psnr"]["5"], 2), _interval(own["moving_psnr"]["5"], 2)]
    cells += [_interval(own["ssim"]["5"], 3), _interval(own["sharpness_ratio"]["5"], 3)]
    beats = ["", ""]
    if table is not None:
        beats = [
            "yes" if own["psnr"]["5"][0] > table["temporal-mean"]["psnr"]["5"][0] else "no",
            "yes" if own["moving_psnr"]["5"][0] > table["copy-last"]["moving_psnr"]["5"][0] else "no",
        ]
    return f"| `{name}` | {steps} | {weights} | " + " | ".join([*cells, *beats]) + " |"


def _interval(values: list[float | None], digits: int) -> str:
    mean, low, high = values
    if mean is None:
        return "–"
    around = "" if low is None or high is None else f" ({low:.{digits}f} … {high:.{digits}f})"
    return f"{mean:.{digits}f}{around}"


def _whole(whole: dict[str, Any], folder: Path) -> list[str]:
    """All rows over the horizon, one table a metric, and what became of the claims."""
    lines = ["### All on the same clips, frame by frame", ""]
    order = [row["name"] for row in whole["ranking"]]
    for metric, (label, digits) in METRICS.items():
        if metric not in whole["table"][order[0]]:
            continue
        lines += [f"| {label} | " + " | ".join(f"+{k}" for k in FRAMES) + " |", "|---" * (len(FRAMES) + 1) + "|"]
        for name in order:
            cells = (_interval([whole["table"][name][metric][k][0], None, None], digits) for k in FRAMES)
            lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
        lines.append("")
    scales = whole["protocol"]["metrics"]["ms_ssim"]
    lines += [f"MS-SSIM: {scales}.", "", "### The published claims", ""]
    lines += ["Mean difference over the 60 frames, paired by clip.", ""]
    lines += ["| claim | metric | a | b | a − b | |", "|---|---|---|---|---|---|"]
    for metric, claims in whole["claims"].items():
        for claim, pairs in claims.items():
            for p in pairs:
                lines.append(
                    f"| {claim} | {METRICS[metric][0]} | `{p['a']}` | `{p['b']}` | "
                    f"{_interval([p['mean'], p['low'], p['high']], METRICS[metric][1])} | {_verdict(p)} |"
                )
    lines.append("")
    if (folder / whole["picture"]).is_file():
        lines += [f"![every model's forecast of one clip]({whole['picture']})", ""]
    return lines


def _verdict(pair: dict[str, Any]) -> str:
    if pair["low"] is None or pair["low"] <= 0 <= pair["high"]:
        return "not told apart"
    return "above" if pair["low"] > 0 else "below"


def _options(results: dict[str, Any]) -> list[str]:
    rows = [r for r in results.values() if "option" in r]
    if not rows:
        return []
    lines = ["## What the options buy", "", "`c-ae`, `default`, 84x64, the same budget. At five frames:", ""]
    lines += [
        "| | steps | PSNR [dB] | where something moves [dB] | SSIM | sharpness ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        own = row["table"][row["model"]]
        cells = [_interval(own["psnr"]["5"], 2), _interval(own["moving_psnr"]["5"], 2)]
        cells += [_interval(own["ssim"]["5"], 3), _interval(own["sharpness_ratio"]["5"], 3)]
        lines.append(f"| {row['option']} | {row['steps']:,} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _games(results: dict[str, Any], folder: Path) -> list[str]:
    rows = [r for r in results.values() if r.get("game") not in (None, "ms_pacman")]
    if not rows:
        return []
    lines = ["## The other games", "", "Profile `small`, the same budget. PSNR at five frames:", ""]
    lines += ["| game | model | whole frame [dB] | temporal mean | where something moves [dB] | copy-last |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in rows:
        own, table = row["table"][row["model"]], row["table"]
        lines.append(
            f"| {row['game']} | `{row['model']}` | {_interval(own['psnr']['5'], 2)} | "
            f"{_interval([table['temporal-mean']['psnr']['5'][0], None, None], 2)} | "
            f"{_interval(own['moving_psnr']['5'], 2)} | "
            f"{_interval([table['copy-last']['moving_psnr']['5'][0], None, None], 2)} |"
        )
    return [*lines, ""]


def _overfit(results: dict[str, Any]) -> list[str]:
    rows = [r for n, r in results.items() if n.startswith("overfit-")]
    if not rows:
        return []
    lines = ["## A hundred pairs by heart", "", "`default`, 42x32, the loss in eval mode:", ""]
    lines += ["| | at first | at last | steps | tenfold |", "|---|---|---|---|---|"]
    for r in rows:
        told = "yes" if r["tenfold"] else "no"
        lines.append(f"| `{r['model']}` | {r['first']:.4f} | {r['last']:.4f} | {r['steps']:,} | {told} |")
    return [*lines, ""]


if __name__ == "__main__":
    data = json.loads((RESULTS / "generative-autoencoders.json").read_text(encoding="utf-8"))
    (RESULTS / "generative-autoencoders.md").write_text(page(data, RESULTS), encoding="utf-8")
