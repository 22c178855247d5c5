"""The command line: one module per group of commands, each with its flags next to it."""

from framecast.cli.main import COMMANDS, HELP, main, run

__all__ = ["COMMANDS", "HELP", "main", "run"]
