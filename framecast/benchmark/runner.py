"""Benchmark runner: models trained from scratch for the same length, one after another, compared on the same clips.

Each run is a separate process (`job.py`) that writes a result file beside its run folder: the same command resumes a
killed benchmark, and shards of other machines are merged by copying files.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import framecast
from framecast.benchmark.job import finished, state_of
from framecast.benchmark.plan import (
    DataEntry,
    Plan,
    Trial,
    read_data,
    read_entries,
    read_plan,
    read_shard,
    refuse_other,
)
from framecast.benchmark.table import make_table, write_table
from framecast.core.commit import LEASE, check_target, replaced_folder
from framecast.core.config import duration_in_words, parse_duration
from framecast.core.errors import UserError, writing
from framecast.core.io import read_file, write_json
from framecast.core.jobs import Job, run_jobs
from framecast.data.base import Source
from framecast.data.cache import open_data
from framecast.data.digest import data_digest, same_data
from framecast.data.options import DataConfig
from framecast.evaluation.compare import compare
from framecast.models.registry import find_model
from framecast.reporting.benchmark_page import picture, write_benchmark
from framecast.reporting.compare_page import write_comparison
from framecast.training.device import Device, make_device
from framecast.training.run_folder import open_run
from framecast.training.signals import Interrupted, Signals
from framecast.training.step import NotFinite
from framecast.training.train import try_out

#: File with the inputs of a comparison, which is repeated only if they change.
ASKED = "asked.json"


def run_benchmark(
    models: str | Sequence[str] = (),
    data: str | Path | Sequence[str | Path] = (),
    *,
    budget: str | None = None,
    steps: int | None = None,
    seeds: int | Sequence[int] = (0,),
    out: str | Path = "benchmark",
    shard: str | None = None,
    merge: Sequence[str | Path] = (),
    split: str | None = None,
    context: int | None = None,
    horizon: int | None = None,
    samples: int = 1,
    clips: int | None = None,
    rank_by: str | None = None,
    show: int = 3,
    device: str = "auto",
    precision: str = "auto",
    clock: str = "wall",
    cluster: str | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> dict[str, Any] | None:
    """Benchmark table of every model trained on all data from every seed for the same length; resumes when repeated.

    Args:
        models: NAME, NAME:PROFILE or "[LABEL=]NAME[:PROFILE] --flags of framecast train"; "all:small" is every model.
        data: path, name of a source, or "[LABEL=]PATH --size 64x64".
        budget: training time of each run, such as 4m.
        steps: optimiser steps of each run, instead of `budget`.
        seeds: random seeds of weights and batches.
        out: folder of runs, results and tables (see docs/benchmark.md).
        shard: "1/3" trains every third run only.
        merge: output folders of shards to merge; they determine models, data and length.
        split, context, horizon, samples, clips, rank_by, show: protocol of the comparison, as in `compare`.
        device, precision: torch device and autocast precision.
        clock: time that `budget` counts: "wall", or "cpu" for the processor time of each run.
        cluster: "auto" or the address of a Ray cluster that trains the runs, one GPU each where `device` is one; `out`
            and the data must be on a disk that its nodes share.
        dry_run: only report the runs and their expected duration.
        quiet: no progress messages.

    Returns:
        The table as in table.json; None while runs of other shards are missing, and after a dry run.

    Raises:
        UserError: bad input, or a run cannot be created.
        Interrupted: stopped by a signal; everything is saved.
    """
    out = Path(out)
    if out.is_file():
        raise UserError(f"{out}: is a file; --out must be a folder")
    part, parts = read_shard(shard)
    place = make_device(device, precision=precision)
    texts = _texts(data)
    plan = _merged([Path(m) for m in merge], out, texts) if merge else None
    plan = plan or make_plan(_texts(models), texts, budget, steps, seeds, precision, clock)
    _check_sizes(plan.trials(out))
    plan, sources = _opened(plan, known=bool(merge))
    trials = plan.trials(out)
    _check_results(trials)
    mine = [] if merge else trials[part - 1 :: parts]
    left = [t for t in mine if not finished(t.result)]
    _say(_outlook(plan, mine, left, _tried(left, sources, plan, place)), quiet or not mine)
    if dry_run:
        return None
    if not merge:
        plan.save(_made(out))
    if cluster is None:
        _train_all(left, device, quiet)
    else:
        _train_on_cluster(left, device, quiet, cluster, 1 if place.device.type == "cuda" else 0)
    if not _all_done(trials, bool(merge), quiet):
        return None
    settings: dict[str, Any] = {"split": split, "context": context, "horizon": horizon, "samples": samples}
    settings |= {"clips": clips, "rank_by": rank_by, "show": show}
    return _tabulated(plan, trials, out, settings, place, quiet)


def _train_all(left: Sequence[Trial], device: str, quiet: bool) -> None:
    """Train runs one after another until a signal arrives."""
    with Signals() as signals:
        for number, trial in enumerate(left):
            _say(f"run {number + 1} of {len(left)}: {trial.row} on {trial.data.label}", quiet)
            _run(trial, signals, device, quiet)


def _train_on_cluster(left: Sequence[Trial], device: str, quiet: bool, cluster: str, gpus: int) -> None:
    """Train runs on the nodes of a Ray cluster, which repeats those of a lost node from their last checkpoint."""
    for trial in left:
        _made(trial.result.parent)
    jobs = [
        Job("framecast.benchmark.job:on_node", {"job": _job(trial, device, True), "folder": os.getcwd()})
        for trial in left
    ]

    def report(number: int, code: int) -> None:
        done.append(number)
        _say(f"run {len(done)} of {len(left)} done: {left[number].row} on {left[number].data.label}", quiet)
        _judge(left[number], code, quiet)

    done: list[int] = []
    run_jobs(jobs, cluster=cluster, done=report, gpus=gpus)


def _all_done(trials: Sequence[Trial], merged: bool, quiet: bool) -> bool:
    """Whether every run finished or failed.

    Raises:
        UserError: runs are missing after a merge.
    """
    missing = [t.name for t in trials if state_of(t.result) not in ("finished", "failed")]
    if missing and merged:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UserError(f"{len(missing)} of {len(trials)} runs are missing ({names}); merge the shards that hold them")
    if missing:
        _say(f"shard finished; {len(missing)} of {len(trials)} runs belong to other shards: use --merge", quiet)
    return not missing


def _tabulated(
    plan: Plan, trials: Sequence[Trial], out: Path, settings: Mapping[str, Any], place: Device, quiet: bool
) -> dict[str, Any]:
    """The table of finished runs, written with the comparison of each data set."""
    for entry in plan.data:
        own = [t for t in trials if t.data == entry and finished(t.result)]
        if not own:
            fault = read_file(next(t for t in trials if t.data == entry).result).get("fault")
            raise UserError(f"no run on {entry.label} finished; error of the first: {fault}")
        _compared(out / entry.label, entry, own, plan, settings, place, quiet)
    table = make_table(plan, trials, out)
    write_table(out, table)
    write_benchmark(out, table)
    return table


def make_plan(
    models: Sequence[str],
    data: Sequence[str],
    budget: str | None,
    steps: int | None,
    seeds: int | Sequence[int],
    precision: str = "auto",
    clock: str = "wall",
) -> Plan:
    """Plan of a benchmark, checked as far as possible without opening data.

    Args:
        models, data: See `run_benchmark`.
        budget: Training time of each run, such as 4m.
        steps: Optimiser steps of each run, instead of `budget`.
        seeds: One random seed or several.
        precision: Autocast precision.
        clock: Time that `budget` counts, "wall" or "cpu".

    Raises:
        UserError: Unknown models, profiles or flags, or an invalid length.
    """
    if (budget is None) == (steps is None):
        raise UserError("length of training missing or given twice: use either --budget 4m or --steps N")
    if steps is not None and steps < 1:
        raise UserError(f"--steps must be at least 1, got {steps}")
    chosen = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError("--seeds must be different numbers, such as 0 1 2")
    if budget is not None:
        parse_duration(budget)
    if clock not in ("wall", "cpu"):
        raise UserError(f"--clock {clock}: is unknown; use wall or cpu")
    if steps is not None and clock != "wall":
        raise UserError(f"--clock {clock} counts the time of --budget; use --budget in place of --steps, or no --clock")
    return Plan(
        entries=read_entries(models),
        data=read_data(data),
        seeds=chosen,
        steps=steps,
        budget=budget,
        precision=precision,
        clock=clock,
    )


def _texts(given: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(given)] if isinstance(given, str | Path) else [str(g) for g in given]


def _made(folder: Path) -> Path:
    with writing(folder, failed="cannot be created"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


# ----------------------------------------------------------------------------------------------- checks before a run


def _opened(plan: Plan, known: bool) -> tuple[Plan, dict[str, tuple[Source, DataConfig]]]:
    """Plan with the digests of all data, and label -> opened data (decoded into the cache if needed).

    Args:
        plan: Plan of the benchmark.
        known: Whether the plan has digests, which the data must match.
    """
    sources: dict[str, tuple[Source, DataConfig]] = {}
    entries: list[DataEntry] = []
    for entry in plan.data:
        trial = next(t for t in plan.trials(Path()) if t.data == entry)
        sources[entry.label] = open_data(trial.config.data)
        digest = data_digest(sources[entry.label][0])
        if known and not same_data(entry.digest, digest):
            raise UserError(
                f"--data {entry.path}: differs from the data that the runs were trained on; use the original "
                f"{entry.label}"
            )
        entries.append(dataclasses.replace(entry, digest=entry.digest if known else digest))
    return dataclasses.replace(plan, data=tuple(entries)), sources


def _check_sizes(trials: Sequence[Trial]) -> None:
    """Raise UserError if models would train on frames of different sizes."""
    for data in {t.data.label: t.data for t in trials}.values():
        sizes = {t.config.data.size: t.entry.label for t in trials if t.data == data}
        if len(sizes) > 1:
            given = " and ".join(f"{label} {f'of {size}' if size else 'as stored'}" for size, label in sizes.items())
            raise UserError(
                f"--data {data.path}: the models take frames of different sizes ({given}); give one size for all "
                f'after the path, e.g. --data "{data.path} --size {next(s for s in sizes if s)}"'
            )


def _check_results(trials: Sequence[Trial]) -> None:
    """Raise UserError if the output folder has runs of the same names with other settings."""
    for trial in trials:
        if trial.result.is_file():
            there = read_file(trial.result).get("settings", {})
            refuse_other(trial.settings, there, f"{trial.run}", "choose another --out")


def _tried(
    left: Sequence[Trial],
    sources: Mapping[str, tuple[Source, DataConfig]],
    plan: Plan,
    place: Device,
) -> dict[str, float]:
    """Run -> seconds of one training step, of all unfinished runs; UserError for one that cannot be trained."""
    found: dict[tuple[str, str], float] = {}
    for trial in left:
        key = (trial.data.label, trial.entry.label)
        if key in found:
            continue
        source, data = sources[trial.data.label]
        config = dataclasses.replace(trial.config, data=data)
        try:
            found[key] = try_out(config, source, find_model(trial.entry.model), place)
        except NotFinite:
            found[key] = 0.0  # its own run reports the error, and the others are trained
        except UserError as error:
            raise UserError(f"{trial.entry.label} on {trial.data.label}: {error}") from error
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()
        if plan.seconds is not None and found[key] > plan.seconds:
            raise UserError(
                f"--budget {plan.budget}: is too short for one step of {trial.entry.label}, which takes "
                f"{found[key]:.2g} s here; use a longer one, a smaller profile or a smaller --size"
            )
    return {t.name + t.data.label: found[t.data.label, t.entry.label] for t in left}


def _outlook(plan: Plan, mine: Sequence[Trial], left: Sequence[Trial], seconds: Mapping[str, float]) -> str:
    """Number of runs and expected duration as text."""
    counts = [(len(plan.entries), "model"), (len(plan.data), "set"), (len(plan.seeds), "seed")]
    contents = ", ".join(f"{n} {'sets of data' if w == 'set' and n > 1 else w + 's' * (n > 1)}" for n, w in counts)
    contents = contents.replace("1 set,", "1 set of data,")
    text = f"{len(mine)} {'run' if len(mine) == 1 else 'runs'} of {plan.length} ({contents})"
    if len(left) < len(mine):
        text += f", {len(mine) - len(left)} done before"
    if not left:
        return f"{text}; what is left is the comparison"
    whole = sum((plan.seconds or 0.0) if plan.steps is None else plan.steps * s for s in seconds.values())
    end = time.strftime("%a %H:%M", time.localtime(time.time() + whole))
    return f"{text}: training takes about {duration_in_words(whole)}, until {end}; the comparison comes after it"


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------------------------------- training


def _run(trial: Trial, signals: Signals, device: str, quiet: bool) -> None:
    """Train one run in a separate process and wait for its end."""
    _made(trial.result.parent)
    code = _start(_job(trial, device, quiet), signals)
    _stop(signals)
    if code in (130, 143):
        raise Interrupted(code)
    _judge(trial, code, quiet)


def _job(trial: Trial, device: str, quiet: bool) -> dict[str, Any]:
    """What `job.py` needs to know of a run, as plain data."""
    return {
        "row": trial.row,
        "label": trial.entry.label,
        "model": trial.entry.model,
        "profile": trial.entry.profile,
        "seed": trial.seed,
        "command": trial.command,
        "settings": trial.settings,
        "words": list(trial.words),
        "run": str(trial.run),
        "result": str(trial.result),
        "device": device,
        "quiet": quiet,
    }


def _judge(trial: Trial, code: int, quiet: bool) -> None:
    """Report the failure of a run.

    A loss that is not finite is recorded in its result file, and the others continue; bad input ends the benchmark.
    """
    if code == 0:
        return
    fault = read_file(trial.result).get("fault") if trial.result.is_file() else None
    if code == 2:
        raise UserError(str(fault))
    if fault is None:  # killed from outside, without a result
        raise UserError(f"{trial.run}: its process was killed (code {code}); repeat the command to resume")
    _say(f"{trial.row}: {fault}; continuing with the other runs", quiet)


def _start(job: Mapping[str, Any], signals: Signals) -> int:
    """Exit code of a process that runs the job; a signal to this process stops it, with a checkpoint."""
    # -P: a file random.py or json.py in the current folder is not imported in place of the standard library's
    command = [sys.executable, "-P", "-m", "framecast.benchmark.job", json.dumps(job)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        while process.poll() is None:
            if signals.number and not process.stdin.closed:
                process.stdin.close()  # the job saves a checkpoint and ends
            time.sleep(0.1)
    return process.returncode


def _stop(signals: Signals) -> None:
    if signals.number:
        print("stopped; repeat the command to resume", file=sys.stderr)
        raise Interrupted(128 + signals.number)


# ---------------------------------------------------------------------------------------------------------- merging


def _merged(folders: Sequence[Path], out: Path, data: Sequence[str]) -> Plan:
    """Plan of shards, whose finished runs are copied into `out`.

    Args:
        folders: Output folders of the shards.
        out: Output folder of the merged benchmark.
        data: [LABEL=]PATH of data that are stored elsewhere on this machine.

    Raises:
        UserError: Shards have different settings.
    """
    plan, settings = read_plan(folders[0])
    for folder in folders[1:]:
        refuse_other(settings, read_plan(folder)[1], str(folder), "merge shards of one benchmark")
    if (out / "plan.json").is_file() and out not in folders:
        refuse_other(settings, read_plan(out)[1], str(out), "choose another --out")
    if data:
        given = {d.label: d for d in read_data(data)}
        if unknown := [label for label in given if label not in {d.label for d in plan.data}]:
            raise UserError(
                f"--data {given[unknown[0]].path}: the data of the shards are {', '.join(d.label for d in plan.data)}; "
                "use one of these labels, LABEL=PATH"
            )
        entries = [dataclasses.replace(d, path=given[d.label].path) if d.label in given else d for d in plan.data]
        plan = dataclasses.replace(plan, data=tuple(entries))
    _made(out)
    for folder in folders:
        if folder.resolve() == out.resolve():
            continue
        for there, here in zip(plan.trials(folder), plan.trials(out), strict=True):
            if state_of(there.result) in ("finished", "failed") and not finished(here.result):
                _copy(there, here)
    plan.save(out)
    return plan


def _copy(there: Trial, here: Trial) -> None:
    """Copy a run and then its result, so that a result implies a complete run."""
    with writing(here.run):
        if there.run.is_dir():
            check_target(here.run, "run", overwrite=True)
            with replaced_folder(here.run) as part:
                shutil.copytree(there.run, part, dirs_exist_ok=True, ignore=shutil.ignore_patterns(f"{LEASE}*"))
        here.result.parent.mkdir(parents=True, exist_ok=True)
        write_json(here.result, read_file(there.result))


# -------------------------------------------------------------------------------------------------------- comparing


def _compared(
    folder: Path,
    data: DataEntry,
    trials: Sequence[Trial],
    plan: Plan,
    settings: Mapping[str, Any],
    place: Device,
    quiet: bool,
) -> None:
    """Compare all finished runs on one data set on the same clips; a complete earlier comparison is kept."""
    results = {t.row: read_file(t.result) for t in trials}
    asked = {
        "version": framecast.__version__,
        "settings": dict(settings),
        "data": data.digest,
        "rows": {row: {k: r[k] for k in ("settings", "steps", "seconds")} for row, r in results.items()},
    }
    there = [folder / name for name in ("comparison.html", "comparison.json", "strip.png")]
    if (folder / ASKED).is_file() and all(p.is_file() for p in there) and read_file(folder / ASKED) == asked:
        return
    _say(f"comparing {len(trials)} {'run' if len(trials) == 1 else 'runs'} on {data.label}", quiet)
    (folder / ASKED).unlink(missing_ok=True)
    runs = [dataclasses.replace(open_run(t.run, find_model(t.entry.model)), name=t.row) for t in trials]
    found, kept = compare(
        runs, data.path, size=data.size, fit=data.fit, axes=data.axes, device=place, out=folder, **settings
    )
    write_comparison(folder, found, kept, title=f"All runs on {data.label}")
    firsts = [t.row for t in trials if t.seed == plan.seeds[0]]
    if kept:
        picture(kept, firsts or [trials[0].row], folder, found.protocol.fps)
    write_json(folder / ASKED, asked)
