"""Writes docs/results/hierarchical.md from the .json beside it, and nothing else.

python -m reproduction.hierarchical_page
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduction.claims import RESULTS
from reproduction.pages import code, line, machine, opening, rewrite, text

#: The row of no forecast.
FIRST = "repeat the first frame"
#: What the rows of a strip of frames show, from the top.
ROWS = {
    "bouncing": "truth, prediction",
    "pushing": "truth, the forecast with its actions, with another clip's",
    "walking": "truth, `epva`, `e2e`, `epva-gan`, the first frame repeated",
}


def page(found: dict[str, Any], folder: Path = RESULTS) -> str:
    """The page's text; pictures are shown that lie in `folder`."""
    results = found["results"]
    lines = [
        "# Results: hierarchical long-term prediction",
        "",
        "Written by `reproduction/hierarchical_page.py` from [hierarchical.json](hierarchical.json), which",
        "`make acceptance` fills part by part: figures, commands, versions, hardware. All runs are of one seed, on",
        "profile `narrow` and generated scenes; scores are of scenes that training never saw, except for the part that",
        "tests overfitting.",
        "",
    ]
    heads = {
        "eight": "Overfitting on eight clips",
        "bouncing": "Bouncing shapes",
        "delay": "The weight of the encoding loss: at once or late",
        "pushing": "Pushing: do actions matter?",
        "walking": "Walking: is the person still there?",
    }
    writers = {"bouncing": _bouncing, "delay": _delay, "pushing": _pushing, "walking": _walking}  # others say all
    for name, head in heads.items():
        if part := results.get(name):
            rows = writers[name](part) if name in writers else []
            lines += opening(head, part) + _commands(part["training"]) + _replaced(name, part["training"]) + rows
            lines += _film(part, folder, ROWS.get(name, "")) + machine(part)
    return text(lines)


def _commands(runs: dict[str, dict[str, Any]]) -> list[str]:
    """What was run, one line each, and how long it took."""
    durations = [f"`{k}` {r['steps']:,} steps in {r['training_seconds'] / 60:.0f} minutes" for k, r in runs.items()]
    return [*code(*dict.fromkeys(r["command"] for r in runs.values())), f"{'; '.join(durations)}.", ""]


def _replaced(part: str, runs: dict[str, dict[str, Any]]) -> list[str]:
    """The one command of a chain, where its links were recorded as commands of their own."""
    if part != "bouncing" or len({r["command"] for r in runs.values()}) < 2:
        return []
    note = "These trainings are now the links of one profile, and one command trains all of them:"
    data = "runs/acceptance/data/bouncing-train --out runs/acceptance/hierarchical-bouncing"
    return [note, "", *code(f"framecast train hierarchical --profile bouncing --data {data}")]


def _film(part: dict[str, Any], folder: Path, rows: str) -> list[str]:
    """The strip of frames, which leads to the film, and what its rows are."""
    name = Path(part.get("film", "none")).stem
    if not (folder / f"{name}.png").is_file():
        return []
    return [f"From the top: {rows}.", "", f"[![strip of frames]({name}.png)]({part['film']})", ""]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [*map(line, [head, ["---"] * len(head), *rows]), ""]


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _bouncing(part: dict[str, Any]) -> list[str]:
    """Shares by frame of the forecast, short and long, beside frames drawn from true encodings."""
    kept = "kept" in part["short"]
    head = ["frame", "its colour", "another", "gone", *(["its kind"] if kept else []), "middle off by"]

    def at(label: str, kind: dict[str, Any], i: int) -> list[str]:
        away = kind["away_px"][i]
        shares = [_share(kind[k][i]) for k in ("correct", "wrong", "gone", *(["kept"] if kept else []))]
        return [label, *shares, "" if away is None else f"{away:.1f} px"]

    short, drawn, far = part["short"], part["reconstruction"], part["long"]
    last = len(short["correct"]) - 1
    rows = [at(f"{k + 1}", short, k) for k in (0, 3, 7, 15) if k <= last]
    rows.append(at(f"{last + 1}, drawn from its true encoding", drawn, len(drawn["correct"]) - 1))
    lines = [f"{short['trials']:,} clips, {part['context']} frames of context:", "", *_table(head, rows)]
    rows = [at(f"{k:,}", far, i) for i, k in enumerate(far["frames"])]
    return [*lines, f"{far['trials']} clips rolled out for 1,000 frames:", "", *_table(head, rows)]


