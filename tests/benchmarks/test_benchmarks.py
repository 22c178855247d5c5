"""Every benchmark runs, in tiny form, and leaves rows with figure, ceiling and ratio."""

import importlib
import json
import math
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import forked, process_settings

from framecast import cli
from framecast.core.types import ClipSpec
from framecast.data.synthetic.bouncing import Bouncing, BouncingConfig
from framecast.models.multiscale_gan.config import PROFILES
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.training.device import Device

ROOT = Path(__file__).parents[2]
SCRIPTS = {  # and how many rows they leave at least: fewer without native bf16 or the emulator
    "training_step": 2,
    "small_steps": 3,
    "processes": 1,
    "hierarchical": 9,
    "autoencoders": 15,
    "full_frame": 2,
    "loader": 3,
    "shards": 3,
    "metrics": 2,
    "comparing": 2,
    "recording": 2,
    "playing": 0,  # 3 with chromium
    "static_page": 0,  # 1 with chromium and the browser's runtime, which the tests' cache does not have
    "scenes": 2,
    "precision_curves": 4,
    "dreams": 4,
    "visual_dynamics": 4,
}


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks, which are no part of the installed package."""
    monkeypatch.syspath_prepend(str(ROOT))

    def found(name: str) -> ModuleType:
        return importlib.import_module(f"benchmarks.{name}")

    return found


class ForkedCommand:
    """Stands in for `subprocess.Popen` of `python -m MODULE`: forked from this process, which has imported torch."""

    def __init__(self, command, stdout, text, cwd=None, env=None):
        assert command[:2] == [sys.executable, "-m"]
        module, words = command[2], command[3:]
        ours, end = os.pipe()

        def work():
            os.close(ours)
            os.dup2(end, 1)
            os.environ.update(env or {})
            with os.fdopen(end, "w", buffering=1) as sys.stdout:
                if module == "framecast":
                    return cli.run(words)
                return importlib.import_module(module).main(words)

        self.process = forked(work)
        os.close(end)
        self.pid, self.stdout = self.process.pid, os.fdopen(ours)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.join()
        self.stdout.close()

    def poll(self):
        return self.process.exitcode

    def communicate(self):
        with self:
            return self.stdout.read(), None

    @property
    def returncode(self):
        return self.process.exitcode

    def terminate(self):
        self.process.terminate()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_writes_rows(script, load, tmp_path, capsys, monkeypatch):
    fork = multiprocessing.get_context("fork")  # which imports nothing anew
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: fork)
    module = load(script)
    if script in ("playing", "processes"):
        monkeypatch.setattr(module, "subprocess", SimpleNamespace(Popen=ForkedCommand, PIPE=subprocess.PIPE))
    out = tmp_path / "results" / "rows.jsonl"
    arguments = ["--tiny", "--device", "cpu", "--out", str(out), "--charts", str(tmp_path)]
    load("row").run_script(module.run, module.__doc__, arguments)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []
    printed = capsys.readouterr().out
    assert len(rows) >= SCRIPTS[script]
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert row["name"] in printed
        assert row["tiny"] is True
        assert "goal" not in row
        assert row["unit"]
        assert row["against"]
        assert math.isfinite(row["figure"])
        assert row["ceiling"] > 0
        assert row["ratio"] == pytest.approx(row["figure"] / row["ceiling"], rel=1e-4)
        assert set(row["machine"]) == {"gemm_bf16_gflops", "gemm_fp32_gflops", "copy_gbs"}
        assert min(row["machine"].values()) > 0
        hardware = row["hardware"]
        assert {"cpu", "cores", "torch_threads", "torch", "device", "system", "date", "commit"} == set(hardware)
        assert hardware["torch"] == str(torch.__version__)
    if script == "precision_curves":
        assert (tmp_path / "precision-curves.svg").read_text(encoding="utf-8").startswith("<?xml")


class Constant:
    """A checkout whose work always takes the same time."""

    def __init__(self, seconds, order):
        self.taken, self.order = seconds, order

    def seconds(self, kind, name, count):
        self.order.append(self)
        return self.taken


def test_checkouts_are_measured_in_turns_and_their_ratios_are_of_pairs(load):
    order = []
    before, after = Constant(0.5, order), Constant(0.6, order)
    ((name, seconds, ratios),) = load("paired").measured([("steps", "c-ae")], before, after, 4)
    assert (name, seconds, ratios) == ("steps c-ae", 0.5, [pytest.approx(1.2)] * 4)
    assert order[2:] == [after, before, before, after, after, before, before, after]


def test_paired_measures_steps_batches_and_reading(load, tmp_path, monkeypatch):
    module = load("paired")
    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path / "cache"))
    Bouncing(BouncingConfig(videos=6, frames=24)).prepare(tmp_path / "data")
    load("recording")._generate(tmp_path / "phone.mp4", 72, 128, 1)
    data, video = tmp_path / "data", tmp_path / "phone.mp4"
    work = [module._steps(data, "dreams"), *(module._work(data, video, kind) for kind in ("loading", "reading"))]
    assert all(measure(1) > 0 for measure in work)
    assert {"c-ae", "dreams", "multiscale-gan"} <= set(module.small_models())


def test_all_benchmarks_run_in_sequence(load, tmp_path, capfd):
    main = load("__main__")
    assert set(main.SCRIPTS) == set(SCRIPTS)
    out = tmp_path / "rows.jsonl"
    assert main.main(["--tiny", "--out", str(out), "--only", "metrics"]) == 0
    assert "--- metrics" in capfd.readouterr().out
    assert [json.loads(line)["unit"] for line in out.read_text(encoding="utf-8").splitlines()] == ["s", "MB"]


def operations(model: MultiscaleGAN, clips: int) -> int:
    """Of a plain step, by hand: each convolution forward, for its weights and for its input; but nobody wants the
    gradient of the coarsest scale's input, which is data."""
    total, side = 0, model.config.patch // 2 ** (model.config.num_scales - 1)
    for k, scale in enumerate(model.generator.scales):
        convolutions = [layer.weight for layer in scale.layers if hasattr(layer, "weight")]
        forward = [2 * weight.numel() * clips * side**2 for weight in convolutions]
        total += 3 * sum(forward) - (forward[0] if k == 0 else 0)
        side *= 2
    return total


