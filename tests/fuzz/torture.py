"""Fault injection: `make torture KILLS=100`.

Kills (SIGKILL) at random moments of commands that are then repeated, and compares what they leave with that of an
undisturbed command, byte for byte; writes that fail (ENOSPC: this one and all later ones; EIO: this one); two writers
of one folder at once; a clock that is set back while training. Every command runs in a fork of this process, which has
imported everything, so that all of a command's time is work that a kill can disturb. Needs Linux and a C compiler.
"""

import argparse
import ctypes
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from small_models import forked, write_store  # noqa: E402

import framecast.benchmark.runner  # noqa: E402
import framecast.inference.export  # noqa: E402
import framecast.inference.predict  # noqa: E402
import framecast.reporting.report  # noqa: E402, F401
from framecast.cli import run as command  # noqa: E402
from framecast.media.write import write_video  # noqa: E402
from tests.fuzz.record import record, report  # noqa: E402

PRELOAD = Path(__file__).with_name("failing_writes.c")
LOST, SENTENCE, DIFFER = "killed, then not equal", "failed writes without one sentence", "failed writes, then not equal"
WRITERS, CLOCK = "two writers: lost or mixed rows", "clock set back: not equal"


class Commands:
    """The commands under test, and what each leaves behind when undisturbed.

    Args:
        folder: for data, runs and outputs.
    """

    def __init__(self, folder):
        self.folder = folder
        store = write_store(folder / "data", channels=3, side=32, frames=24)
        write_video(store.clip(0, 0, 24).frames, folder / "film.mp4", 10)
        small = (
            "--profile",
            "tiny",
            "--data",
            folder / "data",
            "--quiet",
            "--train.no-tensorboard",
            "--precision",
            "fp32",
        )
        words = ("train", "multiscale-gan", *small, "--steps", "2", "--out", folder / "trained")
        code, output = self.finish(self.start(words))
        assert code == 0, output
        often = ("--steps", "9", "--train.save-every", "3", "--train.validate-every", "3")
        film, run = folder / "film.mp4", folder / "trained"
        shapes = ("--videos", "6", "--frames", "12", "--size", "32")
        small_benchmark = ("--models", "multiscale-gan:tiny", "--data", folder / "data", "--steps", "2", "--quiet")
        #: name -> arguments without the output, name of the output
        self.words = {
            "train": (("train", "multiscale-gan", *small, *often), "run"),
            "train in stages": (("train", "dreams", *small, *often), "run"),
            "data import": (("data", "import", film), "store"),
            "data make": (("data", "make", "bouncing", *shapes), "store"),
            "data records": (("data", "records", folder / "data"), "records"),
            "predict": (("predict", run, "--input", film, "--horizon", "4"), "final.gif"),
            "export": (("export", run), "export"),
            "report": (("report", run, "--horizon", "2", "--clips", "1"), "page"),
            "benchmark": (("benchmark", *small_benchmark), "benchmark"),
        }
        self.seconds, self.expected, self.writes = {}, {}, {}
        for name in self.words:
            place = self.place(name, "whole")
            began = time.monotonic()
            code, output = self.finish(self.start(self.line(name, place), failing=(place.parent, 0, 0)))
            assert code == 0, output
            self.seconds[name], self.expected[name] = time.monotonic() - began, contents(place)
            self.writes[name] = int((folder / "writes").read_text())
            assert self.expected[name], name
            print(f"{name}: {self.seconds[name]:.1f} s, {self.writes[name]} writes undisturbed", flush=True)

    def place(self, name, kind):
        """Path of the output in an empty folder of its own."""
        folder = self.folder / kind / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder / self.words[name][1]

    def line(self, name, place):
        """All arguments of a command."""
        return [*self.words[name][0], "--out", place]

    def start(self, words, failing=None, clock=None):
        """A started command.

        Args:
            words: its arguments.
            failing: folder, number of the first write that fails in it (0: none), error.
            clock: seconds until the clock is set back by a day.
        """
        log = self.folder / f"log-{time.monotonic_ns()}"
        return forked(self._work, list(map(str, words)), log, failing, clock), log

    def _work(self, words, log, failing, clock):
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.chdir(self.folder)
        os.environ["FRAMECAST_CACHE"] = str(self.folder / "cache")
        if clock is not None:
            real, began = time.time, time.monotonic()
            time.time = lambda: real() - (86_400 if time.monotonic() - began > clock else 0)
        if failing is None:
            return command(words)
        library = ctypes.CDLL(None)
        library.fail_writes(os.fsencode(failing[0]), ctypes.c_long(failing[1]), failing[2])
        code = command(words)
        (self.folder / "writes").write_text(str(library.counted_writes()))
        return code

    def finish(self, started):
        """Exit code and output of a command."""
        process, log = started
        process.join()
        output = log.read_text(errors="replace") if log.is_file() else ""
        log.unlink(missing_ok=True)
        return process.exitcode, output


def contents(path):
    """Bytes of the files that a command makes, and names of those that hold times, without hidden files."""
    if path.is_file():
        return {"": path.read_bytes()}
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if any(part.startswith(".") for part in Path(name).parts):
            continue
        exact = file.suffix in (".npy", ".npz", ".tfrecord", ".safetensors", ".gif", ".png")
        exact = exact or file.name in ("index.json", "meta.json", "config.json")
        found[name] = file.read_bytes() if exact else b""
    return found


def leftovers(place):
    """Hidden files beside an output, and leases."""
    return [p.name for p in place.parent.rglob(".*") if not p.name.startswith(".framecast")]


