"""Ctrl-C and SIGTERM while training are noted, not obeyed at once: no step or validation is ever cut in two."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """Ctrl-C (130) or SIGTERM (143): the checkpoint is written; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by signal {code - 128}")
        self.code = code


class Signals:
    """Within: `number` is the first SIGINT or SIGTERM that arrived, else 0; the same one again ends at once.

    What is running when it arrives (a step, a validation) is finished first, so that a resumed run has done exactly
    what the unbroken one did.
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
        self._restore(number)
        self.number = self.number or number

    def _restore(self, number: int) -> None:
        handler = self.before[number]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __exit__(self, *_: object) -> None:
        for number in self.before:
            self._restore(number)
