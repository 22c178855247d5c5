"""Benchmarks: equal tables however often they are stopped, shards that merge, errors reported before the first run."""

import csv
import dataclasses
import functools
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cli_support import refused, store, work  # noqa: F401
from small_models import forked, write_store

import framecast.benchmark.job as trials
import framecast.benchmark.plan as plans
import framecast.benchmark.runner as runner
from framecast.benchmark.table import difference, joined
from framecast.core.errors import UserError
from framecast.data.store import DatasetWriter
from framecast.metrics.averages import t_quantile
from framecast.metrics.scores import BASELINES
from framecast.reporting.benchmark_page import describe, write_benchmark
from framecast.training.run_folder import open_run
from framecast.training.signals import Interrupted, Signals
from framecast.training.step import NotFinite

MODELS = ("multiscale-gan:tiny --model.no-adversarial", "judged=multiscale-gan:tiny --optim.generator-lr 1e-3")
SETTINGS = {"steps": 4, "horizon": 4, "clips": 3, "precision": "fp32", "device": "cpu", "quiet": True, "show": 1}


start_process = runner._start


def in_process(job, signals=None):
    """A run made in this process: quicker, where nothing is killed."""
    try:
        trials.work(job)
    except NotFinite as fault:
        trials.write_json(Path(job["result"]), {**trials.begun(job), "state": "failed", "fault": str(fault)})
        return 1
    return 0


class ForkedJob:
    """Stands in for `subprocess.Popen`: the job forked from this process, which has imported torch."""

    def __init__(self, command, stdin):
        end, ours = os.pipe()

        def work():
            os.close(ours)
            os.dup2(end, 0)
            return trials.main(command[-1])

        self.process = forked(work)
        os.close(end)
        self.stdin = os.fdopen(ours, "wb")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stdin.close()
        self.process.join()

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode


@pytest.fixture
def within(monkeypatch):
    """The command with all runs in this process."""
    monkeypatch.setattr(runner, "_start", in_process)
    return runner.run_benchmark


@pytest.fixture
def plainly(within, monkeypatch):
    """The same without pages and trial steps, where only figures matter."""
    monkeypatch.setattr(runner, "_tried", lambda *_: {})
    for name in ("write_comparison", "picture", "write_benchmark"):
        monkeypatch.setattr(runner, name, lambda *_, **__: None)
    return within


def lasting(table):
    """A table without what is measured in seconds."""
    return {k: v for k, v in json.loads(json.dumps(table)).items() if k not in ("costs", "runs")}


MADE = {}


def whole_out():
    return work() / "benchmark-whole"


@pytest.fixture
def whole(within):
    """Two models from two seeds, never stopped; made once."""
    if not MADE:
        MADE.update(within(MODELS, store(), seeds=(0, 1), out=whole_out(), **SETTINGS))
    return MADE


# ------------------------------------------------------------------------------------------------------- one table


def test_the_folder_holds_runs_results_comparison_and_table(whole):
    out = whole_out()
    assert {p.name for p in out.iterdir()} == {"plan.json", "table.json", "table.csv", "benchmark.html", "still"}
    assert {p.name for p in (out / "still").iterdir()} == {
        *("runs", "results", "asked.json", "film.webp", "strip.png"),
        *("comparison.json", "comparison.csv", "comparison.html"),
    }
    run, result = out / "still/runs/judged-seed1", json.loads((out / "still/results/judged-seed1.json").read_text())
    assert not (run / "checkpoint.pt").exists()
    assert [p.name for p in (run / "weights").iterdir()] == ["step-4"]
    assert open_run(run).config.train.seed == 1
    assert result["state"] == "finished"
    assert result["steps"] == 4
    assert result["parameters"] == sum(p.numel() for p in open_run(run).model().parameters())
    assert result["command"].startswith("framecast train multiscale-gan --profile tiny --data still --steps 4 --seed 1")
    assert result["command"].endswith("--optim.generator-lr 1e-3")
    assert {"hardware", "versions", "date", "seconds", "validation"} <= set(result)
    assert result["sitting_cpu_seconds"] > 0
    assert str(work()) not in (out / "table.json").read_text() + (out / "benchmark.html").read_text()
    assert json.loads((out / "table.json").read_text()) == json.loads(json.dumps(whole))