def _delay(part: dict[str, Any]) -> list[str]:
    """How far encodings spread by step, and what they are worth for drawing."""
    head = ["step", *(f"{n}: {k}" for n in part["table"] for k in ("spread", "drawing error"))]
    steps = next(iter(part["table"].values()))["steps"]
    chosen = sorted({*range(0, len(steps), max(1, len(steps) // 6)), len(steps) - 1})
    rows = [
        [f"{steps[i]:,}", *(f"{v[k][i]:.3g}" for v in part["table"].values() for k in ("spread", "van_on_enc"))]
        for i in chosen
    ]
    return _table(head, rows)


def _pushing(part: dict[str, Any]) -> list[str]:
    """PSNR by frame of the horizon, and what actions and the forecast are worth, clip by clip."""
    every = [k for k in (1, 2, 4, 8, 16, 18)]
    rows = []
    for split, kinds in part["table"].items():
        for kind, curve in kinds.items():
            at = [f"{curve[k - 1]:.2f}" if k <= len(curve) else "" for k in every]
            rows.append([split.removeprefix("test/"), kind, *at, f"{sum(curve) / len(curve):.2f}"])
    lines = _table(["things", "actions", *(f"frame {k}" for k in every), "mean"], rows)
    rows = [
        [things, f"{gain['mean']:+.2f} dB ({gain['low']:+.2f} to {gain['high']:+.2f})"]
        + [f"{v['mean']:+.2f} ({v['low']:+.2f} to {v['high']:+.2f})" for v in part["recorded_minus"][things].values()]
        for things, gain in part["gain_over_first_frame"].items()
    ]
    others = [f"minus {k} actions" for k in next(iter(part["recorded_minus"].values()))]
    text = (
        "PSNR with the recorded actions minus others, mean over the horizon, clip by clip; 95 % intervals over clips,"
    )
    return [*lines, text, "each of a film of its own:", "", *_table(["things", f"minus {FIRST}", *others], rows)]


def _walking(part: dict[str, Any]) -> list[str]:
    """Presence, overlap, sharpness and PSNR at 32, 64 and the last frame; joints."""
    measures = {
        "present": "there, anywhere",
        "in_place": "there, where the truth is",
        "area": "area over the true one",
        "iou": "IoU",
        "mask_iou": "IoU of the mask",
        "mask_area": "area of the mask over a person's",
        "sharpness": "sharpness ratio",
        "person_sharpness": "sharpness ratio of the person it shows",
        "psnr": "PSNR [dB]",
    }
    lines = []
    for key, label in measures.items():
        rows = []
        for mode, row in part["table"].items():
            if key in row:
                shown = [f"{v:.3f}" if key != "psnr" else f"{v:.2f}" for v in row[key].values()]
                rows.append([f"`{mode}`" if " " not in mode else mode, *shown])
        frames = next(row[key] for row in part["table"].values() if key in row)
        lines += _table([label, *(f"frame {k}" for k in frames)], rows)
    probes = {mode: row["probe"] for mode, row in part["table"].items() if "probe" in row}
    names = {
        "encodings": "encodings",
        "second encoder": "an encoder that was not trained",
        "random projection": "as many random projections",
        "mean joint": "the mean joint",
    }
    used = [k for k in names if all(k in row for row in probes.values())]
    rows = [[f"`{mode}`", *(f"{row[k]:.4f}" for k in used)] for mode, row in probes.items()]
    head = ["error of 2-D joints, half frames, read off", *(names[k] for k in used)]
    gap = part["ten_minus_five"]
    gain = f"{gap['mean']:+.2f} dB ({gap['low']:+.2f} to {gap['high']:+.2f})"
    text = "PSNR of 122 frames forecast from ten frames minus from five, the predictor alone trained again"
    return [*lines, *_table(head, rows), f"{text}: {gain}, an interval over takes.", ""]


if __name__ == "__main__":
    rewrite("hierarchical", page)
