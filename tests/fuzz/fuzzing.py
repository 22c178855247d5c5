"""Fuzzing of every reader: `make fuzz CASES=10000`; a case is a function of seed and index.

    python tests/fuzz/fuzzing.py --cases 1 --seed 0 --first 1234     repeats one case

A case passes if the reader succeeds or raises a UserError of one sentence, within 20 seconds, with at most 64 times
the size of its input plus 1 GiB of memory (decoded pictures of up to 8192x8192 pixels).
"""

import argparse
import collections
import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ["FRAMECAST_CACHE"] = tempfile.mkdtemp(prefix="framecast-fuzz-cache-")

from framecast.core.errors import UserError  # noqa: E402
from tests.fuzz import targets as t  # noqa: E402
from tests.fuzz.record import record, report  # noqa: E402

SECONDS, TIMES, FREE = 20, 64, 1 << 30
#: Figures that must be 0, and what the fault of a case contains that counts as one; a traceback is any other.
KINDS = {
    "hangs above 20 s": "a hang of",
    "above the memory bound": " MB for ",
    "messages of several lines": "several lines",
}
TRACEBACKS = "tracebacks"
#: Share of cases of the websocket and its access control.
WEB = 0.1


class Hang(BaseException):
    """A case took too long."""


@contextlib.contextmanager
def time_limit(seconds):
    def stop(*_):
        raise Hang

    # processor time, so that a busy machine makes no faults; and the clock, for what waits forever
    before = [signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(100 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def peak():
    """Peak resident memory since `reset_peak`, bytes; 0 where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def reset_peak():
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def run_case(seed, index, folder, names=None):
    """(target, fault) of one case; fault None if it passed."""
    rng = np.random.default_rng([seed, index])
    if names is None and rng.random() < WEB:
        name = ["websocket", "gate"][int(rng.integers(2))]
        return name, _judged(lambda: getattr(t, name)(rng), 0, web=True)
    all_targets = [x for x in t.targets_once() if names is None or x.name in names]
    target = all_targets[int(rng.integers(len(all_targets)))]
    place = folder / "case"
    place.mkdir()
    path = place / target.seed.name
    try:
        if target.seed.is_dir():
            shutil.copytree(target.seed, path)
            changed = path / target.file
        else:
            changed = path = place / (target.file or target.seed.name)
            shutil.copy(target.seed, path)
        changed.write_bytes(target.mutate(rng, changed.read_bytes()))
        _hide_damage(rng, path, changed)
        size = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
        return target.name, _judged(lambda: target.read(path), size)
    finally:
        shutil.rmtree(place)


def _hide_damage(rng, path, changed):
    """Half of the time remove stored checksums, so that what is behind their comparison is reached."""
    if path.is_dir() and rng.integers(2):
        for name in ("checksums.json", "checkpoint.json"):
            for file in path.rglob(name):
                if file != changed:
                    file.unlink()


def _judged(work, size, web=False):
    reset_peak()
    before = peak()
    try:
        with time_limit(SECONDS), contextlib.redirect_stderr(io.StringIO()):
            work()
    except UserError as error:
        if "\n" in str(error) or not str(error):
            return f"a message of several lines: {error}"
    except Hang:
        return f"a hang of more than {SECONDS} s"
    except BaseException:
        return traceback.format_exc()
    used = peak() - before
    return f"{used >> 20} MB for {size} bytes" if used > TIMES * size + FREE else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results/reliability.json")
    options = parser.parse_args()
    began, counts, faults = time.monotonic(), collections.Counter(), {}
    folder = Path(tempfile.mkdtemp(prefix="framecast-fuzz-case-"))
    sys.setrecursionlimit(1000)
    for index in range(options.first, options.first + options.cases):
        name, fault = run_case(options.seed, index, folder)
        counts[name] += 1
        if fault is not None:
            kind = name, fault.strip().splitlines()[-1]
            if kind not in faults:
                print(f"seed {options.seed} case {index} ({name}):\n{fault}\n", flush=True)
            faults.setdefault(kind, (fault.splitlines()[0], []))[1].append(index)
        if (index + 1 - options.first) % 1000 == 0:
            print(f"{index + 1 - options.first} of {options.cases} cases", flush=True)
    shutil.rmtree(folder)
    print(f"{time.monotonic() - began:.0f} s, {len(faults)} kinds of faults")
    figures = {"cases": options.cases, "readers": len(counts), **counted(faults)}
    failed = report(figures, [TRACEBACKS, *KINDS])
    if options.record and not failed:
        record("fuzz", f"make fuzz CASES={options.cases} SEED={options.seed}", figures)
    return failed


def counted(faults):
    """Number of cases of every kind of fault; faults: reader and last line -> first line and indices of the cases."""
    found = dict.fromkeys((TRACEBACKS, *KINDS), 0)
    for first, cases in faults.values():
        found[next((kind for kind, part in KINDS.items() if part in first), TRACEBACKS)] += len(cases)
    return found


if __name__ == "__main__":
    sys.exit(main())
