"""`framecast compare` and `framecast benchmark`: several predictors on the same clips."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from framecast.cli.output import arguments, print_result, progress_bar
from framecast.cli.shared_flags import ComparisonFlags, ModelClassFlag, command_flags
from framecast.core.flags import RunNames, Switch, parse


@command_flags
class CompareFlags(ComparisonFlags, ModelClassFlag):
    """Comparison of predictors on the same clips under one protocol: ranked table, curves and videos on one page.

    Example: framecast compare runs/plain runs/adversarial forecasts/theirs --data data/pacman --out runs/compared
    """

    runs: RunNames
    """Run folders, names of packaged weights, hf:// names, or folders of forecasts made by other programs (see
    framecast data clips). LABEL=RUN names a row."""
    data: str
    """Data to compare on."""
    out: str = "comparison"
    """Folder for comparison.html, .json and .csv."""
    split: str | None = None
    """Split: train, val or test, or a named part of one such as test/novel; test if not given; all for data that no run
    was trained on."""
    seed: int | None = None
    """Random seed for clip selection and sampling; 0 if not given."""
    part: str | None = None
    """Share of the videos, such as 1/2; 1/2 and 2/2 have no video in common."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; that of the runs' training if not given."""
    fit: Literal["crop", "pad", "squash"] | None = None
    """Method for frames of another aspect ratio: crop, pad or squash."""
    axes: str | None = None
    """Axes of .npy files, such as nthwc."""
    lpips: str | None = None
    """Weights file for LPIPS (AlexNet and its heads, .safetensors or .pt); LPIPS is not computed if not given."""
    lpips_sha256: str | None = None
    """Expected SHA-256 of the LPIPS weights file, or its first digits."""
    fvd: str | None = None
    """Weights file for FVD (I3D of Kinetics-400, .safetensors or .pt); FVD is not computed if not given."""
    fvd_sha256: str | None = None
    """Expected SHA-256 of the FVD weights file, or its first digits."""
    objects: str | None = None
    """JSON or YAML file with the objects to detect in frames by colour; known games and shapes need none."""
    mmd: bool = True
    """Computation of rf-mmd, the distance between the sets of forecasts and of real clips."""
    batch_size: int | None = None
    """Number of clips per batch; at most 8 if not given. The scores do not depend on it."""
    devices: int = 1
    """Number of processes that share the clips."""
    cluster: str | None = None
    """Ray cluster that measures the clips: auto or an address; runs and data must be on a disk that its nodes share."""


@command_flags
class BenchmarkFlags(ComparisonFlags):
    """Comparison of models trained from scratch for equal times, one after another; the same command resumes.

    Example: framecast benchmark --models multiscale-gan:small c-ae:small --data "data/pacman --size 84x64" --budget 4m
    """

    models: tuple[str, ...] = ()
    """NAME, NAME:PROFILE, or in quotes "[LABEL=]NAME[:PROFILE] --model.…" with flags of framecast train; all:small
    for every model."""
    data: tuple[str, ...] = ()
    """Data: paths or names of sources, or in quotes "[LABEL=]PATH --size 84x64"; with --merge, their paths on this
    machine."""
    budget: str | None = None
    """Training time of every run: 90s, 4m or 1h."""
    clock: Literal["wall", "cpu"] = "wall"
    """Time that a budget counts: wall-clock, or processor time of each run, whatever else the machine does."""
    steps: int | None = None
    """Number of training steps of every run, instead of --budget."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds for weights and batches, such as 0 1 2; every model is trained with each."""
    out: str = "benchmark"
    """Folder for runs, results, comparisons and the table."""
    shard: str | None = None
    """Share of the runs to train: 1/3 on the first of three machines, 2/3 on the second."""
    merge: tuple[str, ...] = ()
    """Folders of shards; their runs are moved into --out and compared."""
    split: str | None = None
    """Split for the comparison: train, val or test, or a named part of one such as test/novel; test if not given."""
    cluster: str | None = None
    """Ray cluster that trains the runs: auto or an address; --out and data must be on a disk that its nodes share."""
    dry_run: Switch = False
    """Plan of the runs with the expected time; nothing is trained."""


def run_compare(argv: list[str]) -> None:
    """Compare predictors, print the ranked table and write the page."""
    flags = parse(CompareFlags, argv, "compare")
    from framecast.evaluation.compare import compare
    from framecast.reporting.compare_page import describe, write_comparison
    from framecast.training.device import make_device

    device = make_device(flags.device, 1 if flags.cluster else flags.devices, 1, flags.precision)
    with progress_bar("comparing", flags.quiet or not device.is_main) as progress:
        found, kept = compare(
            **arguments(flags, "device", "devices", "precision", "json", "quiet"),
            device=device,
            devices=flags.devices if flags.cluster else 1,
            progress=progress,
        )
    if not device.is_main:
        return
    page = write_comparison(flags.out, found, kept)
    text = f"{describe(found)}\n\npage: {page}\nscores: {page.with_suffix('.json')}, {page.with_suffix('.csv')}"
    print_result(flags.json, found.to_json(), text)


def run_benchmark(argv: list[str]) -> None:
    """Train models for equal times and compare them."""
    flags = parse(BenchmarkFlags, argv, "benchmark")
    from framecast.benchmark import runner
    from framecast.reporting.benchmark_page import describe

    table = runner.run_benchmark(**arguments(flags, "json"))
    if table is not None:
        out = Path(flags.out)
        text = f"{describe(table)}\n\npage: {out / 'benchmark.html'}\ntable: {out / 'table.json'}, {out / 'table.csv'}"
        print_result(flags.json, table, text)
