"""Every model on Ms. Pac-Man, each trained equally long: figures into docs/results/benchmark.json.

    python -m reproduction.benchmark                  record, train what is left, compare, write
    python -m reproduction.benchmark --shard 1/6      train a sixth of the runs only
    python -m reproduction.benchmark --dry-run        what would be trained, and how long it would take
    python -m reproduction.benchmark --remedies       what was tried where a family is below copy-last
    python -m reproduction.benchmark --leaders        a model of each family, ranked by skill: benchmark-leaders.json
    python -m reproduction.benchmark --sets --clip FILE
                              the same models on bouncing shapes, two further generated scenes and a filmed clip:
                              benchmark-sets.json

The clip is your own, and only figures of it are kept. A run that was stopped resumes, a finished
one is kept. The episodes of the comparison are held out from every run: `framecast benchmark` sees to it.
reproduction/autoencoders.py takes the fourteen's rows from the same runs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.evaluation.compare import compare
from framecast.reporting.benchmark_page import picture
from framecast.training.device import pick_device
from framecast.training.log import read_metrics
from framecast.training.run_folder import Run, open_run
from reproduction import claims
from reproduction.benchmark_page import OPPONENT, README, family_rows, page, with_table
from reproduction.direct import scene
from reproduction.first_frame import obstacles
from reproduction.results import RESULTS, ROOT, command, made, relative, stored

FILE = RESULTS / "benchmark.json"
WORK = ROOT / "runs" / "benchmark-pacman"
SIZE, HORIZON, CLIPS, BUDGET = "84x64", 64, 27, "4m"
#: A model of each family for the table that README leads with, of the autoencoders one of the best at every horizon;
#: and an opponent of `direct` in the style of SimVP.
LEADERS = (
    *(
        f"{name}:small"
        for name in (
            "direct",
            "multiscale-gan",
            "visual-dynamics",
            "c-lstm-ae",
            "dreams",
            "hierarchical",
            "categorical",
        )
    ),
    f"one-go={OPPONENT}",
)
#: Remedies for what stands in the way at the first frame: codes too coarse to draw sprites, a draw where the best guess
#: is asked for, as a residual on the frame five frames before.
REMEDIES = (
    "dreams-light-kl=dreams:narrow --model.kl-weight 0.01",
    "dreams-light-kl-128=dreams:narrow --model.kl-weight 0.01 --model.code-size 128",
    "visual-dynamics-heavy-kl=visual-dynamics:pairs --model.kl-weights 0 1",
    "visual-dynamics-heavy-kl-faster=visual-dynamics:pairs --model.kl-weights 0 1 --optim.lr 4e-3",
    "hierarchical-5-frames=hierarchical:narrow --model.future 3 --model.drawn 2 --model.alpha-delay 0",
    "hierarchical-2-ahead=hierarchical:narrow --model.future 2 --model.drawn 1 --model.alpha-delay 0",
    "c-vae-frame-by-frame=c-vae:small --model.shift 1",
    "c-vae-light-kl=c-vae:small --model.beta 0.01",
)
#: Reported frames of the horizon.
REPORTED = (1, 2, 4, 5, 8, 10, 16, 20, 32, 40, 60, 64)


def main() -> None:
    """Make the runs, then write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaders", action="store_true", help="a model of each family on the game, ranked by skill")
    parser.add_argument("--remedies", action="store_true", help="what helps those below copy-last at the first frame")
    parser.add_argument("--sets", action="store_true", help="the same on generated scenes and a filmed clip")
    parser.add_argument("--clip", type=Path, help="the filmed clip of --sets")
    parser.add_argument("--budget", default=BUDGET, help=f"training time of every run; {BUDGET}")
    parser.add_argument("--shard", help="1/6 trains the first of six parts and writes nothing")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], help="of --leaders and --sets; 0 1 2")
    parser.add_argument("--dry-run", action="store_true", help="say what would be trained")
    options = parser.parse_args()
    more = ["--shard", options.shard] if options.shard else []
    more += ["--dry-run"] if options.dry_run else []
    if options.sets:
        further_sets(options.clip or parser.error("--sets needs --clip FILE"), options.budget, options.seeds, more)
        return
    if options.leaders:
        leaders(options.budget, options.seeds, more)
        return
    if options.remedies:
        remedies(options.budget, more)
        return
    table = series(["all:small"], {"ms_pacman": recording("ms_pacman")}, WORK, options.budget, *more)
    if table is None:
        return
    write(table)
    print(f"benchmark: {relative(FILE)}, {relative(FILE.with_suffix('.md'))}")