def test_operations_are_counted_while_they_run(load):
    config = replace(PROFILES["tiny"](), adversarial=False)
    step = load("training_step").Step(config, 2, Device(torch.device("cpu")))
    assert load("ceiling").count_flops(step) == operations(step.state.model, 2)


def test_plain_step_at_paper_widths_has_450_gflop():
    with torch.device("meta"):
        model = MultiscaleGAN(
            replace(PROFILES["default"](), adversarial=False), ClipSpec(channels=3, height=32, width=32)
        )
    assert operations(model, 8) == pytest.approx(450e9, rel=0.01)


def test_rows_are_stored_only_on_request(load, tmp_path, monkeypatch):
    row, results = load("row"), tmp_path / "results.jsonl"
    monkeypatch.setattr(row, "RESULTS", results)
    rows = row.run_script(load("metrics").run, "", ["--tiny"])
    assert len(rows) == 2
    assert not results.exists()


def test_goals_and_ratios(load):
    row = load("row")
    machine = load("ceiling").Ceiling(bf16=900.0, fp32=450.0, copy=10.0)
    assert machine.floor(90e9, "bf16") == pytest.approx(0.1)
    assert machine.floor(90e9, "fp32") == pytest.approx(0.2)
    common = {
        "name": "x",
        "unit": "s",
        "ceiling": 0.5,
        "against": "y",
        "machine": machine,
        "device": torch.device("cpu"),
    }
    assert row.Row(figure=1.0, **common).ratio == 2
    assert row.Row(figure=1.0, **common).reached is None
    assert row.Row(figure=1.0, goal=2.0, **common).reached
    assert not row.Row(figure=1.1, goal=2.0, **common).reached
    assert row.Row(figure=1.1, goal=1.0, goal_is="figure", better="more", **common).reached
    assert "NOT reached" in row.Row(figure=1.1, goal=2.0, **common).line()


#: Work that holds 200 MB: for a moment where the system keeps a mark, else so long that a sample falls into it.
MEASURED = """
import sys, time
from benchmarks.memory import peak_memory

def work():
    held = bytes([1]) * 200_000_000
    time.sleep(0 if sys.platform == "linux" else 1)
    return len(held)

bytes([1]) * 400_000_000
print(*peak_memory(work))
"""


def test_peak_memory_is_measured():
    """In a process of its own: one that ran other tests may take or give back memory meanwhile."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], **process_settings(), cwd=ROOT, capture_output=True, check=True
    )
    result, grown, highest = map(float, done.stdout.split())
    assert result == 200_000_000
    assert 190 < grown < 260
    assert highest > grown


def test_relative_difference(load):
    found = load("precision_curves").relative(np.array([1.0, -2.0]), np.array([1.5, -1.0]))
    assert found.tolist() == [0.5, 0.5]


def test_speed_page_keeps_the_newest_row_of_every_name(load, tmp_path):
    def row(name: str, figure: float, **more: object) -> dict:
        hardware = {"cpu": "A", "cores": 2, "torch_threads": 2, "torch": "2", "device": "cpu", "date": "2026-01-02T03"}
        found = {"name": name, "figure": figure, "unit": "s", "ceiling": 1.0, "against": "floor", "ratio": figure}
        return {**found, "machine": {"gemm_fp32_gflops": 300.0}, "hardware": hardware, **more}

    goal = {"goal": 1.5, "goal_is": "ratio", "reached": False}
    rows = [row("step", 3.0), row("load", 5.0), row("step", 2.0, **goal), row("toy", 1.0, tiny=True)]
    rows.append(row("rate", 0.25, unit="frames/s", goal=0.5, goal_is="ratio", reached=False))
    rows.append(row("layers", 6.0, details={"times_the_layers_alone": 1.5}))
    text = load("speed_page").page(rows, tmp_path)
    table = [line for line in text.splitlines() if line.startswith("| ") and "what" not in line]
    assert table == [
        "| load | 5 s | 1 s (floor) | 5 | – | 300 GFLOP/s | 2026-01-02 |",
        "| step | 2 s | 1 s (floor) | 2 | 1.5 times: not reached | 300 GFLOP/s | 2026-01-02 |",
        "| rate | 0.25 frames/s | 1 frames/s (floor) | 4 | 2 times: not reached | 300 GFLOP/s | 2026-01-02 |",
        "| layers | 6 s | 1 s (floor) | 6 (1.5 its layers alone) | – | 300 GFLOP/s | 2026-01-02 |",
    ]


def test_operations_of_a_gradient_within_a_loss_are_counted(load):
    weight = torch.ones(4, 4, requires_grad=True)
    point = torch.ones(2, 4, requires_grad=True)

    def work() -> None:
        (slope,) = torch.autograd.grad((point @ weight).square().sum(), point, create_graph=True)
        slope.square().sum().backward()

    # point @ weight, its gradient for point, and of these two products the gradients for both factors
    assert load("ceiling").count_flops(work) == 6 * (2 * 2 * 4 * 4)
