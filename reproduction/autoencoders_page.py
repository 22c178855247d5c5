"""Writes docs/results/generative-autoencoders.md from the .json beside it, and nothing else.

python -m reproduction.autoencoders_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reproduction.claims import OLDER_HEADLINE, RESULTS

FRAMES = ("1", "5", "10", "20", "60")
METRICS = {
    "moving_psnr": ("PSNR in the moving area [dB]", 2),
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
    "small": "Profile `small`: residual prediction on the newest known frame, 256 numbers",
    "default": "Profile `default` at 84x64: drawn from 30 numbers alone",
}


def page(found: dict[str, Any], folder: Path) -> str:
    """The page's text."""
    results = found["results"]
    lines = [
        "# Results: generative autoencoders",
        "",
        "Written by `reproduction/autoencoders_page.py` from",
        "[generative-autoencoders.json](generative-autoencoders.json), which `make acceptance` fills part by part:",
        "figures, protocol, commands, versions, hardware. Models of a table were trained equally long and are scored",
        "on the same clips of held-out episodes. Intervals are 95 %, over episodes.",
        "",
        *OLDER_HEADLINE,
    ]
    for profile, head in HEADS.items():
        if whole := results.get(f"{profile}-all"):
            lines += [f"## {head}", "", *_series(whole), *_whole(whole, folder)]
    lines += _options(results.get("options")) + _games(results.get("games"), folder) + _overfit(results)
    return "\n".join([*lines, *_packaged(results.get("packaged-c-ae"))]).rstrip() + "\n"


def _conditions(found: dict[str, Any]) -> str:
    """How long, on what, scored on what."""
    models, protocol = found["models"], found["protocol"]
    minutes = sum(m["training_seconds"] for m in models.values()) / len(models) / 60
    cores = sorted({m["hardware"]["cores"] for m in models.values()})
    return (
        f"{minutes:.0f} minutes of training each on {' or '.join(map(str, cores))} core{'s' * (cores != [1])}; "
        f"{protocol['clips']} clips of {protocol['videos']} held-out episodes at {protocol['fps']:g} frames a second, "
        f"{protocol['height']}x{protocol['width']}."
    )