def further_sets(clip: Path, budget: str, seeds: Sequence[str], more: Sequence[str]) -> None:
    """The families of `leaders` that need no palette, on generated scenes and on a filmed clip.

    All are scaled to 72x64, which the strides of all of them divide. Of pushing the actions are given, which dreams and
    hierarchical take without a flag.
    """
    folder = ROOT / "runs" / "benchmark-sets" / "data"
    data = {
        "bouncing": relative(made(folder / "bouncing", "bouncing", "--videos", "300", "--frames", "100")),
        **{name: relative(scene(name)) for name in ("walking", "pushing")},
    }
    scenes, sets = tuple(data), {name: f"{path} --size 72x64" for name, path in {**data, "clip": clip}.items()}
    models = [model for model in LEADERS if not model.startswith(("direct", "categorical", "one-go"))]
    models = ["direct=direct:small --model.use-actions", *models]
    # A clip is somebody's: its pictures stay with the runs.
    further("sets", models, sets, ["--budget", budget, "--seeds", *seeds, *more], scenes)


def leaders(budget: str, seeds: Sequence[str], more: Sequence[str]) -> None:
    """A model of each family on the game, and README's table. Runs of seed 0 are those of the large table, where it is
    there."""
    sets = {"ms_pacman": f"{relative(recording('ms_pacman'))} --size {SIZE}"}
    flags = ["--budget", budget, "--horizon", str(HORIZON), "--seeds", *seeds, *more]
    if found := further("leaders", LEADERS, sets, flags, ("ms_pacman",), WORK):
        README.write_text(with_table(README.read_text(encoding="utf-8"), found), encoding="utf-8")


def remedies(budget: str, more: Sequence[str]) -> None:
    """What was tried for families that are not above copy-last at the first frame of the game."""
    sets = {"ms_pacman": f"{relative(recording('ms_pacman'))} --size {SIZE}"}
    further("remedies", REMEDIES, sets, ["--budget", budget, "--horizon", str(HORIZON), *more], ("ms_pacman",))


def further(
    name: str,
    models: Sequence[str],
    sets: Mapping[str, str],
    flags: Sequence[str],
    pictures: Sequence[str],
    work: Path | None = None,
) -> dict[str, Any] | None:
    """A benchmark beside the large one: benchmark-NAME.json, its page, and pictures of some sets of data.

    Args:
        work: folder of the runs; of its own if not given.

    Returns:
        Its results as stored, or None while runs are left to others.
    """
    work, file = work or ROOT / "runs" / f"benchmark-{name}", FILE.with_name(f"benchmark-{name}.json")
    given = [f"{label}={text}" for label, text in sets.items()]
    if "--dry-run" not in flags:
        (work / "table.json").unlink(missing_ok=True)  # maybe of the other table with runs in this folder
    command(
        "benchmark",
        "--models",
        *models,
        "--data",
        *given,
        "--clips",
        str(CLIPS),
        *clock(),
        *flags,
        "--out",
        relative(work),
    )
    if "--dry-run" in flags or not (work / "table.json").is_file():
        return None
    text = json.dumps(brief(json.loads((work / "table.json").read_text(encoding="utf-8"))))
    for path in (Path(data.split(" --")[0]) for data in sets.values()):
        text = text.replace(str(path), path.name) if path.is_absolute() else text  # no path of this machine
    results: dict[str, Any] = json.loads(text)
    for data in pictures:
        shutil.copyfile(work / data / "strip.png", RESULTS / f"benchmark-{name}-{data}.png")
    results = stored(file, {"format": 1, "family": "benchmark", "results": results})["results"]
    file.with_suffix(".md").write_text(page(results, RESULTS, file.stem), encoding="utf-8")
    claims.write()
    print(f"benchmark: {relative(file)}, {relative(file.with_suffix('.md'))}")
    return results


def recording(game: str) -> Path:
    """A game at 60 frames a second with the console's memory: 90 episodes of 400 frames, nine of them held out."""
    length = ("--episodes", "90", "--max-frames", "400", "--ram", "--seed", "0")
    return made(WORK / "data" / game, "atari", "--game", game, *length, "--overwrite")


def clock() -> tuple[str, ...]:
    """The flags that count processor time, so that what else the machine does changes no row; none with a GPU, whose
    time it is not."""
    return ("--clock", "cpu") if pick_device().type == "cpu" else ()


