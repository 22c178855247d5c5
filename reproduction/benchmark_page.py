"""Writes docs/results/benchmark.md, and the table that README leads with, from the .json beside it; nothing else.

python -m reproduction.benchmark_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framecast.core.config import length_in_words
from reproduction.claims import OLDER_HEADLINE, RESULTS, ROOT
from reproduction.pages import code, table, text

README = ROOT / "README.md"
#: Between these README has the table.
BEGIN, END = "<!-- table: benchmark -->", "<!-- end of table -->"
#: A model among the examples, in the style of SimVP, that predicts all frames in one go.
OPPONENT = "examples/models/one_go_convolutions.py:OneGo"
#: The families, by the models they have.
FAMILIES = {
    "multi-scale adversarial": ("multiscale-gan",),
    "cross convolutional": ("visual-dynamics",),
    "VAE and mixture-density RNN": ("dreams",),
    "hierarchical": ("hierarchical",),
    "direct multi-horizon": ("direct",),
    "classes of a palette": ("categorical",),
    "all frames in one go (an example)": (OPPONENT,),
}
#: By the name of a result file: its title, and the flag that makes it.
HEADS = {
    "benchmark": ("all models under one budget", ""),
    "benchmark-sets": ("a model of each family on further sets of data", " --sets --clip FILE"),
    "benchmark-leaders": ("a model of each family by skill", " --leaders"),
    "benchmark-remedies": ("what helps at the first frame", " --remedies"),
}
#: Of tables that were made before three profiles were renamed.
RENAMED = (
    "Profile `small` of `dreams` and `hierarchical` in it is the present `narrow`, that of `visual-dynamics` is",
    "`pairs`.",
    "",
)
BASELINES = ("copy-last", "temporal-mean", "linear-flow")
#: Metrics reported along the horizon: label and digits.
ALONG = {
    "moving_psnr": ("PSNR in the moving area [dB]", 2),
    "psnr": ("PSNR [dB]", 2),
    "ssim": ("SSIM", 3),
    "sharpness_ratio": ("sharpness ratio, 1 as sharp as the truth", 3),
}
FRAMES = ("1", "2", "5", "10", "20", "40", "64")


def page(results: Mapping[str, Any], folder: Path, stem: str = "benchmark") -> str:
    """The page's text. stem: of the result file and its pictures."""
    head, flag = HEADS[stem]
    lines = [
        f"# Results: {head}",
        "",
        f"Written by `reproduction/benchmark_page.py` from [{stem}.json]({stem}.json), which",
        f"`python -m reproduction.benchmark{flag}` makes with",
        "[`framecast benchmark`](../benchmark.md). Intervals are 95 %, over held-out videos; nothing was chosen on",
        "these.",
        "",
        *(() if all(d["rank_by"] == "skill" for d in results["data"].values()) else [*OLDER_HEADLINE, *RENAMED]),
    ]
    for data, found in results["data"].items():
        lines += [f"## {data}", "", *_conditions(results, data), *_picture(f"{stem}-{data}", folder)]
        lines += _ranked(results, data)
        lines += [*_along(found), *_things(found), *_first(found), *_commands(results, data)]
    return text(lines)


def _conditions(results: Mapping[str, Any], data: str) -> list[str]:
    found, settings = results["data"][data], results["settings"]
    p, runs = found["protocol"], results["runs"][data]
    places = sorted(
        {
            f"{_threads(r['hardware'])} of {r['hardware']['cpu']}"
            f"{'' if r['hardware']['device'] == 'cpu' else ' with ' + r['hardware']['device']}"
            for r in runs.values()
            if "hardware" in r
        }
    )
    length = length_in_words(settings["steps"], settings["budget"], settings.get("clock", "wall"))
    seeds = settings["seeds"]
    one = "one seed, so the intervals do not include the variation between seeds"
    variation = one if len(seeds) == 1 else f"{len(seeds)} seeds"
    lines = [
        f"{len(settings['models'])} models, each trained from scratch for {length} on {'; '.join(places)}; "
        f"{variation}. "
        f"{p['clips']} clips of {p['videos']} held-out videos, horizon {p['horizon']}, {p['height']}x{p['width']} at "
        f"{p['fps']:g} frames a second. {p['split_rule']}.".replace("..", "."),
        "",
    ]
    return [*lines, *(f"`{name}` failed: {fault}." for name, fault in found["failed"].items()), ""]


