"""`framecast predict`: the forecast of a video, as a video."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial

from framecast.cli.output import arguments, open_run_of, print_result
from framecast.cli.shared_flags import ComputeFlags, ModelClassFlag, command_flags
from framecast.core.errors import UserError
from framecast.core.flags import OptionalRunName, Switch, parse


@command_flags
class PredictFlags(ComputeFlags, ModelClassFlag):
    """Forecast of a video as a video: context frames with a green border, predicted frames with a red one.

    Without a run, packaged weights make the forecast, after a test on earlier moments of the same video; where a
    baseline was better there, it makes the forecast.

    Example: framecast predict --input clip.mp4 --horizon 32 --out future.mp4
    """

    run: OptionalRunName = None
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]; packaged weights if not given."""
    out: str
    """Output file (.gif, .webp, .mp4, .avi, .mov, .mkv, .webm), or a folder for PNGs."""
    input: str | None = None
    """Video, folder of frames, array, or STORE/NAME of a packed store; an image for models with one context frame."""
    from_noise: Switch = False
    """Start from noise instead of a video."""
    horizon: int = 32
    """Number of frames to predict."""
    at: str = "end"
    """Start of the forecast: end, a frame number, or seconds such as 2.5s."""
    adapt: str | None = None
    """Training time on the video's own past before the forecast, such as 60s; only without a run."""
    uncertainty: Switch = False
    """Further video beside --out: the forecast, red where the interval that holds 90 % of the true values is wide."""
    samples: int = 1
    """Number of futures shown next to each other, for a stochastic model."""
    actions: str | None = None
    """JSON, CSV or .npy file with one action per frame (context + horizon - 1), for models with actions."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; as in training if not given."""
    axes: str | None = None
    """Order of the axes of an array, such as thwc; found by their sizes if not given."""
    seed: int = 0
    """Random seed for sampling."""
    views: Switch = False
    """Further outputs of the model, such as masks, as files next to --out with a name added to each."""


def run_predict(argv: list[str]) -> None:
    """Predict the frames after a video and write them."""
    flags = parse(PredictFlags, argv, "predict")
    if flags.horizon < 1 or flags.samples < 1:
        raise UserError(f"--horizon and --samples must be at least 1, got {flags.horizon} and {flags.samples}")
    if (flags.input is None) != flags.from_noise:
        raise UserError("predict needs either --input FILE or --from-noise")
    if flags.axes is not None and not str(flags.input).lower().endswith((".npy", ".npz")):
        raise UserError(f"--axes belongs to arrays (.npy, .npz), not to {flags.input}; leave it out")
    if flags.run is None and flags.input is None:
        raise UserError("predict --from-noise needs a RUN")
    if flags.run is not None and flags.adapt is not None:
        raise UserError("--adapt belongs to packaged weights; train a run further with framecast train --init-from RUN")
    from framecast.inference.predict import predict_file
    from framecast.nn.precision import resolve_precision
    from framecast.training.device import pick_device

    device, test = pick_device(flags.device), None
    own = ("run", "input", "from_noise", "adapt", "device", "precision", "model_class", "json")
    options = {
        **arguments(flags, *own),
        "device": str(device),
        "precision": resolve_precision(flags.precision, device),
    }
    if flags.run is None:
        from framecast.inference.backtest import forecast_file

        progress = partial(print, file=sys.stderr)
        made, test = forecast_file(flags.input, adapt=flags.adapt, say=progress, **options)
    else:
        made = predict_file(open_run_of(flags), flags.input, **options)
    note = made.note
    if flags.uncertainty and "uncertainty" not in made.views:
        if test is None:
            raise UserError(f"{flags.run}: is deterministic and has no interval; leave out --uncertainty")
        note = f"{note}; {test.chosen} gives no uncertainty"
    views = {name: str(path) for name, path in made.views.items()}
    summary = {"film": str(made.path), "context": made.context, "frames": made.frames}
    summary |= {"size": list(made.size), "fps": made.fps, "note": note, "views": views}
    summary |= {} if test is None else {"backtest": asdict(test)}
    text = f"{made.context} context frames, {made.frames} predicted, at {made.fps:g} fps; {note}"
    print_result(
        flags.json, summary, "\n".join([text, f"video: {made.path}", *(f"{k}: {v}" for k, v in views.items())])
    )