def repeated(commands, name, place):
    """What is wrong after a disturbed command was repeated; an empty text if it left what an undisturbed one leaves."""
    again = name in ("train", "train in stages", "benchmark", "predict", "report") or not place.exists()
    if again:
        code, output = commands.finish(commands.start(commands.line(name, place)))  # the others do not replace theirs
        if code != 0 or "Traceback" in output:
            return f"repeated: exit code {code}\n{output}"
    found, expected = contents(place), commands.expected[name]
    different = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
    # the lease of a command killed after its output was complete stays until somebody writes there again
    left = [n for n in leftovers(place) if again or not n.endswith(".lock")]
    if different or left:
        return f"different: {sorted(different)}, left: {left}"
    return ""


def kills(commands, count, seed):
    """SIGKILLs spread over all commands: name -> (kills, results that are not equal)."""
    tally = {name: [0, 0] for name in commands.words}
    for number in range(count):
        name, rng = list(commands.words)[number % len(commands.words)], random.Random(f"{seed} {number}")
        for _ in range(50):  # until a kill meets the command alive
            place = commands.place(name, "killed")
            process, _ = commands.start(commands.line(name, place))
            process.join(rng.uniform(0, 1) * commands.seconds[name])
            alive = process.is_alive()
            process.kill()
            process.join()
            if alive and process.exitcode == -signal.SIGKILL:
                break
        else:
            raise AssertionError(f"{name}: ended before every kill")
        fault = repeated(commands, name, place)
        tally[name][0] += 1
        tally[name][1] += bool(fault)
        print(f"kill {number + 1} of {count}: {name}, {fault or 'equal'}", flush=True)
    return tally


def failing_writes(commands, most):
    """Writes of every command that fail: (tried, without one sentence, not equal when repeated)."""
    tried = bad = unequal = 0
    for name, writes in commands.writes.items():
        numbers = range(1, writes + 1) if writes <= most else [1 + i * writes // most for i in range(most)]
        for number in numbers:
            for code in (errno.ENOSPC, errno.EIO):
                place = commands.place(name, "failing")
                failing = (place.parent, number, code)
                ended, output = commands.finish(commands.start(commands.line(name, place), failing))
                sentence = ended in (0, 2) and "Traceback" not in output
                fault = repeated(commands, name, place)
                tried, bad, unequal = tried + 1, bad + (not sentence), unequal + bool(fault)
                if fault or not sentence:
                    what = f"write {number} of {writes}, {os.strerror(code)}: exit code {ended}"
                    print(f"{name}, {what}\n{output}\n{fault}", flush=True)
        print(f"failing writes of {name}: {2 * len(numbers)} tried", flush=True)
    return tried, bad, unequal


def two_writers(commands):
    """Faults of two processes that train into one folder: the second is refused, and the log has every row once."""
    place = commands.place("train", "two")
    both = [commands.start(commands.line("train", place)) for _ in range(2)]
    outputs = [commands.finish(started) for started in both]
    codes, text = sorted(code for code, _ in outputs), "".join(text for _, text in outputs)
    rows = [json.loads(line)["step"] for line in (place / "metrics.jsonl").read_text().splitlines()]
    refused = codes == [0, 2] and "is writing this run" in text
    print(f"two writers: exit codes {codes}", flush=True)
    same = contents(place) == commands.expected["train"]
    return int(not ((refused or codes == [0, 0]) and rows == sorted(rows) and same))


def clock_set_back(commands):
    """Whether a run whose clock is set back by a day differs from an undisturbed one."""
    place = commands.place("train", "clock")
    code, output = commands.finish(commands.start(commands.line("train", place), clock=commands.seconds["train"] / 2))
    print(f"clock set back: exit code {code}", flush=True)
    return int(code != 0 or "Traceback" in output or contents(place) != commands.expected["train"])


def preloaded():
    """Start this program again with the library that lets writes fail."""
    folder = Path(tempfile.mkdtemp(prefix="framecast-torture-"))
    library = folder / "failing_writes.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, PRELOAD, "-ldl"], check=True)
    words = [sys.executable, "-P", __file__, *sys.argv[1:], "--folder", str(folder)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    more = {"LD_PRELOAD": str(library), "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    os.execve(sys.executable, words, {**os.environ, **more})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--writes", type=int, default=12, help="failing writes per command and error")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["kills", "writes"], help="one part; the second has writers and clock too")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results/reliability.json")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is None:
        preloaded()
    commands, failed, figures = Commands(options.folder), 0, {}
    if options.only != "writes":
        tally = kills(commands, options.kills, options.seed)
        figures["kills"] = {f"kills of {name}": number for name, (number, _) in tally.items()}
        figures["kills"] |= {"kills": options.kills, LOST: sum(bad for _, bad in tally.values())}
        failed |= report(figures["kills"], [LOST])
    if options.only != "kills":
        figures["writes"] = {WRITERS: two_writers(commands), CLOCK: clock_set_back(commands)}
        counts = failing_writes(commands, options.writes)
        figures["writes"] |= dict(zip(("failed writes", SENTENCE, DIFFER), counts, strict=True))
        failed |= report(figures["writes"], [WRITERS, CLOCK, SENTENCE, DIFFER])
    if failed:
        print(f"outputs are kept in {options.folder}")
        return failed
    shutil.rmtree(options.folder)
    if options.record:
        for part, found in figures.items():
            record(part, f"make torture KILLS={options.kills} SEED={options.seed}", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