def _threads(hardware: Mapping[str, Any]) -> str:
    """What one training could use: its threads where they are known to be fewer than the cores."""
    kind, count = "core", hardware["cores"]
    if (threads := hardware.get("torch_threads", count)) < count:
        kind, count = "thread", threads
    return f"{count} {kind}{'s' * (count > 1)}"


def _picture(stem: str, folder: Path) -> list[str]:
    if not (folder / f"{stem}.png").is_file():
        return []
    link = f"[The film]({stem}.webp). " if (folder / f"{stem}.webp").is_file() else ""
    return [
        f"![truth and every model's forecast of one clip]({stem}.png)",
        "",
        f"{link}One clip for all.",
        "",
    ]


def _ranked(results: Mapping[str, Any], data: str) -> list[str]:
    found, costs = results["data"][data], results["costs"][data]
    if found["rank_by"] == "skill":
        return _by_skill(found, costs)
    things = found.get("objects")
    head = ["#", "model", "in the moving area [dB]", "gain", "gain at frame 1", "gain at frame 5", "PSNR [dB]", "SSIM"]
    head += [f"sharpness at {found['protocol']['horizon']}", *(["things found"] if things else []), "steps", "weights"]
    rows = []
    for row in found["rows"]:
        name, figures = row["name"], row["figures"]
        gains = row["to_copy_last_by_frame"].get("moving_psnr", {})
        late = row["by_frame"]["sharpness_ratio"].get(str(found["protocol"]["horizon"]))
        cells = [*_place(row), _of(figures["moving_psnr"], 2)]
        cells += [_of((row["to_copy_last"] or {}).get("moving_psnr"), 2, signed=True)]
        cells += [_cell(gains.get(k), 2, signed=True) for k in ("1", "5")]
        cells += [_of(figures["psnr"], 2), _of(figures["ssim"], 3), _cell(late, 3)]
        rows.append([*cells, *_found_and_cost(name, things, costs)])
    return [
        "Means over all frames of the horizon; “=” is not distinguished from the row above. Gains are to copy-last, "
        "in the moving area [dB].",
        "",
        *table(head, rows),
    ]


def _place(row: Mapping[str, Any]) -> list[str]:
    """Rank and name of a row."""
    return [f"{'= ' if row['tied'] else ''}{row['rank']}", f"`{row['name']}`"]


def _found_and_cost(name: str, things: Mapping[str, Any] | None, costs: Mapping[str, Any]) -> list[str]:
    """Share of objects found, where objects are known, then steps and number of weights."""
    found = [_of(things["rows"][name]["found"]["all"], 2)] if things else []
    cost = costs.get(name)
    return [*found, *(["", ""] if cost is None else [f"{cost['steps']:,.0f}", f"{cost['parameters']:,}"])]


def _by_skill(found: Mapping[str, Any], costs: Mapping[str, Any]) -> list[str]:
    last, things = str(found["protocol"]["horizon"]), found.get("objects")
    head = ["#", "model", "skill", "over the best baseline", "useful horizon", "skill at frame 1", f"at frame {last}"]
    head += ["gain in the moving area [dB]", "PSNR [dB]", f"sharpness at {last}", "unstable from frame"]
    head += [*(["things found"] if things else []), "steps", "weights"]
    rows = []
    for row in found["rows"]:
        name, figures, skill = row["name"], row["figures"], row["by_frame"]["skill"]
        cells = [*_place(row), _of(figures["skill"], 3, signed=True)]
        cells += [_of(figures["skill_best"], 3, signed=True), _guard(row, "useful_horizon")]
        cells += [_cell(skill.get(k), 3, signed=True) for k in ("1", last)]
        cells += [_of((row["to_copy_last"] or {}).get("moving_psnr"), 2, signed=True), _of(figures["psnr"], 2)]
        cells += [_cell(row["by_frame"]["sharpness_ratio"].get(last), 3), _guard(row, "unstable_from")]
        rows.append([*cells, *_found_and_cost(name, things, costs)])
    return [
        "Skill over copy-last on the whole frame, over all frames of the horizon; “=” is not distinguished from the "
        "row above. The gain is to copy-last.",
        "",
        *table(head, rows),
    ]


