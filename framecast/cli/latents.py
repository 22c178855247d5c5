"""`framecast latents VERB RUN`: analysis of a latent space."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Literal

from framecast.cli.output import arguments, open_run_of, print_result
from framecast.cli.shared_flags import DeviceFlag, RunFlag, command_flags
from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.flags import parse

HELP = """\
framecast latents: analysis of the latent space of a model that encodes and decodes.

  framecast latents sample RUN [--input FILE] [--prior …]        different next frames of each image
  framecast latents transfer RUN [--input PAIR] [--onto FILE]    motion of one pair applied to other images
  framecast latents dims RUN [--input FILE]                      KL divergence of latent dimensions; feature maps
  framecast latents importance RUN [--input FILE]                reconstruction error without each latent dimension
  framecast latents statistics RUN [--input FILE]                mean, spread and norm of latents, also in rollouts
  framecast latents traverse RUN [--dims 3,17] [--input FILE]    one latent dimension varied, the others fixed

RUN is a run's folder, the name of packaged weights, or hf://organisation/name[@revision]. Images are written to
RUN/latents (--out DIR for another folder). Each verb has its own --help.
"""


@command_flags
class LatentsFlags(DeviceFlag, RunFlag):
    """Flags of all verbs."""

    input: str | None = None
    """Image, video, folder of frames or packed store; held-out clips of the training data if not given."""
    out: str | None = None
    """Output folder; RUN/latents if not given, for packaged and downloaded weights ./NAME-results/latents."""


@command_flags
class TraverseFlags(LatentsFlags):
    """One latent dimension from low to high with the others fixed: a sheet (.png) and a video (.gif).

    Example: framecast latents traverse runs/shapes --dims 3,17
    """

    dims: str | None = None
    """Latent dimensions, counted from 0, such as 3,17; the three that vary most between clips if not given."""
    low: float = -10.0
    """First value of the dimension."""
    high: float = 10.0
    """Last value of the dimension."""
    steps: int = 21
    """Number of images from low to high."""


@command_flags
class SampleFlags(LatentsFlags):
    """Different next frames of each image: first frame, six samples, true second frame (.png), and as a video (.gif).

    Example: framecast latents sample runs/shapes --prior posterior
    """

    prior: Literal["normal", "posterior"] | None = None
    """Distribution of the latents: N(0, I), or stored posteriors of training pairs; as configured if not given."""
    pictures: int = 8
    """Maximum number of rows of the grid."""
    seed: int = 0
    """Random seed for image selection and sampling."""


@command_flags
class TransferFlags(LatentsFlags):
    """Motion of one pair applied to other images: pair, image, and moved image (.png), and as a video (.gif).

    Example: framecast latents transfer runs/shapes --input pairs --onto other.png
    """

    onto: str | None = None
    """Image, video, folder or store with the images to move; the other clips of --input if not given."""
    pictures: int = 8
    """Maximum number of rows of the grid."""
    seed: int = 0
    """Random seed for clip selection."""


@command_flags
class DimsFlags(LatentsFlags):
    """KL divergence of every latent dimension, the dominant ones as bars, pages of feature maps and kernels.

    Example: framecast latents dims runs/shapes --clips 256
    """

    clips: int = 256
    """Maximum number of clips."""
    seed: int = 0
    """Random seed for clip selection."""


@command_flags
class ImportanceFlags(LatentsFlags):
    """Importance of latent dimensions: rise of the reconstruction error when one is replaced by its mean.

    Example: framecast latents importance runs/shapes
    """

    clips: int = 32
    """Maximum number of clips."""


@command_flags
class StatisticsFlags(LatentsFlags):
    """Mean and spread of every latent dimension, and the norm of latents in data and in rollouts.

    Example: framecast latents statistics runs/ball --steps 300
    """

    clips: int = 32
    """Maximum number of clips."""
    steps: int = 300
    """Number of steps of the measured rollouts; 0 for none."""


#: Verb -> (flags, module of `framecast.inference.latents` with the function of that name).
VERBS: dict[str, tuple[type[LatentsFlags], str]] = {
    "sample": (SampleFlags, "motions"),
    "transfer": (TransferFlags, "motions"),
    "dims": (DimsFlags, "motions"),
    "importance": (ImportanceFlags, "statistics"),
    "statistics": (StatisticsFlags, "statistics"),
    "traverse": (TraverseFlags, "traversal"),
}


def run_latents(argv: list[str]) -> None:
    """Run one verb and print its summary and files."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    if argv[0] not in VERBS:
        raise UserError(f"unknown command 'latents {argv[0]}'; {suggest(argv[0], VERBS)}")
    kind, module = VERBS[argv[0]]
    flags = parse(kind, argv[1:], f"latents {argv[0]}")
    from framecast.training.device import pick_device

    analyse = getattr(importlib.import_module(f"framecast.inference.latents.{module}"), argv[0])
    given = arguments(flags, "run", "input", "device", "model_class", "json")
    if "clips" in given:
        given["count"] = given.pop("clips")
    if "dims" in given:
        given["dims"] = numbers(flags.dims, "--dims")
    result = analyse(open_run_of(flags), flags.input, device=str(pick_device(flags.device)), **given)
    lines = [*result.lines, *(f"{name}: {path}" for name, path in result.files.items())]
    print_result(flags.json, result.to_json(), "\n".join(lines))


def numbers(text: str | None, flag: str) -> Sequence[int]:
    """Whole numbers of a list such as "3,17"; empty for None.

    Args:
        text: numbers at least 0, separated by commas.
        flag: name of the flag, for the error.

    Raises:
        UserError: `text` is no such list.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"{flag} {text!r}: expected whole numbers such as 3,17")
    return [int(part) for part in parts]
