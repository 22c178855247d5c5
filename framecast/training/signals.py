"""Deferred Ctrl-C and SIGTERM in training: the current step or validation is completed first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """Training stopped by Ctrl-C (`code` 130) or SIGTERM (143), after the checkpoint was written."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by signal {code - 128}")
        self.code = code


class Signals:
    """Within: `number` is the first received SIGINT or SIGTERM, else 0; the same signal again ends the process.

    The current step or validation is completed first, so that a resumed run equals an unbroken run. Under torchrun the
    same signal again is ignored: a terminal or Slurm sends it to all processes, and the agent passes its own on, so
    each would end without a checkpoint. The agent itself kills processes that do not end.
    """

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _: FrameType | None) -> None:
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            self._restore(number)
        self.number = self.number or number

    def _restore(self, number: int) -> None:
        handler = self.before[number]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __exit__(self, *_: object) -> None:
        for number in self.before:
            self._restore(number)
