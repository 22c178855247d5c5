"""The runs behind docs/results/compare.md: three forms of one model, baselines and another program on the same clips.

    python benchmarks/acceptance_compare.py                      both data sets; what is trained is kept
    python benchmarks/acceptance_compare.py --only bouncing      one of them: bouncing, ms_pacman
    python benchmarks/acceptance_compare.py --again              compare anew what is there

The other program is twenty lines of NumPy that know nothing of framecast: every pixel goes on as it last went. Pages
and screenshots stay with the runs; figures go into docs/results/compare.json and the page beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from acceptance import ROOT, WORK, circumstances, command, dumped, record, relative

RESULTS = ROOT / "docs" / "results"
FILE = RESULTS / "compare.json"
FORMS = {
    "plain": ["--model.no-adversarial"],
    "single-scale": ["--model.no-adversarial", "--model.num-scales", "1"],
    "adversarial": ["--model.adversarial"],
}
#: What is shown of a row, in its order.
SHOWN = ("moving_psnr", "psnr", "ssim", "sharpness_ratio")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["bouncing", "ms_pacman"], help="one data set instead of both")
    parser.add_argument("--steps", type=int, default=2_000, help="training steps of each form")
    parser.add_argument("--again", action="store_true", help="do finished parts anew")
    options = parser.parse_args()
    for name in [options.only] if options.only else ["bouncing", "ms_pacman"]:
        if name in load()["results"] and not options.again:
            print(f"{name}: done before", flush=True)
            continue
        found = {**part(name, options.steps), **circumstances()}
        done = load()
        done["results"][name] = found
        RESULTS.mkdir(parents=True, exist_ok=True)
        FILE.write_text(dumped(done), encoding="utf-8")
        (RESULTS / "compare.md").write_text(page(done), encoding="utf-8")
        print(f"{name}: {found['sentence']}", flush=True)


def load() -> dict[str, Any]:
    """The result file, or an empty one."""
    return json.loads(FILE.read_text()) if FILE.is_file() else {"format": 1, "family": "compare", "results": {}}


def part(name: str, steps: int) -> dict[str, Any]:
    """Train, write clips, let the other program forecast them, compare; then both halves of the videos apart."""
    data = record("ms_pacman", 4) if name == "ms_pacman" else bouncing()
    runs, trained = [], []
    for form, flags in FORMS.items():
        run = WORK / f"compare-{data.name}-{form}"
        words = ["train", "multiscale-gan", "--profile", "small", "--data", relative(data), "--out", relative(run)]
        words += ["--steps", str(steps), "--optim.decay-steps", str(steps), "--train.validate-every", "1000", *flags]
        trained.append(command(*words, "--quiet"))
        runs.append(f"{form}={relative(run)}")
    horizon, clips = ("64", "25") if name == "ms_pacman" else ("32", "36")
    out = WORK / f"compared-{name}"
    program = other_program(data, out / "clips", out / "forecasts", horizon, clips)
    rows = [*runs, f"linear={relative(program)}", *(["multiscale-gan-pacman"] if name == "ms_pacman" else [])]
    line = command("compare", *rows, "--data", relative(data), "--out", relative(out), "--horizon", horizon)
    whole = json.loads((out / "comparison.json").read_text())
    halves = []
    for half in ("1/2", "2/2"):
        place = out / half.replace("/", "-of-")
        command(
            *("compare", *runs, "--data", relative(data), "--out", relative(place), "--horizon", horizon),
            *("--clips", clips, "--part", half, "--show", "0", "--no-mmd"),
        )
        halves.append(json.loads((place / "comparison.json").read_text()))
    pictured = screenshot(out / "comparison.html", out / "comparison.png")
    return {
        "sentence": f"{whole['ranking'][0]['name']} comes first of {len(whole['ranking'])} rows; halves of the videos "
        + ("agree" if all(row["agree"] for row in agreement(*halves)) else "do NOT agree"),
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
        "halves": agreement(*halves),
        "browser": pictured,
    }


def bouncing() -> Path:
    """A hundred and twenty videos of shapes: twelve are held out."""
    data = WORK / "data" / "bouncing-compare"
    if not (data / "index.json").is_file():
        command("data", "make", "bouncing", "--videos", "120", "--frames", "64", "--out", relative(data))
    return data


def other_program(data: Path, clips: Path, out: Path, horizon: str, count: str) -> Path:
    """Forecasts by somebody who has the written clips and NumPy: brightness goes on as it last went, within 0…255."""
    shutil.rmtree(out, ignore_errors=True)
    command(
        *("data", "clips", "--data", relative(data), "--out", relative(clips), "--context", "4"),
        *("--horizon", horizon, "--clips", count, "--overwrite"),
    )
    out.mkdir(parents=True)
    manifest = json.loads((clips / "manifest.json").read_text())
    manifest["predictor"] = {"name": "linear extrapolation", "parameters": 0}
    (out / "manifest.json").write_text(json.dumps(manifest))
    for clip in manifest["clips"]:
        with np.load(clips / f"{clip['id']}.npz") as arrays:
            last, before = (arrays["context"][i].astype(np.int32) for i in (-1, -2))
        frames = [np.clip(last + k * (last - before), 0, 255) for k in range(1, manifest["horizon"] + 1)]
        np.savez_compressed(out / f"{clip['id']}.npz", prediction=np.stack(frames).astype(np.uint8))
    return out


def agreement(one: dict[str, Any], two: dict[str, Any]) -> list[dict[str, Any]]:
    """Per row the means of both halves by the ranking metric, and whether their intervals meet."""
    metric, out = one["rank_by"], []
    for name in one["means"]:
        a, b = (found["means"][name][metric] for found in (one, two))
        agree = a["low"] is None or b["low"] is None or (a["low"] <= b["high"] and b["low"] <= a["high"])
        out.append({"name": name, "first": a, "second": b, "agree": agree})
    return out


def screenshot(page: Path, picture: Path) -> dict[str, Any] | None:
    """What a browser did with the page: requests beside the page itself, and a picture of it; None without one."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.resolve().as_uri())
        tab.wait_for_load_state("networkidle")
        tab.screenshot(path=picture, full_page=True)
        browser.close()
    return {"requests": len([url for url in asked if not url.startswith("data:")]) - 1}


