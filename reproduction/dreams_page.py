"""Writes docs/results/dreams.md from dreams.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduction.claims import RESULTS
from reproduction.pages import code, machine, opening, table, text

#: Facts of a result that are reported in a line, and what they are.
LABELS = {
    "reconstruction": "held-out frames, decoded from their codes",
    "blank": "squared error of a black frame",
    "centre_within_1px": "share of decoded balls within 1 px of the true place",
    "nll": "nats a held-out code",
    "temperature": "spread of one-step codes, at temperatures of",
    "norms": "length of a dream's codes over the data's, at step",
    "movement": "movement over the data's",
    "settled": "temperature settled on validation frames, movement there and on held-out frames",
    "flicker": "movement of decoded real frames over the data's, from their mean codes and from draws",
    "mean_code": "distance of the first imagined code from the mean of both ways' (1: either way's)",
    "detector": "sprites found in true frames, where there are none, and in an empty maze",
    "decoded": "sprites of held-out frames found in decoded ones",
    "dream": "sprites shown in a dream of 200 frames, and in the true game under the same actions",
    "moved": "shown sprites that are 2 px or more away after 10 frames, in the dream and in the game",
    "steering": "steering (what each share is of: `reproduction/dreams.py`, `steering`)",
}


def page(found: dict[str, Any]) -> str:
    """The page's text: a section a result with command, figures and film."""
    lines = [
        "# Results: dreams",
        "",
        "Written by `reproduction/dreams.py` from [dreams.json](dreams.json), which `make acceptance` makes:",
        "figures, command, seed, versions and hardware. One run each. Movement is the mean frame-to-frame change of",
        "dreams after their 20th frame over that of the data; squared errors are summed over a frame in 0…1.",
        "",
    ]
    for name, result in found["results"].items():
        lines += opening(name, result) + code(result["command"])
        lines += [
            f"{result['steps']:,} steps ({result['vision_steps']:,} of vision) in "
            f"{result['training_seconds'] / 60:.0f} minutes, seed {result['seed']}.",
            "",
        ]
        for key, label in LABELS.items():
            if key in result:
                row = result[key] if isinstance(result[key], dict) else {"": result[key]}
                facts = ", ".join(f"{k.replace('_', ' ')} {_number(v)}".strip() for k, v in row.items())
                lines.append(f"- {label}: {facts}")
        lines.append("")
        lines += _table("head", result.get("heads", {}))
        lines += _table("window", result.get("windows", {}))
        chosen = result.get("long", {})
        for head, rows in chosen.items() if "real" not in chosen else [("frame", chosen)]:
            lines += _table(f"long dream, {head}", rows)
        if (film := result.get("film")) and (RESULTS / film).is_file():
            lines += [f"![{name}]({film})", "", f"![{name}, frame by frame]({Path(film).with_suffix('.png')})", ""]
        lines += machine(result)
    return text(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _table(label: str, rows: dict[str, dict[str, float | None]]) -> list[str]:
    if not rows:
        return []
    columns = list(next(iter(rows.values())))
    head = [label, *(c.replace("_", " ") for c in columns)]
    return table(head, ([name, *(_number(row[c]) for c in columns)] for name, row in rows.items()))