def _guard(row: Mapping[str, Any], name: str) -> str:
    """A frame number, or those of the seeds."""
    return " / ".join("–" if value is None else str(value) for value in row["guards"][name])


def _along(found: Mapping[str, Any]) -> list[str]:
    lines = ["### Frame by frame", ""]
    for metric, (label, digits) in ALONG.items():
        rows = {row["name"]: row["by_frame"].get(metric, {}) for row in found["rows"]}
        lines += _curves(label, rows, digits)
    return lines


def _curves(label: str, rows: Mapping[str, Mapping[str, Any]], digits: int) -> list[str]:
    shown = [k for k in FRAMES if any(k in curve for curve in rows.values())]
    cells = {name: [_cell(curve[k][:1] if k in curve else None, digits) for k in shown] for name, curve in rows.items()}
    return table([label, *(f"+{k}" for k in shown)], ([f"`{name}`", *own] for name, own in cells.items()))


def _things(found: Mapping[str, Any]) -> list[str]:
    """What is still there: by thing over the horizon, and all together frame by frame."""
    results = found.get("objects")
    if not results:
        return []
    order = [row["name"] for row in found["rows"]]
    lines = [
        *("### Object presence", ""),
        "Found by colour in truth and forecast alike; true places are the console's memory where it holds them.",
        "",
    ]
    found_near = {name: results["rows"][name]["found"] for name in order}
    shares = ([f"`{name}`", *(_of(own[thing], 2) for thing in results["things"])] for name, own in found_near.items())
    lines += table(["found near its true place, share of clips", *results["things"]], shares)
    return lines + _curves("all things found", {name: results["by_frame"][name]["found"] for name in order}, 2)


def _first(found: Mapping[str, Any]) -> list[str]:
    """Rows that do not beat copy-last at the first frame, and how their training stood when the time was up."""
    training = found.get("training", {})
    below: dict[str, list[str]] = {}
    for row in found["rows"]:
        gain = row["to_copy_last_by_frame"].get("moving_psnr", {}).get("1")
        if row["name"] in BASELINES or gain is None or (gain[1] is not None and gain[1] > 0):
            continue
        later = row["to_copy_last_by_frame"]["moving_psnr"]
        ahead = next((k for k, v in later.items() if v[1] is not None and v[1] > 0), "–")
        results = training.get(row["name"], {})
        half, last = results.get("half"), results.get("end")
        fall = "–" if not half or last is None else f"{(half - last) / abs(half):+.0%}"
        below[row["name"]] = [f"`{row['name']}`", _cell(gain, 2, signed=True), ahead, fall]
    if not below:
        return ["### The first frame", "", "Every model beats copy-last in the moving area.", ""]
    head = ["model", "gain at frame 1 [dB]", "first reported frame with a significant gain"]
    head += ["fall of the loss on validation in the second half"]
    return [
        *("### Not above copy-last at the first frame", ""),
        "In the moving area. What still fell in the second half of training was cut short by the budget.",
        "",
        *table(head, below.values()),
        *_obstacles(found, list(below)),
    ]


