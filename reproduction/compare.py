"""The runs behind docs/results/compare.md: three forms of one model, baselines and another program on the same clips.

    python -m reproduction.compare                      both data sets; what is trained is kept
    python -m reproduction.compare --only bouncing      one of them: bouncing, ms_pacman
    python -m reproduction.compare --again              compare existing runs again
    python -m reproduction.compare --as-they-are        with runs as far as they are trained

On Ms. Pac-Man the forms are runs of `acceptance.py --only claims`, beside the packaged weights, all on episodes that no
run saw. The other program is constant_velocity.py, which knows nothing of framecast. Pages and screenshots stay with
the runs; figures, one picture and one film of each comparison go into docs/results.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from framecast.evaluation.compare import compare
from framecast.evaluation.external import make_clips
from framecast.reporting.compare_page import write_comparison
from framecast.training.checkpoint import snapshots
from framecast.training.log import read_metrics
from reproduction.claims import OLDER_HEADLINE
from reproduction.pages import code, table
from reproduction.results import LOSSES, RESULTS, WORK, Results, arguments, command, made, record, relative, slug

#: Forms trained on bouncing, and losses of the claims taken on Ms. Pac-Man.
FORMS = {
    "plain": ["--model.no-adversarial"],
    "single-scale": ["--model.no-adversarial", "--model.num-scales", "1"],
    "adversarial": ["--model.adversarial"],
}
CLAIMED = ("l2", "l1", "adversarial+gdl")
#: What is shown of a row, in its order.
SHOWN = ("moving_psnr", "psnr", "ssim", "sharpness_ratio")


def main() -> None:
    """Run the parts asked for."""
    names = ("bouncing", "ms_pacman")
    parser = arguments(__doc__, names)
    parser.add_argument("--steps", type=int, default=1_000, help="training steps of each form on bouncing")
    parser.add_argument("--claim-steps", type=int, default=1_200, help="training steps of each claim's run")
    parser.add_argument("--horizon", type=int, default=16, help="frames to forecast")
    parser.add_argument("--as-they-are", action="store_true", help="train no run that has weights any further")
    options = parser.parse_args()
    Results("compare", page).parts({name: partial(part, name, options) for name in names}, options)


def part(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train, write clips, let the other program forecast them, compare; then both halves of the videos apart."""
    if name == "bouncing":
        data = scored = bouncing()
        split, clips, packaged = "test", 24, []
        forms = {f"compare-bouncing-{form}": (form, flags, options.steps) for form, flags in FORMS.items()}
    else:
        data, scored = record("ms_pacman", 4), fresh_episodes()
        split, clips, packaged = "all", 12, ["multiscale-gan-pacman"]
        forms = {f"claim-{slug(loss)}-0": (loss, LOSSES[loss], options.claim_steps) for loss in CLAIMED}
    rows, trained = [], []
    for place, (form, flags, steps) in forms.items():
        run = WORK / place
        words = ["train", "multiscale-gan", "--profile", "small", "--data", relative(data), "--out", relative(run)]
        words += ["--steps", str(steps), "--optim.decay-steps", str(steps), "--seed", "0", *flags]
        there = options.as_they_are and snapshots(run)
        trained.append(as_trained(run, words) if there else command(*words))
        rows.append(f"{slug(form)}={relative(run)}")
    rows += packaged
    line, whole = compared(name, rows, scored, split, options.horizon, clips)
    halves = [compared(name, rows, scored, split, options.horizon, clips // 2, h)[1] for h in ("1/2", "2/2")]
    agreed = agreement(*halves)
    return {
        "sentence": f"{whole['ranking'][0]['name']} comes first of {len(whole['ranking'])} rows; intervals of disjoint "
        f"halves of the videos meet in {sum(row['meet'] for row in agreed)} of {len(agreed)} rows",
        "training": trained,
        "command": line,
        "protocol": whole["protocol"],
        "ranking": whole["ranking"],
        "means": {row: {m: v[m] for m in SHOWN} for row, v in whole["means"].items()},
        "objects": None if whole["objects"] is None else whole["objects"]["means"],
        "rf-mmd": whole["sets"]["rf-mmd"]["rows"],
        "costs": whole["costs"],
        "rows": {
            n: {k: r[k] for k in ("parameters", "training_steps", "training_seconds")} for n, r in whole["rows"].items()
        },
        "halves": agreed,
        "half_protocols": [h["protocol"] for h in halves],
        "load": round(os.getloadavg()[1], 1) if hasattr(os, "getloadavg") else None,
        "browser": shown(WORK / f"compared-{name}" / "comparison.html", name),
    }


def as_trained(run: Path, words: list[str]) -> str:
    """The command whose run lies there, with the steps it was begun for and those it took."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    begun = {"--steps": config["train"]["steps"], "--optim.decay-steps": config["model"]["optim"]["decay_steps"]}
    for flag, value in begun.items():
        words[words.index(flag) + 1] = str(value)
    taken = read_metrics(run)[-1]["step"]
    return " ".join(["framecast", *words]) + ("" if taken == begun["--steps"] else f"  # stopped at step {taken:,}")


def bouncing() -> Path:
    """A hundred and twenty videos of shapes: twelve are held out."""
    return made(WORK / "data" / "bouncing-120", "bouncing", "--videos", "120", "--frames", "64")


def fresh_episodes() -> Path:
    """Twelve episodes of Ms. Pac-Man that no run saw, with the emulator's memory, which knows where things are."""
    words = ("--frame-skip", "4", "--episodes", "12", "--ram", "--max-frames", "120", "--seed", "1")
    return made(WORK / "data" / "ms_pacman-fresh", "atari", "--game", "ms_pacman", *words)


def compared(
    name: str, runs: list[str], data: Path, split: str, horizon: int, clips: int, half: str | None = None
) -> tuple[str, dict[str, Any]]:
    """The rows and the other program on clips of all videos, or of half of them: the command, and what it found."""
    out = WORK / f"compared-{name}" / (half or "").replace("/", "-of-")
    given, forecasts = out / "clips", out / "forecasts"
    make_clips(data, given, split=split, context=4, horizon=horizon, clips=clips, part=half, overwrite=True)
    shutil.rmtree(forecasts, ignore_errors=True)
    subprocess.run([sys.executable, Path(__file__).with_name("constant_velocity.py"), given, forecasts], check=True)
    rows = [*runs, f"constant-velocity={relative(forecasts)}"]
    line = f"framecast compare {' '.join(rows)} --data {relative(data)} --split {split} --out {relative(out)}"
    print(f"  {line}", flush=True)
    found, kept = compare(rows, data, split=split, horizon=horizon, out=out, show=0 if half else 3, mmd=half is None)
    if half is None:
        write_comparison(out, found, kept)
    return line, json.loads((out / "comparison.json").read_text())


def agreement(one: dict[str, Any], two: dict[str, Any]) -> list[dict[str, Any]]:
    """Per row the means of both halves by one metric, whether their intervals meet, and how far apart they are.

    apart: the difference of the means over the half-width of its interval, which is that of a difference of two
    independent means: at most 1 in 95 % of cases.
    """
    assert not {p["videos"] for p in (one["protocol"], two["protocol"])} & {0, 1}
    metric, out = "moving_psnr", []
    for name in one["means"]:
        a, b = (found["means"][name][metric] for found in (one, two))
        half = math.hypot(a["high"] - a["low"], b["high"] - b["low"]) / 2
        out.append(
            {
                "name": name,
                "first": a,
                "second": b,
                "meet": a["low"] <= b["high"] and b["low"] <= a["high"],
                "apart": abs(a["mean"] - b["mean"]) / half,
            }
        )
    return out


def shown(page: Path, name: str) -> dict[str, Any] | None:
    """What a browser did with the page: requests beside the page itself. None without a browser.

    A picture of the whole page stays beside it; that of its median clip and the clip's film go to docs/results.
    """
    film = re.findall(r'class="film" src="data:image/webp;base64,([^"]+)"', page.read_text(encoding="utf-8"))
    (RESULTS / f"compare-{name}.webp").write_bytes(base64.b64decode(film[len(film) // 2]))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        messages: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.goto(page.resolve().as_uri())
        tab.wait_for_load_state("networkidle")
        tab.screenshot(path=page.with_suffix(".png"), full_page=True)
        clips = tab.locator("article.clip")
        clips.nth(clips.count() // 2).screenshot(path=RESULTS / f"compare-{name}.png")
        browser.close()
    foreign = [url for url in asked if not url.startswith(("data:", page.resolve().as_uri()))]
    assert not foreign, f"{page} asked for {foreign}"
    return {"requests": len(foreign), "complaints": messages}


# ------------------------------------------------------------------------------------------------------------- the page


def page(done: dict[str, Any]) -> str:
    """The results as a page, from the file alone."""
    lines = [
        "# Results: comparisons",
        "",
        "Written by `reproduction/compare.py` from [compare.json](compare.json). Intervals are over videos.",
        "Three forms of the small multi-scale networks, briefly trained, both baselines, and the forecasts of",
        "another program, `reproduction/constant_velocity.py`, which knows nothing of framecast.",
        "",
        *OLDER_HEADLINE[:-1],
    ]
    for name, found in done["results"].items():
        lines += ["", f"## {name}", "", f"{found['sentence']}.", "", *code(found["command"])]
        p, (first, second) = found["protocol"], found["half_protocols"]
        lines += [
            f"{p['clips']} clips of {p['videos']} held-out videos, horizon {p['horizon']}, {p['height']}x{p['width']}.",
            "",
        ]
        lines += _table(found)
        if found["objects"]:
            lines += ["", *_objects(found)]
        lines += [
            "",
            f"The same on disjoint halves of the videos ({first['videos']} and {second['videos']}): PSNR of the"
            " moving area [dB], whether the intervals meet, and the difference over the half-width of its own interval"
            " (at most 1 in 95 % of cases where nothing differs).",
            "",
        ]
        halves = (
            (
                r["name"],
                _interval(r["first"]),
                _interval(r["second"]),
                "yes" if r["meet"] else "no",
                f"{r['apart']:.2f}",
            )
            for r in found["halves"]
        )
        lines += table(["row", "first half", "second half", "meet", "difference"], halves)
        lines += [f"![every row on the median clip](compare-{name}.png)", "", f"[As a film](compare-{name}.webp)"]
        if found["browser"] is not None:
            lines += ["", f"Chromium opened the page and made {found['browser']['requests']} requests."]
        v, h = found["versions"], found["hardware"]
        if found["load"] is not None and found["load"] > h["cores"]:
            lines += ["", f"Frames per second are low: the load was {found['load']} on {h['cores']} cores."]
        lines += [
            "",
            f"framecast {v['framecast']} ({found['commit']}), torch {v['torch']}, {h['cpu']}, {found['date']}.",
        ]
    return "\n".join(lines) + "\n"


def _table(found: dict[str, Any]) -> list[str]:
    heads = ["#", "row", "PSNR, moving area [dB]", "to copy-last", "PSNR [dB]", "SSIM", "sharpness ratio", "rf-mmd"]
    rows = []
    for row in found["ranking"]:
        name, means = row["name"], found["means"][row["name"]]
        gain = "" if row["to_copy_last"] is None else f"{row['to_copy_last']['mean']:+.2f}"
        cells = [
            ("=" if row["tied"] else "") + str(row["rank"]),
            name,
            _interval(means["moving_psnr"]),
            gain,
            f"{means['psnr']['mean']:.2f}",
            f"{means['ssim']['mean']:.3f}",
            f"{means['sharpness_ratio']['mean']:.3f}",
            f"{found['rf-mmd'][name]['value']:.4f}",
            f"{found['rows'][name]['training_steps'] or 0:,}",
            f"{found['costs'][name]['frames_per_second']:,.0f}" if found["costs"][name]["frames_per_second"] else "–",
        ]
        rows.append(cells)
    floor = next(iter(found["rf-mmd"].values()))
    return [
        *table([*heads, "steps", "frames/s"], rows),
        f"rf-mmd of real to other real clips at this n: {floor['floor']:.4f}; 95 % below {floor['floor_95']:.4f}.",
    ]


def _objects(found: dict[str, Any]) -> list[str]:
    names = [n for n in next(iter(found["objects"].values()))["found"]]
    names = [n for n in names if any(row["present"][n]["n"] for row in found["objects"].values())]
    lines = ["Things found near their true place, share of the frames where they are:", ""]
    means = {row["name"]: found["objects"][row["name"]]["found"] for row in found["ranking"]}
    rows = (
        [name, *("–" if own[n]["mean"] is None else f"{own[n]['mean']:.2f}" for n in names)]
        for name, own in means.items()
    )
    return [*lines, *table(["row", *names], rows)][:-1]


def _interval(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    half = "" if found["low"] is None else f" ± {(found['high'] - found['low']) / 2:.2f}"
    return f"{found['mean']:.2f}{half}"


if __name__ == "__main__":
    main()
