"""One writer at a time: a lease on a folder, which names its holder and is renewed while it works.

A lease is a small file, created exclusively. Processes of the same machine check that the holder is alive; all others
(containers, machines with a network file system) watch the counter that it renews, against their own monotonic clock,
so that wrong or changed clocks do not matter. A stale lease is renamed before a new one is made: one process succeeds.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError

#: Seconds between renewals, and seconds without one after which a lease of an unknown process is stale.
RENEW, STALE = 5.0, 30.0
#: Seconds between readings of a lease that another process holds.
LOOK = 0.2

#: Tokens of the leases that this process holds.
_HELD: set[str] = set()


class Held(UserError):
    """Another process holds the lease."""


class Lease:
    """A held lease.

    Args:
        path: its file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.token, self.count = path, secrets.token_hex(8), 0
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        self.file = os.open(path, flags, 0o666)
        _HELD.add(self.token)
        self._write()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self.thread.start()

    def _write(self) -> None:
        text = json.dumps({**_self(), "token": self.token, "count": self.count}).ljust(512) + "\n"
        os.lseek(self.file, 0, os.SEEK_SET)
        os.write(self.file, text.encode())
        with contextlib.suppress(OSError):
            os.fsync(self.file)

    def _renew(self) -> None:
        while not self.over.wait(RENEW):
            self.count += 1
            with contextlib.suppress(OSError):  # a full disk does not end the lease
                self._write()

    def check(self) -> None:
        """Check that no other process took the lease, as it may after this one was suspended.

        Raises:
            Held: another process did.
        """
        found = _read(self.path)
        if found is None or found.get("token") != self.token:
            raise Held(f"{self.path.parent}: {_holder(found)} took over while this process was suspended; stopped")

    def release(self) -> None:
        """Delete the lease."""
        self.over.set()
        self.thread.join()
        os.close(self.file)
        _HELD.discard(self.token)
        found = _read(self.path)
        if found is not None and found.get("token") == self.token:
            with contextlib.suppress(OSError):
                self.path.unlink()


@contextlib.contextmanager
def one_writer(
    path: Path, what: str, wait: bool = False, say: Callable[[str], None] | None = None
) -> Iterator[Lease | None]:
    """Within: the lease of a file, in an existing folder; None where the file system is read-only.

    Args:
        path: file of the lease.
        what: what is written, for the message.
        wait: wait for another process instead of raising.
        say: called once with a sentence if this process waits.

    Raises:
        Held: another process holds it, and `wait` is False.
    """
    lease = _acquire(path, what, wait, say)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


def _acquire(path: Path, what: str, wait: bool, say: Callable[[str], None] | None) -> Lease | None:
    seen: dict[str, Any] | None = None
    since = began = time.monotonic()
    while True:
        try:
            return Lease(path)
        except FileExistsError:
            pass
        except OSError:
            if os.access(path.parent, os.W_OK):
                raise
            return None
        found = _read(path)
        now = time.monotonic()
        if found is None:  # just released, or just created and not yet written
            if now - began > STALE:
                _discard(path, None)
            time.sleep(0.01)
            continue
        local = _alive(found)
        moved = seen is not None and (seen.get("token"), seen.get("count")) != (found.get("token"), found.get("count"))
        if seen is None or moved:
            seen, since = found, now
        if local is False or (local is None and now - since > STALE):
            _discard(path, found)
            continue
        if (local or moved) and not wait:
            raise Held(f"{path.parent}: {_holder(found)} is writing {what}; wait for it, or stop it")
        if say is not None and (wait or now - began > 1):
            say(f"waiting for {_holder(found)}, which writes {what}")
            say = None
        time.sleep(LOOK)


def _discard(path: Path, stale: dict[str, Any] | None) -> None:
    """Remove a stale lease, unless another process replaced it in the meantime."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        os.rename(path, aside)
    except OSError:
        return  # another process was first
    found = _read(aside)
    if found is not None and (stale is None or found.get("token") != stale.get("token")):
        with contextlib.suppress(OSError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes()[:4096])
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _self() -> dict[str, Any]:
    return {"host": socket.gethostname(), "place": _place(), "pid": os.getpid(), "started": _started(os.getpid())}


def _place() -> str:
    """What two processes share if they see each other's ids: machine, boot and namespace of process ids."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> int | None:
    """Start of a process in clock ticks since boot, which no change of the clock alters; None where unknown."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _alive(found: dict[str, Any]) -> bool | None:
    """Whether the holder is alive; None if its processes are not visible here."""
    import psutil

    pid, token = found.get("pid"), found.get("token")
    if found.get("place") != _place() or not isinstance(pid, int) or not 0 < pid < 2**31:
        return None
    if pid == os.getpid():
        return token in _HELD
    return psutil.pid_exists(pid) and found.get("started") == _started(pid)


def _holder(found: dict[str, Any] | None) -> str:
    if found is None:
        return "another process"
    return f"process {str(found.get('pid'))[:20]} on {str(found.get('host'))[:80]}"
