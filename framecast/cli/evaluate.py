"""`framecast evaluate` and `framecast report`: scores of one run on held-out clips."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from framecast.cli.output import arguments, open_run_of, print_result
from framecast.cli.shared_flags import ComputeFlags, RunFlag, command_flags
from framecast.core.errors import UserError
from framecast.core.flags import Switch, parse


@command_flags
class _ScoreFlags(RunFlag, ComputeFlags):
    """Flags of `evaluate` and `report`."""

    data: str | None = None
    """Data to score on; the training data if not given."""
    split: str = "test"
    """Split: train, val or test, or a named part of one such as test/novel; all for data without training clips."""
    context: int | None = None
    """Number of context frames; the model's own if not given."""
    horizon: int | None = None
    """Number of frames to predict; if not given 64, or half of what the longest held-out video leaves."""
    samples: int = 1
    """Number of futures per clip, for a stochastic model."""
    clips: int = 32
    """Number of clips, spread over the split: one at a random position in each of equal parts."""
    seed: int = 0
    """Random seed for clip selection and sampling."""
    out: str | None = None
    """Folder for scores.json; RUN if not given, for packaged and downloaded weights ./NAME-results."""
    cluster: str | None = None
    """Ray cluster that measures the clips: auto or an address; run and data must be on a disk that its nodes share."""


@command_flags
class EvaluateFlags(_ScoreFlags):
    """Scores of a run on held-out clips next to the baselines: skill, useful horizon, and the evaluation protocol.

    Example: framecast evaluate runs/pacman --horizon 64 --clips 32
    """

    world: Switch = False
    """Measure a model with actions as a playable world beside the true game; --clips is then the number of worlds and
    --horizon their number of frames, 1,000 if not given; figures in world.json."""


@command_flags
class ReportFlags(_ScoreFlags):
    """One offline HTML page: scores, curves with intervals, videos of the worst, median and best clip, loss curves.

    Example: framecast report runs/pacman
    """

    out: str | None = None
    """Folder for report.html and scores.json; RUN if not given, for packaged and downloaded weights ./NAME-results."""


def run_evaluate(argv: list[str]) -> None:
    """Score a run and print the table."""
    from framecast.evaluation.headline import describe

    flags = parse(EvaluateFlags, argv, "evaluate")
    if flags.world:
        _measure_world(flags)
        return
    run, scores, _ = _score(flags)
    folder = Path(flags.out) if flags.out else run.results
    print_result(flags.json, scores.to_json(), f"{describe(scores)}\n\nscores: {folder / 'scores.json'}")


def run_report(argv: list[str]) -> None:
    """Score a run and write its HTML page."""
    from framecast.reporting.report import report_run

    flags = parse(ReportFlags, argv, "report")
    run, scores, kept = _score(flags)
    page = report_run(run, scores, kept, folder=flags.out or run.results)
    print_result(flags.json, scores.to_json(), f"report: {page}\nscores: {page.parent / 'scores.json'}")


def _measure_world(flags: EvaluateFlags) -> None:
    from framecast.core.io import write_json
    from framecast.evaluation.evaluate_world import evaluate_world, figure_lines

    refused = [name for name in ("split", "context", "samples", "cluster") if getattr(flags, name) != _default(name)]
    refused += [] if flags.device in ("auto", "cpu") else ["device"]
    if refused:
        raise UserError(f"--{refused[0]} does not go with --world; a world takes --data, --clips, --horizon and --seed")
    worlds, frames = flags.clips, flags.horizon or 1000
    if min(worlds, frames) < 1:
        raise UserError("--horizon and --clips must be at least 1")
    sizes = {"worlds": worlds, "played_worlds": min(16, worlds), "recorded": min(96, 3 * worlds)}
    sizes |= {"frames": frames, "played_frames": min(300, frames), "horizon": min(64, frames)}
    sizes |= {"followed_frames": min(250, frames), "timed_frames": min(100, frames), "seed": flags.seed}
    run = open_run_of(flags)
    file = (Path(flags.out) if flags.out else run.results) / "world.json"
    if file.parent.is_file():
        raise UserError(f"{file.parent}: is a file; --out must be a folder")
    figures = evaluate_world(run, flags.data, flags.precision, **sizes)
    write_json(file, figures)
    print_result(flags.json, figures, f"{figure_lines(figures)}\n\nfigures: {file}")


def _default(name: str) -> Any:
    return next(field.default for field in dataclasses.fields(EvaluateFlags) if field.name == name)


def _score(flags: _ScoreFlags) -> tuple[Any, Any, Any]:
    from framecast.evaluation.evaluate import evaluate

    run = open_run_of(flags)
    scores, kept = evaluate(run, **arguments(flags, "run", "json", "world"))
    return run, scores, kept