def test_figures_are_means_of_the_seeds_of_the_comparison(whole):
    result = json.loads((whole_out() / "still/comparison.json").read_text())
    rows = {row["name"]: row for row in whole["data"]["still"]["rows"]}
    assert set(rows) == {"multiscale-gan:tiny --model.no-adversarial", "judged", *BASELINES}
    own = [result["means"][f"judged seed {s}"]["psnr"] for s in (0, 1)]
    found = rows["judged"]["figures"]["psnr"]
    assert found["seeds"] == [own[0]["mean"], own[1]["mean"]]
    assert found["mean"] == pytest.approx(sum(found["seeds"]) / 2)
    clips = sum((i["high"] - i["low"]) / 2 for i in own) / 2
    variation = t_quantile(1) * abs(found["seeds"][0] - found["seeds"][1]) / 2  # std / sqrt(2) of two numbers
    assert (found["high"] - found["low"]) / 2 == pytest.approx((clips**2 + variation**2) ** 0.5)
    apart = whole["data"]["still"]["differences"]["psnr"]
    gap = apart.get("judged", {}).get("copy-last") or apart["copy-last"]["judged"]
    assert abs(gap["mean"]) == pytest.approx(abs(rows["judged"]["to_copy_last"]["psnr"]["mean"]))
    gain = rows["judged"]["to_copy_last"]["psnr"]["mean"]
    assert gain == pytest.approx(found["mean"] - rows["copy-last"]["figures"]["psnr"]["mean"])
    assert rows["copy-last"]["figures"]["psnr"]["mean"] == result["means"]["copy-last"]["psnr"]["mean"]
    series = result["predictors"]
    at2 = [series[f"judged seed {s}"]["psnr"]["mean"][1] for s in (0, 1)]
    assert rows["judged"]["by_frame"]["psnr"]["mean"][1] == pytest.approx(sum(at2) / 2)
    means = [row["figures"][whole["data"]["still"]["rank_by"]]["mean"] for row in whole["data"]["still"]["rows"]]
    assert means == sorted(means, reverse=True)
    lines = list(csv.DictReader((whole_out() / "table.csv").open()))
    line = next(x for x in lines if (x["model"], x["metric"], x["frame"]) == ("judged", "psnr", "2"))
    assert float(line["mean"]) == pytest.approx(sum(at2) / 2)
    assert line["seeds"] == "0 1"


def test_one_seed_has_the_interval_of_the_clips():
    one = {"mean": 2.0, "low": 1.0, "high": 3.0}
    assert joined([one]) == {"mean": 2.0, "low": 1.0, "high": 3.0, "seeds": [2.0]}
    assert joined([one, {**one, "low": None}])["low"] is None
    assert joined([one, {"mean": None, "low": None, "high": None}])["mean"] is None


def test_objects_named_by_the_data_are_in_table_and_page(within, tmp_path):
    """The baselines' figures are those of the comparison; a model's are means over its seeds."""
    things = {"size": [32, 32], "grounds": [[30, 30, 30]]}
    things["things"] = [{"name": "square", "colours": [[220, 220, 220]], "least": 4, "near": 4}]
    with DatasetWriter(tmp_path / "named", fps=10, meta={"objects": things}) as writer:
        for left in (2, 6, 9):
            clip = np.full((24, 3, 32, 32), 30, np.uint8)
            for t in range(24):
                clip[t, :, 8:14, (left + t) % 26 :][..., :6] = 220
            writer.add(clip)
    settings = {**SETTINGS, "steps": 1, "clips": 2}
    table = within(
        "multiscale-gan:tiny --model.no-adversarial", tmp_path / "named", seeds=(0, 1), out=tmp_path, **settings
    )
    found = table["data"]["named"]["objects"]
    result = json.loads((tmp_path / "named/comparison.json").read_text())["objects"]
    assert found["things"] == ["all", "square"]
    name = "multiscale-gan:tiny --model.no-adversarial"
    for metric in ("found", "present"):
        own = [result["means"][f"{name} seed {s}"][metric]["square"]["mean"] for s in (0, 1)]
        assert found["rows"][name][metric]["square"]["mean"] == pytest.approx(sum(own) / 2)
        base = result["means"]["copy-last"][metric]["square"]["mean"]
        assert found["rows"]["copy-last"][metric]["square"]["mean"] == base
    assert found["rows"]["copy-last"]["present"]["square"]["mean"] == 1
    assert found["by_frame"]["copy-last"]["found"]["mean"] == result["rows"]["copy-last"]["found"]["all"]["mean"]
    page = (tmp_path / "benchmark.html").read_text()
    assert "Object recall and presence, by colour" in page
    assert "<th>square</th>" in page