def _series(whole: dict[str, Any]) -> list[str]:
    """One line a model: how long it trained, and its scores five frames ahead with their intervals."""
    lines = [
        f"Ms. Pac-Man. {_conditions(whole)} At five frames:",
        "",
        "| | steps | weights | PSNR [dB] | in the moving area [dB] | SSIM | sharpness ratio "
        "| above the temporal mean | to copy-last in the moving area [dB] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    mean = whole["table"]["temporal-mean"]["psnr"]["5"][0]
    for row in whole["ranking"]:
        name, own = row["name"], whole["table"][row["name"]]
        cells = [f"`{name}`", "", ""]
        if model := whole["models"].get(name):
            cells[1:] = [f"{model['steps']:,.0f}", f"{model['parameters']:,}"]
        cells += [_interval(own[m]["5"], d) for m, d in (("psnr", 2), ("moving_psnr", 2), ("ssim", 3))]
        cells += [_interval(own["sharpness_ratio"]["5"], 3)]
        cells += ["yes" if own["psnr"]["5"][0] > mean else "no", _gain(whole["gains"][name])] if model else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", "From best to worst by PSNR in the moving area over the whole horizon.", ""]


def _gain(gains: dict[str, Any]) -> str:
    """To copy-last at five frames, paired, and what it means."""
    values = gains["moving_psnr"]["5"]
    return f"{_interval(values, 2)}, {_verdict(dict(zip(('mean', 'low', 'high'), values, strict=True)))}"


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
    lines += [f"MS-SSIM: {scales}.", "", *_claims(whole)]
    if (folder / whole["picture"]).is_file():
        lines += [f"![every model's forecast of one clip]({whole['picture']})", ""]
    return lines


def _claims(whole: dict[str, Any]) -> list[str]:
    """How many pairs differ as claimed, by every metric; the pairs themselves by PSNR in the moving area."""
    claims = whole["claims"]
    lines = ["### The published claims", "", "Mean differences over the horizon, paired by clip; in brackets the pairs"]
    lines += ["that differ the other way. The rest are not distinguished.", ""]
    lines += ["| claim | " + " | ".join(METRICS[m][0] for m in claims) + " |", "|---" * (len(claims) + 1) + "|"]
    for claim in next(iter(claims.values())):
        cells = []
        for rows in (by_claim[claim] for by_claim in claims.values()):
            verdicts = [_verdict(p) for p in rows]
            cells.append(f"{verdicts.count('above')} of {len(rows)} ({verdicts.count('below')})")
        lines.append(f"| {claim} | " + " | ".join(cells) + " |")
    lines += ["", "| a | b | a − b in the moving area [dB] | |", "|---|---|---|---|"]
    seen = set()
    for p in (p for rows in claims["moving_psnr"].values() for p in rows):
        if (p["a"], p["b"]) not in seen:
            seen.add((p["a"], p["b"]))
            cells = [f"`{p['a']}`", f"`{p['b']}`", _interval([p["mean"], p["low"], p["high"]], 2), _verdict(p)]
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _verdict(pair: dict[str, Any]) -> str:
    if pair["low"] is None or pair["low"] <= 0 <= pair["high"]:
        return "not distinguished"
    return "above" if pair["low"] > 0 else "below"


def _options(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    lines = ["## What the options buy", "", f"`c-ae`, `default`. {_conditions(found)} At five frames:", ""]
    lines += [
        "| | steps | PSNR [dB] | in the moving area [dB] | SSIM | sharpness ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, model in found["models"].items():
        own = found["table"][name]
        cells = [_interval(own["psnr"]["5"], 2), _interval(own["moving_psnr"]["5"], 2)]
        cells += [_interval(own["ssim"]["5"], 3), _interval(own["sharpness_ratio"]["5"], 3)]
        lines.append(f"| {name} | {model['steps']:,.0f} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _games(found: dict[str, Any] | None, folder: Path) -> list[str]:
    if found is None:
        return []
    first = next(iter(found["games"].values()))
    lines = ["## The other games", "", f"Profile `small` of commit {found['commit']}. {_conditions(first)}", ""]
    lines += ["PSNR at five frames:", ""]
    lines += ["| game | | whole frame [dB] | in the moving area [dB] | to copy-last in the moving area [dB] |"]
    lines += ["|---|---|---|---|---|"]
    for game, result in found["games"].items():
        for name, own in result["table"].items():
            cells = [_interval(own["psnr"]["5"], 2), _interval(own["moving_psnr"]["5"], 2)]
            cells += [_gain(result["gains"][name]) if name in result["gains"] else ""]
            lines.append(f"| {game} | `{name}` | " + " | ".join(cells) + " |")
    lines.append("")
    for game in found["games"]:
        if (folder / f"autoencoders-{game}.png").is_file():
            lines += [f"![{game}: truth and forecasts of one clip](autoencoders-{game}.png)", ""]
    return lines


def _packaged(row: dict[str, Any] | None) -> list[str]:
    """The run whose weights come with the package."""
    if row is None:
        return []
    own, table = row["table"][row["model"]], row["table"]
    shown = {row["model"]: own, **{name: table[name] for name in ("copy-last", "temporal-mean")}}
    lines = ["## The packaged weights", "", f"`{row['command']}`: {row['steps']:,} steps. Scored on {row['split']}."]
    lines += ["", "| five frames ahead | PSNR [dB] | in the moving area [dB] | SSIM |", "|---|---|---|---|"]
    for name, scores in shown.items():
        cells = (_interval(scores[m]["5"], d) for m, d in (("psnr", 2), ("moving_psnr", 2), ("ssim", 3)))
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _overfit(results: dict[str, Any]) -> list[str]:
    rows = [r for n, r in results.items() if n.startswith("overfit-")]
    if not rows:
        return []
    lines = ["## Overfitting a hundred pairs", "", "`default`, 42x32, the loss in eval mode:", ""]
    lines += ["| | seed | at first | at last | steps | tenfold |", "|---|---|---|---|---|---|"]
    for r in rows:
        reached = "yes" if r["tenfold"] else "no"
        seed, fall = r.get("seed", 0), f"{r['first']:.4f} | {r['last']:.4f}"
        lines.append(f"| `{r['model']}` | {seed} | {fall} | {r['steps']:,} | {reached} |")
    return [*lines, ""]


if __name__ == "__main__":
    data = json.loads((RESULTS / "generative-autoencoders.json").read_text(encoding="utf-8"))
    (RESULTS / "generative-autoencoders.md").write_text(page(data, RESULTS), encoding="utf-8")
