"""`framecast anomaly`: frames of a video that a model does not predict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from framecast.cli.output import arguments, print_result, progress_bar
from framecast.cli.shared_flags import ComputeFlags, ModelClassFlag, QuietFlag, command_flags
from framecast.core.errors import UserError
from framecast.core.flags import RunName, parse


@command_flags
class AnomalyFlags(ComputeFlags, QuietFlag, ModelClassFlag):
    """Detection of anomalies: frames that differ from their forecast by more than frames of normal material do.

    Example: framecast anomaly direct-any --input today.mp4 --calibrate normal.mp4 --out anomalies
    """

    run: RunName
    """Run folder, name of packaged weights or of a baseline such as linear-flow, or hf://organisation/name."""
    input: str
    """Video, folder of frames, or STORE/NAME of a packed store."""
    calibrate: str | None = None
    """Normal material at the same frame rate, a video or store; the validation split of the run's data if not given."""
    out: str = "anomaly"
    """Folder for anomaly.html, anomaly.json, scores.csv, regions.npy and film.mp4."""
    rate: float = 0.05
    """False-alarm rate: share of blocks of normal frames that may have an alarm."""
    block: int = 16
    """Number of frames in a block."""
    lead: int = 1
    """Number of frames from the last context frame to the compared frame."""
    cells: int = 8
    """Number of regions along the shorter side of a frame."""
    smooth: int = 1
    """Number of last frames whose scores are averaged: more for what lasts, 1 for what flashes."""
    samples: int = 1
    """Number of futures of a stochastic model, of which the nearest counts in each region."""
    at_cuts: Literal["auto", "skip", "score"] = "auto"
    """Frames whose forecast crosses a shot cut: left out, or scored; auto: left out if the normal material has cuts."""
    seed: int = 0
    """Random seed for sampling."""
    film: bool = True
    """Film with a heat map."""


def run_anomaly(argv: list[str]) -> None:
    """Score a video, write page, film and scores, and print the alarms."""
    flags = parse(AnomalyFlags, argv, "anomaly")
    if Path(flags.out).is_file():
        raise UserError(f"{flags.out}: is a file; --out must be a folder")
    from framecast.evaluation.anomaly import anomaly
    from framecast.models.registry import find_model
    from framecast.reporting.anomaly_page import sentence, write_anomalies

    with progress_bar("scoring frames", flags.quiet) as progress:
        found = anomaly(
            **arguments(flags, "input", "out", "film", "model_class", "quiet", "json"),
            source=flags.input,
            model_class=find_model(flags.model_class) if flags.model_class else None,
            progress=progress,
        )
    paths = write_anomalies(flags.out, found, flags.film)
    summary = {**found.summary(), "files": {name: str(path) for name, path in paths.items()}}
    rule = (
        f"threshold {found.threshold:.4g} from {found.blocks} blocks of {found.block} frames of {found.calibration}: "
        f"at most {found.rate:g} of normal blocks have an alarm"
    )
    if found.calibration_breaks:
        rule += f"; no block crosses a shot cut or a pause ({found.calibration_breaks} in it)"
    lines = [sentence(found), rule, *(f"{name}: {path}" for name, path in paths.items())]
    print_result(flags.json, summary, "\n".join(lines))
