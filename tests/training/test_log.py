"""Log rows and progress bar of a run."""

import errno
import json
import time

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.training.log import Log, Progress, metrics_and_damage, read_metrics


def test_rows_are_json_and_non_finite_numbers_are_null(tmp_path):
    log = Log(tmp_path)
    log.scalars(1, {"a": 1.5, "b": float("nan"), "c": float("inf")}, stage="main")
    log.image(1, "nothing", np.zeros((3, 4, 4), np.uint8))
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1, "stage": "main", "a": 1.5, "b": None, "c": None}]


def test_resuming_drops_rows_of_later_steps(tmp_path):
    log = Log(tmp_path)
    for step in range(1, 6):
        log.scalars(step, {"a": step})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "a"')  # cut by a kill
    assert [r["step"] for r in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    log = Log(tmp_path, step=3)
    log.scalars(4, {"a": 44})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["a"] for line in lines] == [1, 2, 3, 44]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    Log(tmp_path, step=0).close()
    assert read_metrics(tmp_path) == []


def test_damaged_rows_are_skipped_and_counted(tmp_path, capsys):
    good = [b'{"step": 1, "a": 1.0}', b'{"step": 2, "a": 2.0}']
    bad = [b"\xff\xfe", b"not json", b'{"a": 3}', b"[" * 100_000, b"[1]", b'{"step": "4"}', b'{"step": 5, "a": {}}']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good[0], *bad, good[1]]) + b'\n{"step": 3, "a"')
    rows, damaged = metrics_and_damage(tmp_path)
    assert [r["step"] for r in rows] == [1, 2]
    assert damaged == len(bad)
    Log(tmp_path, step=2).close()
    assert f"{len(bad)} damaged rows were removed" in capsys.readouterr().err
    assert metrics_and_damage(tmp_path) == (rows, 0)


def test_tensorboard_gets_scalars_and_images(tmp_path):
    log = Log(tmp_path, trackers=["tensorboard"])
    log.scalars(1, {"a": 1.0})
    log.scalars(2, {"a": 2.0}, board=False)
    log.image(1, "row", np.zeros((3, 8, 8), np.uint8))
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("a")] == [(1, 1.0)]
    assert found.Tags()["images"] == ["row"]


def test_resuming_drops_later_steps_in_tensorboard(tmp_path, monkeypatch):
    log = Log(tmp_path, trackers=["tensorboard"])
    for step in (10, 20, 30):
        log.scalars(step, {"a": step})
    log.close()
    # files are read in the order of their names: second, machine, process and number of the writer, so that 10 < 9
    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)
    log = Log(tmp_path, step=20, trackers=["tensorboard"])
    log.scalars(30, {"a": 33})
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("a")] == [(10, 10.0), (20, 20.0), (30, 33.0)]


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    log = Log(tmp_path)

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log, "file", Full())
    with pytest.raises(UserError, match=r"the log could not be written \(No space left on device\).*same command"):
        log.scalars(1, {"a": 1.0})


def test_bar_prints_lines_unless_quiet(capsys):
    with Progress("small", 10, "steps") as bar:
        bar.update(3)
        bar.print("validation loss 0.1")
    assert capsys.readouterr().err == "validation loss 0.1\n"
    with Progress("small", 10, "steps", quiet=True) as bar:
        bar.print("not printed")
    assert capsys.readouterr().err == ""
