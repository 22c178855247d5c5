"""`framecast latents VERB RUN`: analysis of a latent space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from framecast.cli.output import open_run_of, print_result
from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.flags import RunName, parse

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


@dataclass(frozen=True, kw_only=True)
class LatentsFlags:
    """Flags of all verbs."""

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""
    input: str | None = None
    """Image, video, folder of frames or packed store; held-out clips of the training data if not given."""
    out: str | None = None
    """Output folder; RUN/latents if not given, for packaged and downloaded weights ./NAME-results/latents."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:0 or mps."""
    model_class: str | None = None
    """Class of a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Path for a summary of the output as JSON; - for standard output."""


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class DimsFlags(LatentsFlags):
    """KL divergence of every latent dimension, the dominant ones as bars, pages of feature maps and kernels.

    Example: framecast latents dims runs/shapes --clips 256
    """

    clips: int = 256
    """Maximum number of clips."""
    seed: int = 0
    """Random seed for clip selection."""


@dataclass(frozen=True, kw_only=True)
class ImportanceFlags(LatentsFlags):
    """Importance of latent dimensions: rise of the reconstruction error when one is replaced by its mean.

    Example: framecast latents importance runs/shapes
    """

    clips: int = 32
    """Maximum number of clips."""


@dataclass(frozen=True, kw_only=True)
class StatisticsFlags(LatentsFlags):
    """Mean and spread of every latent dimension, and the norm of latents in data and in rollouts.

    Example: framecast latents statistics runs/ball --steps 300
    """

    clips: int = 32
    """Maximum number of clips."""
    steps: int = 300
    """Number of steps of the measured rollouts; 0 for none."""


def _sample(run: Any, flags: SampleFlags, device: str) -> Any:
    from framecast.inference.latents.motions import sample

    return sample(
        run,
        flags.input,
        prior=flags.prior,
        out=flags.out,
        device=device,
        pictures=flags.pictures,
        seed=flags.seed,
    )


def _transfer(run: Any, flags: TransferFlags, device: str) -> Any:
    from framecast.inference.latents.motions import transfer

    return transfer(
        run, flags.input, flags.onto, out=flags.out, device=device, pictures=flags.pictures, seed=flags.seed
    )


def _dims(run: Any, flags: DimsFlags, device: str) -> Any:
    from framecast.inference.latents.motions import dims

    return dims(run, flags.input, count=flags.clips, seed=flags.seed, out=flags.out, device=device)


def _traverse(run: Any, flags: TraverseFlags, device: str) -> Any:
    from framecast.inference.latents.traversal import traverse

    return traverse(
        run,
        flags.input,
        numbers(flags.dims, "--dims"),
        low=flags.low,
        high=flags.high,
        steps=flags.steps,
        out=flags.out,
        device=device,
    )


def _importance(run: Any, flags: ImportanceFlags, device: str) -> Any:
    from framecast.inference.latents.statistics import importance

    return importance(run, flags.input, count=flags.clips, out=flags.out, device=device)


def _statistics(run: Any, flags: StatisticsFlags, device: str) -> Any:
    from framecast.inference.latents.statistics import statistics

    return statistics(run, flags.input, count=flags.clips, steps=flags.steps, out=flags.out, device=device)


#: Verb -> (flags, function of run, flags and device).
VERBS: dict[str, tuple[type[LatentsFlags], Callable[[Any, Any, str], Any]]] = {
    "sample": (SampleFlags, _sample),
    "transfer": (TransferFlags, _transfer),
    "dims": (DimsFlags, _dims),
    "importance": (ImportanceFlags, _importance),
    "statistics": (StatisticsFlags, _statistics),
    "traverse": (TraverseFlags, _traverse),
}


def run_latents(argv: list[str]) -> None:
    """Run one verb and print its summary and files."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    if argv[0] not in VERBS:
        raise UserError(f"unknown command 'latents {argv[0]}'; {suggest(argv[0], VERBS)}")
    kind, analyse = VERBS[argv[0]]
    flags = parse(kind, argv[1:], f"latents {argv[0]}")
    from framecast.training.device import pick_device

    result = analyse(open_run_of(flags), flags, str(pick_device(flags.device)))
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