def series(
    models: Sequence[str], data: Mapping[str, Path], out: Path, budget: str, *more: str, horizon: int = HORIZON
) -> dict[str, Any] | None:
    """`framecast benchmark` of models on sets of data, by label; its table, or None while runs are left to others."""
    sets = [f"{label}={relative(path)} --size {SIZE}" for label, path in data.items()]
    length = ["--budget", budget, *clock(), "--horizon", str(horizon), "--clips", str(CLIPS)]
    if "--dry-run" not in more:
        (out / "table.json").unlink(missing_ok=True)  # maybe of the other table with runs in this folder
    command("benchmark", "--models", *models, "--data", *sets, *length, "--out", relative(out), *more)
    if "--dry-run" in more or not (out / "table.json").is_file():
        return None
    table: dict[str, Any] = json.loads((out / "table.json").read_text(encoding="utf-8"))
    return table


def write(table: Mapping[str, Any], work: Path = WORK) -> None:
    """The result file, its page, strip and film, and the claims."""
    results = brief(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for data, found in results["data"].items():
        runs = {row["name"]: first_run(work / data, row) for row in found["rows"] if row["seeds"]}
        source, _ = open_data(next(iter(runs.values())).config.data)
        found["first_frame"] = obstacles(runs, source, found["protocol"]["clips"])
        found["training"] = {name: progress(run) for name, run in runs.items()}
        shutil.copyfile(work / data / "strip.png", RESULTS / f"benchmark-{data}.png")  # the film is 4 MB, and stays
        film({name: runs[name] for name in family_rows(found) if name in runs}, source, data)
    results = stored(FILE, {"format": 1, "family": "benchmark", "results": results})["results"]
    FILE.with_suffix(".md").write_text(page(results, RESULTS), encoding="utf-8")
    claims.write()


def film(runs: Mapping[str, Run], source: Source, data: str) -> None:
    """One clip as a member of every family sees it: a film, and a strip of its frames."""
    kept = compare([f"{name}={run.folder}" for name, run in runs.items()], source, clips=3, horizon=HORIZON, show=3)[1]
    with tempfile.TemporaryDirectory() as folder:
        picture(kept, list(runs), Path(folder), source.spec.fps)
        for name in ("strip.png", "film.webp"):
            shutil.copyfile(Path(folder) / name, RESULTS / f"benchmark-{data}-families{Path(name).suffix}")


def brief(table: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's table with curves at the reported frames only."""

    def at_reported(curves: Mapping[str, Any]) -> dict[str, Any]:
        return {
            metric: {
                str(k): [series[part][k - 1] for part in ("mean", "low", "high")]
                for k in REPORTED
                if k <= len(series["mean"]) and series["mean"][k - 1] is not None
            }
            for metric, series in curves.items()
        }

    results = {key: table[key] for key in ("version", "settings", "costs", "runs")} | {"data": {}}
    for data, found in table["data"].items():
        curves = ("by_frame", "to_copy_last_by_frame")
        rows = [{**row, **{name: at_reported(row[name]) for name in curves}} for row in found["rows"]]
        results["data"][data] = {**found, "rows": rows}
        if objects := found.get("objects"):
            lost = {name: at_reported(by_frame) for name, by_frame in objects["by_frame"].items()}
            results["data"][data]["objects"] = {**objects, "by_frame": lost}
    return results


def first_run(folder: Path, row: Mapping[str, Any]) -> Run:
    """A row's run of the first seed."""
    for path in sorted((folder / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if (result["label"], result["seed"]) == (row["name"], row["seeds"][0]):
            return open_run(folder / "runs" / path.stem)
    raise SystemExit(f"{folder}: no run of {row['name']}")


def progress(run: Run) -> dict[str, float | None]:
    """The loss on validation at half time and when the time was up: what still falls then was cut short."""
    log = read_metrics(run.folder)
    seen = [(r["seconds"], r["val/loss"], r["stage"]) for r in log if r.get("val/loss") is not None]
    last = max((r.get("seconds") or 0.0 for r in log), default=0.0)
    stages = {stage for *_, stage in seen}
    half = [loss for seconds, loss, _ in seen if seconds <= last / 2]
    alike = len(stages) == 1  # losses of different stages do not compare
    return {"half": half[-1] if half and alike else None, "end": seen[-1][1] if seen else None}


if __name__ == "__main__":
    main()
