"""A few seeded cases of every reader; `make fuzz` runs any number."""

import pytest

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
    assert [run_case(SEED, i, tmp_path)[0] for i in range(6)] == [run_case(SEED, i, tmp_path)[0] for i in range(6)]
