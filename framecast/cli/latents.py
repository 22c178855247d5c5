"""`framecast latents VERB RUN`: the flags of every verb, and which function answers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.core.flags import RunName, parse

HELP = """\
framecast latents: look into the latent space of a model that encodes and decodes.

  framecast latents sample RUN [--input FILE] [--prior …]        different next frames of each picture
  framecast latents transfer RUN [--input PAIR] [--onto FILE]    the motion of one pair on other pictures
  framecast latents dims RUN [--input FILE]                      which numbers of a code count; feature maps, kernels
  framecast latents importance RUN [--input FILE]                which numbers of a code the pictures hang on
  framecast latents statistics RUN [--input FILE]                spread and length of codes, and of a dream's
  framecast latents traverse RUN [--dims 3,17] [--input FILE]    one number of a code moved, the others kept

RUN is a run's folder, the name of packaged weights, or hf://organisation/name[@revision]. Pictures go to
RUN/latents (--out DIR for another folder). Each verb has its own --help.
"""


@dataclass(frozen=True, kw_only=True)
class LatentsFlags:
    """What all verbs take."""

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]."""
    input: str | None = None
    """Picture, video, folder of frames or packed store; held-out clips of the training data if not given."""
    out: str | None = None
    """Folder for what is made; RUN/latents if not given, for packaged and downloaded weights ./NAME-results/latents."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""
    model_class: str | None = None
    """For a model outside the package: path/to/mine.py:Mine."""
    json: str | None = None
    """Also write what was made there; - for standard output."""


@dataclass(frozen=True, kw_only=True)
class TraverseFlags(LatentsFlags):
    """One number of a code goes from low to high while the others stay: a sheet (.png) and a film (.gif).

    Example: framecast latents traverse runs/shapes --dims 3,17
    """

    dims: str | None = None
    """Numbers of the code, counted from 0, such as 3,17; the three that differ most between clips if not given."""
    low: float = -10.0
    """Where the number begins."""
    high: float = 10.0
    """Where it ends."""
    steps: int = 21
    """Pictures from low to high."""


@dataclass(frozen=True, kw_only=True)
class SampleFlags(LatentsFlags):
    """Different next frames of each picture: first frame, six samples, true second frame (.png), and as a film (.gif).

    Example: framecast latents sample runs/shapes --prior posterior
    """

    prior: Literal["normal", "posterior"] | None = None
    """Where codes are drawn from: N(0, I), or stored posteriors of training pairs; as configured if not given."""
    pictures: int = 8
    """Rows of the grid, at most."""
    seed: int = 0
    """Of pictures and samples."""


@dataclass(frozen=True, kw_only=True)
class TransferFlags(LatentsFlags):
    """The motion of one pair on other pictures: pair, picture, and the picture moved (.png), and as a film (.gif).

    Example: framecast latents transfer runs/shapes --input pairs --onto other.png
    """

    onto: str | None = None
    """Picture, video, folder or store with the pictures to be moved; the other clips of --input if not given."""
    pictures: int = 8
    """Rows of the grid, at most."""
    seed: int = 0
    """Of the clips' choice."""


@dataclass(frozen=True, kw_only=True)
class DimsFlags(LatentsFlags):
    """KL divergence of every number of a code, the dominant ones as bars, pages of feature maps and kernels.

    Example: framecast latents dims runs/shapes --clips 256
    """

    clips: int = 256
    """Clips looked at, at most."""
    seed: int = 0
    """Of the clips' choice."""


def _sample(run: Any, flags: SampleFlags, place: str) -> Any:
    from framecast.inference.latents.motions import sample

    picked = {"pictures": flags.pictures, "seed": flags.seed}
    return sample(run, flags.input, prior=flags.prior, out=flags.out, device=place, **picked)


def _transfer(run: Any, flags: TransferFlags, place: str) -> Any:
    from framecast.inference.latents.motions import transfer

    picked = {"pictures": flags.pictures, "seed": flags.seed}
    return transfer(run, flags.input, flags.onto, out=flags.out, device=place, **picked)


def _dims(run: Any, flags: DimsFlags, place: str) -> Any:
    from framecast.inference.latents.motions import dims

    return dims(run, flags.input, count=flags.clips, seed=flags.seed, out=flags.out, device=place)


def _traverse(run: Any, flags: TraverseFlags, place: str) -> Any:
    from framecast.inference.latents.traversal import traverse

    return traverse(
        run,
        flags.input,
        numbers(flags.dims, "--dims"),
        low=flags.low,
        high=flags.high,
        steps=flags.steps,
        out=flags.out,
        device=place,
    )


@dataclass(frozen=True, kw_only=True)
class ImportanceFlags(LatentsFlags):
    """Which numbers of a code matter: the rise of the reconstruction's error when one is replaced by its mean.

    Example: framecast latents importance runs/shapes
    """

    clips: int = 32
    """Clips looked at, at most."""


@dataclass(frozen=True, kw_only=True)
class StatisticsFlags(LatentsFlags):
    """Mean and spread of every number of a code, the length of codes, and whether a dream's keep to it.

    Example: framecast latents statistics runs/ball --steps 300
    """

    clips: int = 32
    """Clips looked at, at most."""
    steps: int = 300
    """Length of the dreams that are measured; 0 for none."""


def _importance(run: Any, flags: ImportanceFlags, place: str) -> Any:
    from framecast.inference.latents.statistics import importance

    return importance(run, flags.input, count=flags.clips, out=flags.out, device=place)


def _statistics(run: Any, flags: StatisticsFlags, place: str) -> Any:
    from framecast.inference.latents.statistics import statistics

    return statistics(run, flags.input, count=flags.clips, steps=flags.steps, out=flags.out, device=place)


#: Verb -> (its flags, what answers it: run, flags and device give a `latents.io.LatentResult`).
VERBS: dict[str, tuple[type[LatentsFlags], Callable[[Any, Any, str], Any]]] = {
    "sample": (SampleFlags, _sample),
    "transfer": (TransferFlags, _transfer),
    "dims": (DimsFlags, _dims),
    "importance": (ImportanceFlags, _importance),
    "statistics": (StatisticsFlags, _statistics),
    "traverse": (TraverseFlags, _traverse),
}


def latents(argv: list[str]) -> tuple[str | None, dict[str, Any], str] | None:
    """Answer one verb: where JSON goes, what was made as plain data, and the lines to print; None after help."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP, end="")
        return None
    if argv[0] not in VERBS:
        raise UserError(f"unknown command 'latents {argv[0]}'; {suggest(argv[0], VERBS)}")
    kind, answer = VERBS[argv[0]]
    flags = parse(kind, argv[1:], f"latents {argv[0]}")
    from framecast.models.registry import find_model
    from framecast.training.device import pick_device
    from framecast.training.run_folder import open_run

    run = open_run(flags.run, find_model(flags.model_class) if flags.model_class else None)
    told = answer(run, flags, str(pick_device(flags.device)))
    lines = [*told.lines, *(f"{name}: {path}" for name, path in told.files.items())]
    return flags.json, told.to_json(), "\n".join(lines)


def numbers(text: str | None, flag: str) -> Sequence[int]:
    """Whole numbers of a list such as 3,17; empty for None.

    Raises: UserError naming the flag.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"{flag} {text!r}: expected whole numbers such as 3,17")
    return [int(part) for part in parts]