def test_differences_are_taken_seed_by_seed_also_where_a_run_failed():
    means = {"a0": 1.0, "a1": 2.0, "a2": 6.0, "b1": 1.5, "b2": 5.0, "copy-last": 0.0}
    paired = {x: {y: {"mean": means[x] - means[y], "low": -9, "high": 9} for y in means if y > x} for x in means}

    def of(a, b):
        return difference({"paired": {"psnr": paired}}, "psnr", a, b)["seeds"]

    three, two = {0: "a0", 1: "a1", 2: "a2"}, {1: "b1", 2: "b2"}
    assert of(three, two) == [0.5, 1.0]
    assert of(two, three) == [-0.5, -1.0]
    assert of(three, {None: "copy-last"}) == [1.0, 2.0, 6.0]
    assert of(three, {1: "b1"}) == [-0.5, 0.5, 4.5]


def test_page_shows_every_row_and_makes_no_request(whole):
    text = (whole_out() / "benchmark.html").read_text()
    for name in ("judged", *BASELINES, "framecast train multiscale-gan", "still/comparison.html", "data:image/png"):
        assert name in text
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "").replace("https://www.w3", "")
    assert "judged" in describe(whole)
    assert whole["data"]["still"]["objects"] is None
    assert "object recall" not in text


def test_page_escapes_names(whole, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    page = write_benchmark(tmp_path, json.loads(json.dumps(whole).replace("judged", evil))).read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_a_second_call_trains_nothing_and_compares_nothing(whole, within, monkeypatch):
    monkeypatch.setattr(runner, "_start", None)
    monkeypatch.setattr(runner, "compare", None)
    assert within(MODELS, store(), seeds=(0, 1), out=whole_out(), **SETTINGS) == json.loads(json.dumps(whole))


# -------------------------------------------------------------------------------------------------------- stopping


def when(path, act):
    """Call `act` from a thread as soon as a file is there."""

    def watch():
        end = time.monotonic() + 300
        while not path.is_file() and time.monotonic() < end:
            time.sleep(0.005)
        act()

    threading.Thread(target=watch, daemon=True).start()


def test_killed_benchmark_resumes_to_the_same_table(plainly, monkeypatch, tmp_path):
    """The first run's process is killed; then, in the middle of the second run, the benchmark gets SIGTERM."""
    often = "--train.save-every 2 --train.validate-every 1000 --train.preview-every 1000"
    models = [f"{name}=multiscale-gan:tiny --model.no-adversarial {often}" for name in ("one", "two")]
    settings = {**SETTINGS, "steps": 16}
    whole = plainly(models, store(), out=tmp_path / "whole", **settings)
    monkeypatch.setattr(runner.subprocess, "Popen", ForkedJob)
    interrupted = {"one", "two"}

    def start(job, signals):
        if job["label"] not in interrupted:
            return in_process(job)
        interrupted.remove(job["label"])
        if job["label"] == "two":
            return start_process(job, signals)
        process = forked(trials.work, job)
        when(first / "checkpoint.pt", process.kill)
        process.join()
        return process.exitcode

    again = functools.partial(plainly, models, store(), out=tmp_path / "broken", **settings)
    monkeypatch.setattr(runner, "_start", start)
    first, second = (tmp_path / f"broken/still/runs/{name}-seed0" for name in ("one", "two"))
    with pytest.raises(UserError, match=r"its process was killed \(code -9\); repeat the command to resume"):
        again()
    assert trials.state_of(tmp_path / "broken/still/results/one-seed0.json") == "begun"
    when(second / "checkpoint.pt", lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as stopped:
        again()
    assert stopped.value.code == 143
    assert (first / "weights/step-16").is_dir()
    assert (second / "checkpoint.pt").is_file()
    assert not (second / "weights/step-16").exists()
    assert lasting(again()) == lasting(whole)


def test_a_run_that_fails_leaves_the_others_in_the_table(plainly, tmp_path):
    model = "broken=multiscale-gan:tiny --model.no-adversarial --optim.generator-lr 1e38"
    table = plainly([model, MODELS[0]], store(), out=tmp_path, **SETTINGS)
    result = table["data"]["still"]
    assert "not finite" in result["failed"]["broken"]
    assert "broken" not in [row["name"] for row in result["rows"]]
    assert "broken failed: " in describe(table)


# ---------------------------------------------------------------------------------------------------------- shards


def test_shards_merge_to_the_table_of_one_machine(whole, plainly, tmp_path):
    for i in (1, 2):
        out = tmp_path / f"shard{i}"
        assert plainly(MODELS, store(), seeds=(0, 1), out=out, shard=f"{i}/2", **SETTINGS) is None
        assert len(list((out / "still/results").glob("*.json"))) == 2
    with pytest.raises(UserError, match=r"2 of 4 runs are missing \(judged-seed0, judged-seed1\)"):
        plainly(merge=[tmp_path / "shard1"], out=tmp_path / "half", **{**SETTINGS, "steps": None})
    shards = [tmp_path / "shard1", tmp_path / "shard2"]
    merged = plainly(merge=shards, out=tmp_path / "both", **{**SETTINGS, "steps": None})
    assert lasting(merged) == lasting(whole)
    result = json.loads((tmp_path / "shard2/plan.json").read_text())
    result["settings"]["steps"] = 5
    (tmp_path / "shard2/plan.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"has other settings \(steps: 5 there, 4 here\); merge shards of one"):
        plainly(merge=shards, out=tmp_path / "other")
    write_store(tmp_path / "more", videos=4, channels=3, side=32)
    with pytest.raises(UserError, match="differs from the data that the runs were trained on"):
        plainly([], f"still={tmp_path / 'more'}", merge=shards[:1], out=tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"has no plan\.json; use output folders of"):
        plainly(merge=[tmp_path], out=tmp_path / "none")


# ------------------------------------------------------------------------------------------------------- beforehand


def test_expected_duration_is_reported_first(within, capsys, tmp_path):
    settings = {**SETTINGS, "steps": None, "quiet": False, "dry_run": True}
    assert within(MODELS, store(), budget="4m", seeds=(0, 1, 2), out=tmp_path / "dry", **settings) is None
    result = capsys.readouterr().err
    assert "6 runs of 4m (2 models, 1 set of data, 3 seeds): training takes about 24 min, until" in result
    assert not (tmp_path / "dry").exists()
    assert within(MODELS, store(), budget="4m", seeds=(0, 1, 2), shard="2/3", out=tmp_path, **settings) is None
    assert "2 runs of 4m" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "changes", "sentence"),
    [
        (["multiscale-gna"], {}, "unknown model 'multiscale-gna'; did you mean 'multiscale-gan'?"),
        (["multiscale-gan:tny"], {}, "multiscale-gan has no profile 'tny'; did you mean 'tiny'?"),
        (["multiscale-gan --model.residul"], {}, "unknown flag --model.residul; did you mean '--model.residual'?"),
        (["multiscale-gan --seed 3"], {}, "--seed is the same for all; leave it out of the model's own flags"),
        (["multiscale-gan --init-from x"], {}, "--init-from is not for a benchmark, whose runs all start from scratch"),
        (["multiscale-gan --profile small"], {}, "write the profile behind the name, as NAME:PROFILE"),
        (["c-ae", "c-ae"], {}, "--models c-ae: is named twice; give one of them a name of its own"),
        (["copy-last"], {}, "--models copy-last: is in every table by itself; leave it out"),
        (['multiscale-gan --model.x "'], {}, "fix its quotes"),
        ([], {}, "no model given: use --models"),
        (MODELS, {"budget": "1ms", "steps": None}, "duration '1ms': expected a positive duration"),
        (MODELS, {"budget": "4m", "steps": 2}, "given twice: use either --budget 4m or --steps N"),
        (MODELS, {"steps": None}, "length of training missing"),
        (MODELS, {"steps": None, "budget": "0.0001"}, r"--budget 0.0001: is too short for one step of multiscale-gan"),
        (MODELS, {"seeds": (1, 1)}, "--seeds must be different numbers"),
        (MODELS, {"shard": "4/3"}, "--shard '4/3' is not understood; the first of three machines is --shard 1/3"),
        (
            ["multiscale-gan:tiny", "c-ae:tiny"],
            {},
            r"frames of different sizes \(.*c-ae:tiny of 32x32\); give one size for",
        ),
    ],
)
def test_invalid_plans_raise(within, tmp_path, models, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        within(models, store(), out=tmp_path / "out", **{**SETTINGS, "steps": 2, **changes})
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder_are_refused(whole, within):
    with pytest.raises(UserError, match=r"has other settings \(flags: .*; choose another --out"):
        within(MODELS, store(), seeds=(0,), out=whole_out(), **{**SETTINGS, "steps": 5})


def test_all_selects_every_trained_model():
    found = plans.read_entries(["all:small"])
    assert {e.model for e in found} == set(plans.MODELS) - set(plans.UNTRAINED)
    assert {e.profile for e in found} == {"small"}
    with pytest.raises(UserError, match="all models cannot have one label"):
        plans.read_entries(["x=all"])
    (entry,) = plans.read_entries(["'wide net'=multiscale-gan:small --model.residual"])
    assert entry == plans.Entry(label="wide net", model="multiscale-gan", profile="small", flags=("--model.residual",))


def test_data_are_written_with_their_size(tmp_path):
    (tmp_path / "a b").mkdir()
    found = plans.read_data([str(tmp_path / "a b"), f"wide='{tmp_path}/x' --size 64x96 --fit pad"])
    assert [(d.label, d.size, d.fit) for d in found] == [("a-b", None, None), ("wide", "64x96", "pad")]
    with pytest.raises(UserError, match="unknown flag --sze; did you mean '--size'"):
        plans.read_data(["data --sze 64"])
    with pytest.raises(UserError, match="is named twice"):
        plans.read_data(["a/x", "b/x"])


def test_runs_of_the_first_seed_come_first():
    plan = plans.Plan(entries=plans.read_entries(["c-ae:tiny", "c-vae:tiny"]), data=plans.read_data(["d"]), steps=1)
    made = dataclasses.replace(plan, seeds=(0, 5)).trials(Path("o"))
    assert [t.name for t in made] == ["c-ae-tiny-seed0", "c-vae-tiny-seed0", "c-ae-tiny-seed5", "c-vae-tiny-seed5"]
    assert [t.row for t in made][2] == "c-ae:tiny seed 5"
    assert made[0].config.train.steps == 1
    assert made[2].config.train.seed == 5


def test_command_reports_errors_in_one_sentence(refused, tmp_path):  # noqa: F811
    result = refused("benchmark", "--models", "nothing", "--data", store(), "--steps", 1, "--out", tmp_path / "x")
    assert result.startswith("unknown model 'nothing'")
    assert "benchmark: unknown flag --bugdet; did you mean '--budget'?" in refused("benchmark", "--bugdet", "4m")


def test_files_in_the_current_folder_are_not_imported_by_a_run(tmp_path, monkeypatch):
    """Of the job, only its import of the standard library matters here."""
    marker, package = tmp_path / "executed", tmp_path / "installed/framecast/benchmark"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "job.py").write_text("import json, random, sys\nsys.exit(7)\n")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("json", "random"):
        (here / f"{name}.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    assert start_process({"result": str(tmp_path / "result.json")}, Signals()) == 7
    assert not marker.exists()


def test_the_clock_of_the_budget_is_one_for_all_runs(tmp_path):
    plan = runner.make_plan(["direct:tiny"], ["bouncing"], "4m", None, 0, clock="cpu")
    assert plan.length == "4m of processor time"
    assert all(
        plans.entry_config(t.entry.model, t.entry.profile, t.words).train.clock == "cpu" for t in plan.trials(tmp_path)
    )
    plan.save(tmp_path)
    assert plans.read_plan(tmp_path)[0] == plan
    older = json.loads((tmp_path / "plan.json").read_text())
    del older["settings"]["clock"]
    (tmp_path / "plan.json").write_text(json.dumps(older))
    assert plans.read_plan(tmp_path)[0].clock == "wall"
    with pytest.raises(UserError, match="--clock sun: is unknown; use wall or cpu"):
        runner.make_plan(["direct:tiny"], ["bouncing"], "4m", None, 0, clock="sun")
    with pytest.raises(UserError, match="--clock cpu counts the time of --budget; use --budget in place of --steps"):
        runner.make_plan(["direct:tiny"], ["bouncing"], None, 5, 0, clock="cpu")
    with pytest.raises(UserError, match=r"--train\.clock is the same for all"):
        runner.make_plan(["direct:tiny --train.clock cpu"], ["bouncing"], "4m", None, 0)
