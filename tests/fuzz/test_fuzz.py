"""A few seeded cases of every reader; `make fuzz` runs any number."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from framecast.core.errors import UserError
from tests.fuzz import fuzzing
from tests.fuzz import record as recording
from tests.fuzz.fuzzing import run_case
from tests.fuzz.targets import gate, targets_once, websocket

SEED = 1


def test_changed_files_are_read_or_refused_in_one_sentence(tmp_path):
    faults = {}
    for number, target in enumerate(targets_once()):
        for index in range(2):
            _, fault = run_case(SEED, 2 * number + index, tmp_path, names=(target.name,))
            if fault is not None:
                faults[target.name, 2 * number + index] = fault
    assert not faults, "\n".join(f"{k}: {v}" for k, v in faults.items())


@pytest.mark.parametrize("work", [websocket, gate])
def test_changed_messages_and_headers_never_raise(work):
    import numpy as np

    for index in range(40):
        work(np.random.default_rng([SEED, index]))


def test_a_case_is_a_function_of_seed_and_index(tmp_path):
    assert [run_case(SEED, i, tmp_path)[0] for i in range(3)] == [run_case(SEED, i, tmp_path)[0] for i in range(3)]


def planted_hang():
    while True:
        pass


def planted_memory():
    assert b"\x01" * (fuzzing.FREE + (64 << 20))


def planted_lines():
    raise UserError("two\nlines")


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        (lambda: 1 // 0, "ZeroDivisionError"),
        (planted_hang, "a hang"),
        (planted_memory, "MB for 0 bytes"),
        (planted_lines, "several lines"),
    ],
)
def test_planted_faults_are_found(work, fault, monkeypatch):
    monkeypatch.setattr(fuzzing, "SECONDS", 1)
    monkeypatch.setattr(fuzzing, "FREE", 32 << 20)
    assert fault in fuzzing._judged(work, 0)


def test_a_sentence_and_a_small_result_are_no_faults():
    def refused():
        raise UserError("one sentence")

    assert fuzzing._judged(refused, 0) is None
    assert fuzzing._judged(lambda: None, 0) is None


def test_the_page_shows_the_stored_figures():
    results = recording.RESULTS.load()["results"]
    page = recording.PAGE.read_text()
    assert recording.with_table(page, results) == page


def test_faults_are_counted_by_their_kind():
    faults = {
        ("a", "1"): ("Traceback (most recent call last):", [1, 2]),
        ("b", "2"): ("a hang of more than 20 s", [3]),
        ("c", "3"): ("1100 MB for 12 bytes", [4]),
    }
    assert list(fuzzing.counted(faults).values()) == [2, 1, 1, 0]


def test_a_fault_fails_the_run(capsys):
    assert recording.report({"cases": 3, "tracebacks": 0}, ["tracebacks"]) == 0
    assert recording.report({"cases": 3, "tracebacks": 1}, ["tracebacks"]) == 1
    assert "tracebacks  1" in capsys.readouterr().out


WRITES = """
import ctypes, os, sys
folder, code = sys.argv[1], int(sys.argv[2])
library = ctypes.CDLL(None)
library.fail_writes(os.fsencode(folder), ctypes.c_long(2), code)
errors = []
for name in "abc":
    try:
        os.mkdir(os.path.join(folder, name))
    except OSError as error:
        errors.append(error.errno)
os.mkdir(os.path.dirname(folder) + "/beside")
print(errors, library.counted_writes(), sorted(os.listdir(folder)))
"""


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform != "linux", reason="needs Linux and a C compiler")
@pytest.mark.parametrize(("code", "times", "made"), [(errno.ENOSPC, 2, ["a"]), (errno.EIO, 1, ["a", "c"])])
def test_a_full_disk_fails_all_later_writes_and_a_fault_one(tmp_path, code, times, made):
    library, folder = tmp_path / "failing.so", tmp_path / "place"
    folder.mkdir()
    source = Path(__file__).with_name("failing_writes.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    words = [sys.executable, "-S", "-c", WRITES, str(folder), str(code)]
    done = subprocess.run(words, env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True)
    assert done.stdout.strip() == f"{[code] * times} 3 {made}", done.stderr
