"""`framecast predict`: the forecast of a video, as a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from framecast.cli.output import arguments, open_run_of, print_result
from framecast.core.errors import UserError
from framecast.core.flags import RunName, Switch, parse


@dataclass(frozen=True, kw_only=True)
class PredictFlags:
    """Forecast of a video as a video: context frames with a green border, predicted frames with a red one.

    Example: framecast predict runs/pacman --input clip.mp4 --horizon 32 --out future.mp4
    """

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""
    out: str
    """Output file (.gif, .webp, .mp4, .avi, .mov, .mkv, .webm), or a folder for PNGs."""
    input: str | None = None
    """Video, folder of frames, or STORE/NAME of a packed store; an image for models with one context frame."""
    from_noise: Switch = False
    """Start from noise instead of a video."""
    horizon: int = 32
    """Number of frames to predict."""
    at: str = "end"
    """Start of the forecast: end, a frame number, or seconds such as 2.5s."""
    samples: int = 1
    """Number of futures shown next to each other, for a stochastic model."""
    actions: str | None = None
    """JSON, CSV or .npy file with one action per frame (context + horizon - 1), for models with actions."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; as in training if not given."""
    seed: int = 0
    """Random seed for sampling."""
    views: Switch = False
    """Further outputs of the model, such as masks, as files next to --out with a name added to each."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:0 or mps."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Autocast precision."""
    model_class: str | None = None
    """Class of a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


def run_predict(argv: list[str]) -> None:
    """Predict the frames after a video and write them."""
    flags = parse(PredictFlags, argv, "predict")
    if flags.horizon < 1 or flags.samples < 1:
        raise UserError(f"--horizon and --samples must be at least 1, got {flags.horizon} and {flags.samples}")
    if (flags.input is None) != flags.from_noise:
        raise UserError("predict needs either --input FILE or --from-noise")
    from framecast.inference.predict import predict_file
    from framecast.nn.precision import resolve_precision
    from framecast.training.device import pick_device

    device = pick_device(flags.device)
    made = predict_file(
        open_run_of(flags),
        flags.input,
        **arguments(flags, "run", "input", "from_noise", "device", "precision", "model_class", "json"),
        device=str(device),
        precision=resolve_precision(flags.precision, device),
    )
    views = {name: str(path) for name, path in made.views.items()}
    summary = {"film": str(made.path), "context": made.context, "frames": made.frames}
    summary |= {"size": list(made.size), "fps": made.fps, "note": made.note, "views": views}
    text = f"{made.context} context frames, {made.frames} predicted, at {made.fps:g} fps; {made.note}"
    print_result(
        flags.json, summary, "\n".join([text, f"video: {made.path}", *(f"{k}: {v}" for k, v in views.items())])
    )
