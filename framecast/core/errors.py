"""The error that a user can fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch and numpy take a second to import; `framecast --help` must not pay for it
    pass


class UserError(ValueError):
    """The user's input is at fault: one sentence with what, where and remedy. The command line exits with 2."""
