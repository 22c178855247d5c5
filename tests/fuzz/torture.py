"""Fault injection: `make torture KILLS=100`.

Kills (SIGKILL) at random moments of commands that are repeated until they end, and compares what they leave with an
undisturbed run, byte for byte; failing writes (ENOSPC, EIO) at the n-th system call of a command; two writers of one
folder at once; a clock that is set back while training.
"""

import argparse
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

#: Code run in a child before the command: fails the n-th write, or sets the clock back after a while.
FAIL = """
import builtins, errno, io, os, sys
number, code, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
count = 0
def counted(real):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == number:
            raise OSError(code, os.strerror(code), place)
        return real(*args, **kwargs)
    return call
for name in ("replace", "fsync", "rename", "mkdir", "link", "write"):
    setattr(os, name, counted(getattr(os, name)))
real_open = builtins.open
class Failing:
    def __init__(self, file): self.file = file
    def write(self, data): return counted(self.file.write)(data)
    def __getattr__(self, name): return getattr(self.file, name)
    def __iter__(self): return iter(self.file)
    def __enter__(self): self.file.__enter__(); return self
    def __exit__(self, *rest): return self.file.__exit__(*rest)
def opened(file, mode="r", *args, **kwargs):
    found = real_open(file, mode, *args, **kwargs)
    inside = isinstance(file, (str, os.PathLike)) and place in os.path.abspath(os.fspath(file))
    return Failing(found) if inside and set(mode) & set("wax+") else found
builtins.open = io.open = opened
from framecast.cli import run
sys.exit(run(sys.argv[4:]))
"""
CLOCK = """
import sys, time
real, began = time.time, time.monotonic()
time.time = lambda: real() - (86_400 if time.monotonic() - began > float(sys.argv[1]) else 0)
from framecast.cli import run
sys.exit(run(sys.argv[2:]))
"""


