"""The error that a user can fix."""

from __future__ import annotations


class UserError(ValueError):
    """Invalid input, as one sentence with problem, place and fix. The command line prints it and exits with 2."""
