"""The error that a user can fix, and what turns errors of the disk and missing packages into it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """Invalid input, as one sentence with problem, place and fix. The command line prints it and exits with 2."""


@contextlib.contextmanager
def writing(path: Path, fix: str = "choose another --out", failed: str = "cannot be written") -> Iterator[None]:
    """Within: an error of the disk becomes a sentence.

    Args:
        path: File or folder that is written.
        fix: What the user can do.
        failed: What went wrong.

    Raises:
        UserError: For every OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {failed} ({error.strerror}); {fix}") from error


def imported(name: str, missing: str) -> Any:
    """A package that an extra installs.

    Args:
        name: Full name of the module.
        missing: Sentence with the command that installs it.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(missing) from error
