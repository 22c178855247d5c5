"""A few seeded cases of every reader; `make fuzz` runs any number."""

import pytest

from framecast.core.errors import UserError
from tests.fuzz import fuzzing
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