def environment(folder):
    """Variables of the children: this checkout, one thread, a cache of their own."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        "FRAMECAST_CACHE": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
    }


def start(words, folder, code=None, extra=()):
    """A started command of framecast."""
    head = ["-m", "framecast"] if code is None else ["-c", code, *map(str, extra)]
    command = [sys.executable, "-P", *head, *map(str, words)]
    return subprocess.Popen(
        command, env=environment(folder), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process, allowed=(0,)):
    """Output of a command that must end with one of the exit codes."""
    output = process.communicate()[0]
    if process.returncode not in allowed or "Traceback" in output:
        raise AssertionError(f"exit code {process.returncode}:\n{output}")
    return output


def contents(path):
    """Bytes of the files that a command makes, without logs, times and hidden files."""
    if path.is_file():
        return {"": path.read_bytes()}
    found = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        exact = file.suffix in (".npy", ".npz", ".tfrecord", ".safetensors", ".gif")
        if exact or name.startswith("weights/") or file.name in ("index.json", "meta.json", "checksums.json"):
            found[name] = file.read_bytes()
    return found


def commands(folder):
    """Name -> (arguments with OUT for the output, output): what is killed."""
    data, run = folder / "data", folder / "trained"
    settings = ("--quiet", "--train.save-every", "3", "--train.validate-every", "3", "--train.no-tensorboard")
    small = ("--profile", "tiny", "--data", data, "--steps", "9", *settings)
    return {
        "train": (("train", "multiscale-gan", *small, "--out", "OUT"), "run"),
        "train stages": (("train", "dreams", *small, "--out", "OUT"), "run"),
        "import": (("data", "import", folder / "film.mp4", "--out", "OUT"), "store"),
        "make": (
            ("data", "make", "bouncing", "--videos", "6", "--frames", "12", "--size", "32", "--out", "OUT"),
            "store",
        ),
        "records": (("data", "records", data, "--out", "OUT"), "records"),
        "predict": (("predict", run, "--input", folder / "film.mp4", "--horizon", "4", "--out", "OUT"), "final.gif"),
        "export": (("export", run, "--out", "OUT"), "export"),
        "report": (("report", run, "--horizon", "2", "--clips", "1", "--out", "OUT"), "page"),
        "benchmark": (
            ("benchmark", "--models", "multiscale-gan:tiny", "--data", data, "--steps", "2", "--quiet", "--out", "OUT"),
            "benchmark",
        ),
    }


def prepare(folder):
    """Data and a trained run that the commands read."""
    from small_models import write_store

    from framecast.media.write import write_video

    store = write_store(folder / "data", channels=3, side=32, frames=24)
    write_video(store.clip(0, 0, 24).frames, folder / "film.mp4", 10)
    words = ("train", "multiscale-gan", "--profile", "tiny", "--data", folder / "data", "--steps", "2", "--quiet")
    finish(start((*words, "--out", folder / "trained"), folder))


def named(words, out):
    return [out if word == "OUT" else word for word in words]


def killed(name, words, out, folder, rng, seconds):
    """Repeat a command, killed at a random moment, and then let it end; number of kills that met it alive."""
    process = start(named(words, out), folder)
    time.sleep(rng.uniform(0.2, 1.05) * seconds)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    again = named(words, out)
    if name not in ("train", "train stages", "benchmark", "predict", "report") and out.exists():
        return alive  # complete: such a command does not repeat itself
    finish(start(again, folder))
    return alive


def kills(folder, count, seed):
    """SIGKILLs spread over all commands; raises at the first difference."""
    rng, made = random.Random(seed), commands(folder)
    expected, seconds = {}, {}
    for name, (words, out) in made.items():
        place = folder / "whole" / name / out
        began = time.monotonic()
        finish(start(named(words, place), folder))
        seconds[name], expected[name] = time.monotonic() - began, contents(place)
        assert expected[name] or name in ("report", "benchmark"), name
    alive = 0
    for number in range(count):
        name = list(made)[number % len(made)]
        words, out = made[name]
        place = folder / "killed" / str(number) / out
        alive += killed(name, words, place, folder, rng, seconds[name])
        left = [p.name for p in place.parent.iterdir() if p.name.startswith(".")]
        if contents(place) != expected[name] or left:
            raise AssertionError(f"seed {seed} kill {number} ({name}): differs, or left {left}")
        shutil.rmtree(place.parent)
        print(f"kill {number + 1} of {count}: {name}, equal", flush=True)
    return alive


def failing_writes(folder, most):
    """Every n-th write of a command fails; it must end in one sentence and leave a folder that it can use."""
    tried = 0
    for name, (words, out) in commands(folder).items():
        if name in ("benchmark", "report"):
            continue
        for number in range(1, most + 1):
            code = errno.ENOSPC if number % 2 else errno.EIO
            place = folder / "failing" / out
            process = start(named(words, place), folder, FAIL, (number, code, folder / "failing"))
            output = finish(process, allowed=(0, 2))
            ended = process.returncode == 0
            tried += 1
            if not ended:
                finish(start(named(words, place), folder))
            assert output is not None
            assert place.exists(), name
            shutil.rmtree(place.parent)
            if ended:
                break
    return tried


def two_writers(folder):
    """Two processes that train into one folder: one is refused, and the log has every row once."""
    words = commands(folder)["train"][0]
    place = folder / "two"
    both = [start(named(words, place), folder) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 2], [0, 0]), outputs  # the second may start after the first has ended
    assert all("is writing this run" in o for o, p in zip(outputs, both, strict=True) if p.returncode == 2), outputs
    rows = [json.loads(line)["step"] for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert rows == sorted(rows), rows
    return codes


def clock_set_back(folder):
    """A run whose clock is set back by a day saves the weights of an undisturbed one."""
    words, out = commands(folder)["train"]
    finish(start(named(words, folder / "clock"), folder, CLOCK, (3,)))
    assert contents(folder / "clock") == contents(folder / "whole" / "train" / out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--writes", type=int, default=12, help="failing writes per command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="framecast-torture-"))
    prepare(folder)
    alive = kills(folder, options.kills, options.seed)
    print(f"{options.kills} of {options.kills} kills: results equal, {alive} of them while the command ran")
    print(f"two writers: exit codes {two_writers(folder)}")
    clock_set_back(folder)
    print("clock set back: weights equal")
    print(f"failing writes: {failing_writes(folder, options.writes)} commands, each one sentence or success")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
