"""Writes docs/results/generative-autoencoders.md from the .json beside it, and nothing else.

python -m reproduction.autoencoders_page
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduction.claims import OLDER_HEADLINE
from reproduction.pages import rewrite, table, text

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
    return text([*lines, *_packaged(results.get("packaged-c-ae"))])


def _conditions(found: dict[str, Any]) -> str:
    """How long, on what, scored on what."""
    models, protocol = found["models"], found["protocol"]
    minutes = sum(m["training_seconds"] for m in models.values()) / len(models) / 60
    hardware = [m["hardware"] for m in models.values()]
    cores = sorted({min(h["cores"], h.get("torch_threads", h["cores"])) for h in hardware})
    clock = " (processor time)" if any("--train.clock cpu" in c for m in models.values() for c in m["commands"]) else ""
    return (
        f"{minutes:.0f} minutes of training each{clock} on {' or '.join(map(str, cores))} "
        f"core{'s' * (cores != [1])}; "
        f"{protocol['clips']} clips of {protocol['videos']} held-out episodes at {protocol['fps']:g} frames a second, "
        f"{protocol['height']}x{protocol['width']}."
    )


def _series(whole: dict[str, Any]) -> list[str]:
    """One line a model: how long it trained, and its scores five frames ahead with their intervals."""
    head = ["", "steps", "weights", "PSNR [dB]", "in the moving area [dB]", "SSIM", "sharpness ratio"]
    head += ["above the temporal mean", "to copy-last in the moving area [dB]"]
    mean, rows = whole["table"]["temporal-mean"]["psnr"]["5"][0], []
    for name in (row["name"] for row in whole["ranking"]):
        own, cells = whole["table"][name], [f"`{name}`", "", ""]
        if model := whole["models"].get(name):
            cells[1:] = [f"{model['steps']:,.0f}", f"{model['parameters']:,}"]
        cells += _at_five(own, "psnr", "moving_psnr", "ssim", "sharpness_ratio")
        cells += ["yes" if own["psnr"]["5"][0] > mean else "no", _gain(whole["gains"][name])] if model else ["", ""]
        rows.append(cells)
    lines = [f"Ms. Pac-Man. {_conditions(whole)} At five frames:", "", *table(head, rows)]
    return [*lines, "From best to worst by PSNR in the moving area over the whole horizon.", ""]


def _at_five(own: dict[str, Any], *metrics: str) -> list[str]:
    """Scores five frames ahead with their intervals."""
    return [_interval(own[m]["5"], METRICS[m][1]) for m in metrics]


def _gain(gains: dict[str, Any] | None) -> str:
    """To copy-last at five frames, paired, and what it means."""
    if gains is None:
        return ""
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
        curves = {name: whole["table"][name][metric] for name in order}
        rows = (
            [f"`{name}`", *(_interval([curve[k][0], None, None], digits) for k in FRAMES)]
            for name, curve in curves.items()
        )
        lines += table([label, *(f"+{k}" for k in FRAMES)], rows)
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
    rows = []
    for claim in next(iter(claims.values())):
        cells = [claim]
        for verdicts in ([_verdict(p) for p in by_claim[claim]] for by_claim in claims.values()):
            cells.append(f"{verdicts.count('above')} of {len(verdicts)} ({verdicts.count('below')})")
        rows.append(cells)
    lines += table(["claim", *(METRICS[m][0] for m in claims)], rows)
    pairs: dict[tuple[str, str], Any] = {}
    for p in (p for group in claims["moving_psnr"].values() for p in group):
        pairs.setdefault((p["a"], p["b"]), p)
    rows = [
        [f"`{a}`", f"`{b}`", _interval([p["mean"], p["low"], p["high"]], 2), _verdict(p)] for (a, b), p in pairs.items()
    ]
    return lines + table(["a", "b", "a − b in the moving area [dB]", ""], rows)


def _verdict(pair: dict[str, Any]) -> str:
    if pair["low"] is None or pair["low"] <= 0 <= pair["high"]:
        return "not distinguished"
    return "above" if pair["low"] > 0 else "below"


def _options(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    four = ("psnr", "moving_psnr", "ssim", "sharpness_ratio")
    rows = (
        (name, f"{model['steps']:,.0f}", *_at_five(found["table"][name], *four))
        for name, model in found["models"].items()
    )
    head = ["", "steps", "PSNR [dB]", "in the moving area [dB]", "SSIM", "sharpness ratio"]
    lines = ["## What the options buy", "", f"`c-ae`, `default`. {_conditions(found)} At five frames:", ""]
    return lines + table(head, rows)


def _games(found: dict[str, Any] | None, folder: Path) -> list[str]:
    if found is None:
        return []
    first = next(iter(found["games"].values()))
    lines = ["## The other games", "", f"Profile `small` of commit {found['commit']}. {_conditions(first)}", ""]
    rows = (
        (game, f"`{name}`", *_at_five(own, "psnr", "moving_psnr"), _gain(result["gains"].get(name)))
        for game, result in found["games"].items()
        for name, own in result["table"].items()
    )
    head = ["game", "", "whole frame [dB]", "in the moving area [dB]", "to copy-last in the moving area [dB]"]
    lines += ["PSNR at five frames:", "", *table(head, rows)]
    for game in found["games"]:
        if (folder / f"autoencoders-{game}.png").is_file():
            lines += [f"![{game}: truth and forecasts of one clip](autoencoders-{game}.png)", ""]
    return lines


def _packaged(row: dict[str, Any] | None) -> list[str]:
    """The run whose weights come with the package."""
    if row is None:
        return []
    shown = {name: row["table"][name] for name in (row["model"], "copy-last", "temporal-mean")}
    lines = ["## The packaged weights", "", f"`{row['command']}`: {row['steps']:,} steps. Scored on {row['split']}."]
    rows = ([f"`{name}`", *_at_five(scores, "psnr", "moving_psnr", "ssim")] for name, scores in shown.items())
    return [*lines, "", *table(["five frames ahead", "PSNR [dB]", "in the moving area [dB]", "SSIM"], rows)]


def _overfit(results: dict[str, Any]) -> list[str]:
    rows = [
        (
            *(f"`{r['model']}`", f"{r.get('seed', 0)}", f"{r['first']:.4f}", f"{r['last']:.4f}", f"{r['steps']:,}"),
            "yes" if r["tenfold"] else "no",
        )
        for n, r in results.items()
        if n.startswith("overfit-")
    ]
    if not rows:
        return []
    lines = ["## Overfitting a hundred pairs", "", "`default`, 42x32, the loss in eval mode:", ""]
    return lines + table(["", "seed", "at first", "at last", "steps", "tenfold"], rows)


if __name__ == "__main__":
    rewrite("generative-autoencoders", page)