def _obstacles(found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Limits of some rows at the first frame; `first_frame.py` describes the measurements."""
    results = {name: found["first_frame"][name]["1"] for name in names if name in found.get("first_frame", {})}
    if not results:
        return []
    label = {
        "through its own code": "through its own latent",
        "the frame it is drawn upon": "base frame of the residual",
    }
    columns = [n for n in dict.fromkeys(n for row in results.values() for n in row) if n != "copy-last"]
    forecasts = {row["name"]: row["by_frame"]["moving_psnr"]["1"][0] for row in found["rows"]}
    rows = (
        [f"`{name}`", _cell([forecasts[name]], 2)]
        + [_cell([row[n]], 2) if n in row else "" for n in ("copy-last", *columns)]
        for name, row in results.items()
    )
    head = ["in the moving area at frame 1 [dB]", "forecast", "copy-last", *(label.get(c, c) for c in columns)]
    return [
        "Frames that need no foresight, scored like a forecast: the truth at the model's own size and back; the "
        "truth through the model's own latent; the base frame of residual prediction. Where such a frame is below "
        "copy-last, predicting better would not help.",
        "",
        *table(head, rows),
    ]


def _commands(results: Mapping[str, Any], data: str) -> list[str]:
    lines = []
    for name, run in results["runs"][data].items():
        done = "" if run.get("steps") is None else f"   # {name}: {run['steps']:,} steps in {run['seconds']:,.0f} s"
        lines.append(f"{run.get('command', name)}{done}")
    first = next(iter(results["runs"][data].values()))
    versions = ", ".join(f"{k} {v}" for k, v in first.get("versions", {}).items())
    return ["### Runs", "", *code(*lines), f"{versions}, {first.get('date', '')}.", ""]


def _of(found: Mapping[str, Any] | None, digits: int, signed: bool = False) -> str:
    """Of an interval as a table has it."""
    return "" if found is None else _cell([found["mean"], found["low"], found["high"]], digits, signed)


def _cell(values: Sequence[float | None] | None, digits: int, signed: bool = False) -> str:
    """Mean and half of its interval; only the mean where there is no more."""
    if not values or values[0] is None:
        return "–"
    mean = f"{values[0]:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    if len(values) < 3 or values[1] is None or values[2] is None:
        return mean
    return f"{mean} ± {(values[2] - values[1]) / 2:.{digits}f}"


def family_rows(found: Mapping[str, Any]) -> dict[str, str]:
    """Row -> family: the best row of every family by the order of the table; of the fourteen also the two that were
    called the best."""
    family_of = {model: family for family, models in FAMILIES.items() for model in models}
    chosen: dict[str, str] = {}
    for row in found["rows"]:
        if row["name"] in BASELINES:
            chosen[row["name"]] = "baseline"
            continue
        family = family_of.get(row["model"], "autoencoders")
        if family not in chosen.values() or row["model"] in ("c-gia-ae", "c-lstm-vae"):
            chosen[row["name"]] = family
    return chosen


def lead(results: Mapping[str, Any]) -> list[str]:
    """What README leads with: a row of every family on the first set of data, ranked by skill."""
    data, found = next(iter(results["data"].items()))
    p, settings = found["protocol"], results["settings"]
    last = str(p["horizon"])
    head = [f"{settings['budget']} of training each, {data}, {p['height']}x{p['width']}", "family"]
    head += [f"skill, {last} frames", "useful horizon", "skill at frame 1", f"at frame {last}"]
    head += ["gain in the moving area [dB]"]
    families, rows = family_rows(found), []
    for row in (row for row in found["rows"] if row["name"] in families):
        skill = row["by_frame"]["skill"]
        cells = [f"`{row['name']}`", families[row["name"]], _of(row["figures"]["skill"], 2, signed=True)]
        cells += [
            _guard(row, "useful_horizon"),
            *(_cell(skill.get(k, [None])[:1], 2, signed=True) for k in ("1", last)),
        ]
        rows.append([*cells, _of((row["to_copy_last"] or {}).get("moving_psnr"), 1, signed=True) or "–"])
    return [
        f"![{data}: one clip as every family sees it](docs/results/benchmark-leaders-{data}.png)",
        "",
        *table(head, rows),
        f"*Skill over the last frame repeated, on the whole frame, with 95 % intervals over {p['videos']} held-out "
        f"episodes{_and_seeds(settings['seeds'])}: 1 is perfect, 0 no better, below 0 worse. Useful horizon: frames up "
        f"to which the best baseline is beaten{', by seed' * (len(settings['seeds']) > 1)}. "
        "[Conditions, curves and commands](docs/results/benchmark-leaders.md).*",
    ]


def _and_seeds(seeds: Sequence[int]) -> str:
    return f" and {len(seeds)} seeds" if len(seeds) > 1 else ""


def with_table(text: str, results: Mapping[str, Any]) -> str:
    """README with the table in its place."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + "\n".join([BEGIN, *lead(results), END]) + after


if __name__ == "__main__":
    for stem in HEADS:
        if (file := RESULTS / f"{stem}.json").is_file():
            data = json.loads(file.read_text(encoding="utf-8"))["results"]
            file.with_suffix(".md").write_text(page(data, RESULTS, stem), encoding="utf-8")
        if stem == "benchmark-leaders":
            README.write_text(with_table(README.read_text(encoding="utf-8"), data), encoding="utf-8")