# ------------------------------------------------------------------------------------------------------------- the page


def page(done: dict[str, Any]) -> str:
    """The results as a page, from the file alone."""
    lines = [
        "# Results: comparisons",
        "",
        "Written by `benchmarks/acceptance_compare.py` from [compare.json](compare.json). Intervals are over videos.",
        "Three forms of the small multi-scale networks, briefly trained alike, both baselines, and another program's",
        "forecasts (linear extrapolation of every pixel).",
    ]
    for name, found in done["results"].items():
        lines += ["", f"## {name}", "", f"{found['sentence']}.", "", "```", found["command"], "```", ""]
        p = found["protocol"]
        lines += [
            f"{p['clips']} clips of {p['videos']} held-out videos, horizon {p['horizon']}, {p['height']}x{p['width']}.",
            "",
        ]
        lines += _table(found)
        if found["objects"]:
            lines += ["", *_objects(found)]
        lines += [
            "",
            "Halves of the videos, by the ranking metric:",
            "",
            "| row | first half | second half | intervals meet |",
        ]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {r['name']} | {_told(r['first'])} | {_told(r['second'])} | {'yes' if r['agree'] else 'no'} |"
            for r in found["halves"]
        ]
        if found["browser"] is not None:
            lines += ["", f"Chromium opened the page with {found['browser']['requests']} requests to anybody."]
        v, h = found["versions"], found["hardware"]
        lines += [
            "",
            f"framecast {v['framecast']} ({found['commit']}), torch {v['torch']}, {h['cpu']}, {found['date']}.",
        ]
    return "\n".join(lines) + "\n"


def _table(found: dict[str, Any]) -> list[str]:
    heads = [
        "#",
        "row",
        "PSNR, moving area [dB]",
        "to copy-last",
        "PSNR [dB]",
        "SSIM",
        "sharpness ratio",
        "rf-mmd",
        "frames/s",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in found["ranking"]:
        name, means = row["name"], found["means"][row["name"]]
        gain = "" if row["to_copy_last"] is None else f"{row['to_copy_last']['mean']:+.2f}"
        cells = [
            ("=" if row["tied"] else "") + str(row["rank"]),
            name,
            _told(means["moving_psnr"]),
            gain,
            f"{means['psnr']['mean']:.2f}",
            f"{means['ssim']['mean']:.3f}",
            f"{means['sharpness_ratio']['mean']:.3f}",
            f"{found['rf-mmd'][name]['value']:.4f}",
            f"{found['costs'][name]['frames_per_second']:,.0f}" if found["costs"][name]["frames_per_second"] else "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    floor = next(iter(found["rf-mmd"].values()))
    return [
        *lines,
        "",
        f"rf-mmd of real to other real clips at this n: {floor['floor']:.4f}; 95 % below {floor['floor_95']:.4f}.",
    ]


def _objects(found: dict[str, Any]) -> list[str]:
    names = [n for n in next(iter(found["objects"].values()))["found"]]
    names = [n for n in names if any(row["present"][n]["n"] for row in found["objects"].values())]
    lines = ["Things found near their true place, share of the frames where they are:", ""]
    lines += ["| row | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in found["ranking"]:
        means = found["objects"][row["name"]]["found"]
        cells = ("–" if means[n]["mean"] is None else f"{means[n]['mean']:.2f}" for n in names)
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    return lines


def _told(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    half = "" if found["low"] is None else f" ± {(found['high'] - found['low']) / 2:.2f}"
    return f"{found['mean']:.2f}{half}"


if __name__ == "__main__":
    main()
