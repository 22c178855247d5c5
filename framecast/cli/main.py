"""Entry point: selects the command and turns its errors into a sentence and an exit code.

A command's module is imported when the command runs, so that `framecast --help` imports nothing heavy.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from framecast.core.errors import UserError

HELP = """\
framecast: predict the next frames of a video.

  framecast demo                                   records a game, trains for a minute, predicts, reports
  framecast models [MODEL]                         list of the models; parts and sizes of one model
  framecast data make|import|inspect|…             data for training and evaluation
  framecast train [MODEL] --data PATH              training; the same command again resumes
  framecast evaluate RUN                           scores on held-out clips, with those of the baselines
  framecast predict [RUN] --input FILE --out VIDEO forecast of your own video, as a video
  framecast play RUN                               interactive rollout in the browser
  framecast world GAME                             a game recorded, learned, measured and packed as a playable world
  framecast report RUN                             one offline page: scores, curves, videos
  framecast compare RUN RUN … --data PATH          predictors on the same clips, ranked, on one page
  framecast benchmark --models … --data PATH       models trained for equal times, compared on one page
  framecast export RUN --out DIR                   weights to share; ONNX graphs; a page without a server
  framecast push RUN ORG/NAME                      upload to the Hugging Face Hub
  framecast check PATH                             verification of a run, store or export by its checksums
  framecast anomaly RUN --input FILE               frames of a video that are not as predicted
  framecast latents VERB RUN                       analysis of a model's latent space

From a phone clip to its forecast, at once and after a minute of training on the clip's own past:

  framecast predict --input clip.mp4 --out future.mp4
  framecast predict --input clip.mp4 --adapt 60s --out future.mp4

RUN is a run's folder, the name of packaged weights, or hf://organisation/name[@revision]. Data may be at an address of
object storage; every command takes --cache-size SIZE, the largest size of its cache (20GB).
Each command has its own --help. Exit codes: 0 success, 2 invalid input, 1 internal error.
"""

#: Command -> module of this package; the command is its function `run_<command>`.
COMMANDS = {
    "demo": "demo",
    "models": "models",
    "data": "data",
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "play": "play",
    "world": "world",
    "report": "evaluate",
    "compare": "compare",
    "benchmark": "compare",
    "export": "export",
    "latents": "latents",
    "push": "push",
    "check": "check",
    "anomaly": "anomaly",
}

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_EXHAUSTED = {
    errno.EMFILE: "too many open files; close other programs, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; close other programs",
    errno.EIO: "the disk or network file system reported an input/output error; check it, and copy the data elsewhere",
}
_UNUSABLE_PATH = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 success, 2 invalid input, 1 internal error, 130 or 143 after a signal."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """The exit code of one command."""
    _replace_closed_streams()
    if len(argv) > 1 and argv[0] == "help":
        argv = [*argv[1:], "--help"]
    try:
        _answer(argv)
        sys.stdout.flush()
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UserError as error:
        return _fail(_exhausted(error) or str(error), 2)
    except KeyboardInterrupt:
        return _fail("stopped", 130)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _other_error(error)


def _replace_closed_streams() -> None:
    """Open the null device for a closed standard stream: printing works, and no file of ours gets its number."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if sys.stderr is not None:
            print("framecast: standard output is closed, so results are not shown", file=sys.stderr)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _answer(argv: list[str]) -> None:
    """Help, version, or the result of a command."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
    elif argv[0] in ("--version", "-V"):
        from framecast import __version__

        print(f"framecast {__version__}")
    else:
        _run_command(argv[0], argv[1:])


def _take_cache_size(argv: list[str]) -> list[str]:
    """The words of a command without --cache-size, whose value is set for this process and those it starts."""
    for at, word in enumerate(argv):
        flag, given, value = word.partition("=")
        if flag != "--cache-size":
            continue
        from framecast.core.remote import parse_bytes

        if not given and at + 1 == len(argv):
            raise UserError("--cache-size: expected a size such as 20GB")
        value = value if given else argv[at + 1]
        parse_bytes(value, "--cache-size")
        os.environ["FRAMECAST_CACHE_SIZE"] = value
        return argv[:at] + argv[at + (1 if given else 2) :]
    return argv


def _run_command(name: str, argv: list[str]) -> None:
    if name not in COMMANDS:
        from framecast.core.config import suggest

        raise UserError(f"unknown command {name!r}; {suggest(name, COMMANDS)}")
    module = importlib.import_module(f"framecast.cli.{COMMANDS[name]}")
    getattr(module, f"run_{name}")(_take_cache_size(argv))


def _fail(text: str, code: int) -> int:
    print(f"framecast: {' '.join(text.split())}", file=sys.stderr)
    return code


def _exhausted(error: BaseException) -> str | None:
    """Sentence about a limit of the machine that an error was raised from, whatever file it is about."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _EXHAUSTED:
            return f"{cause.filename}: {_EXHAUSTED[cause.errno]}" if cause.filename else _EXHAUSTED[cause.errno]
        cause = cause.__cause__ or cause.__context__
    return None


def _other_error(error: Exception) -> int:
    code = getattr(error, "code", None)
    if type(error).__name__ == "Interrupted" and isinstance(code, int):
        return code
    if type(error).__name__ in ("NotFinite", "Diverged"):
        return _fail(str(error), 1)
    if type(error).__name__ == "ProcessLost":
        return _fail(str(error), 2)
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return _fail("not enough memory; use a smaller --size or --batch-size, or fewer --clips", 2)
    if (sentence := _exhausted(error)) is not None:
        return _fail(sentence, 2)
    if isinstance(error, OSError) and error.errno in _FULL_DISK + _UNUSABLE_PATH:
        remedy = "free some space" if error.errno in _FULL_DISK else "fix it"
        return _fail(f"{error.filename or 'the disk'}: {error.strerror}; {remedy} or use another path", 2)
    traceback.print_exc()
    return _fail("internal error of framecast, not caused by your input; please report it with the lines above", 1)
