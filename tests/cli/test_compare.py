"""`framecast compare` and `framecast data clips`: output, errors, two processes, and the page in a browser."""

# ruff: noqa: F811 - fixtures come by import

import json
import os
import shutil
import sys

import numpy as np
import pytest
from cli_support import asks_nobody, done, mine, refused, store, tiny_run, work  # noqa: F401
from small_models import forked, process_settings, write_store

import framecast.__main__
from framecast.cli import run
from framecast.evaluation.compare import compare
from framecast.metrics.scores import BASELINES
from framecast.reporting.compare_page import write_comparison

EVIL = "<img onerror=alert(1)>"


def test_compare_prints_the_ranked_table_and_its_files(done, tmp_path):
    out = tmp_path / "out"
    words = ("--data", store(), "--horizon", 4, "--clips", 2, "--show", 0, "--out", out)
    output = done("compare", tiny_run(), *words, "--json", tmp_path / "made.json")
    lines = output.splitlines()
    assert lines[0] == "Skill over persistence, higher is better, over 4 frames"
    assert all(name in output for name in ("tiny", "copy-last", "temporal-mean"))
    assert f"page: {out / 'comparison.html'}" in output
    assert "is best by Skill over persistence" in output
    assert "Baselines copy-last, temporal-mean, linear-flow; " in output
    assert "than the best baseline" in output
    made = json.loads((tmp_path / "made.json").read_text())
    assert (made["kind"], made["rank_by"], made["protocol"]["horizon"]) == ("comparison", "skill", 4)
    assert json.loads((out / "comparison.json").read_text())["means"] == made["means"]


def test_forecasts_of_another_program_become_a_row(done, tmp_path):
    output = done(
        "data", "clips", "--data", store(), "--out", tmp_path / "clips", "--horizon", 3, "--clips", 2, "--with-truth"
    )
    assert "2 clips: 4 frames of context, 3 to forecast" in output
    (tmp_path / "theirs").mkdir()
    shutil.copy(tmp_path / "clips" / "manifest.json", tmp_path / "theirs")
    for path in (tmp_path / "clips").glob("*.npz"):
        with np.load(path) as arrays:
            np.save(tmp_path / "x.npy", arrays["truth"])
            np.savez(tmp_path / "theirs" / path.name, prediction=arrays["truth"])
    output = done(
        "compare", f"oracle={tmp_path / 'theirs'}", tiny_run(), "--data", store(), "--show", 0, "--out", tmp_path / "o"
    )
    assert output.splitlines()[2].split()[:3] == ["1", "oracle", "1.000"]
    output = done("data", "clips", "--data", store(), "--out", tmp_path / "more", "--horizon", 3, "--json", "-")
    assert json.loads(output)["split"] == "test"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare"], "compare: "),
        (["compare", "RUN"], "--data"),
        (["compare", "nowhere", "--data", "DATA"], "nowhere: no such run folder or packaged weights"),
        (["compare", "RUN", "--data", "nowhere"], "nowhere"),
        (["compare", "RUN", "--data", "DATA", "--horizon", "99"], "use --horizon 20 or less"),
        (["compare", "RUN", "--data", "DATA", "--fvd", "none.pt"], "none.pt: no such weights file"),
        (["compare", "RUN", "--data", "DATA", "--objects", "none.json"], "none.json: no such config file"),
        (["compare", "RUN", "--data", "DATA", "--rankby", "psnr"], "did you mean '--rank-by'?"),
        (["data", "clips", "--data", "DATA", "--out", "DATA"], "holds other files, so it is not replaced"),
        (["data", "clips", "--data", "DATA", "--out", "new", "--context", "0"], "must be at least 1"),
    ],
)
def test_invalid_input_is_refused_in_one_sentence(refused, words, sentence, tmp_path, monkeypatch):
    data, run = str(store()), str(tiny_run())
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*({"RUN": run, "DATA": data}.get(w, w) for w in words))


def test_run_folder_of_a_newer_format_is_refused(refused, tmp_path):
    folder = shutil.copytree(tiny_run(), tmp_path / "newer")
    for path in (folder / "config.json", *folder.glob("weights/*/config.json")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    assert "is of format 2, this version knows up to 1; upgrade framecast" in refused(
        "compare", folder, "--data", store()
    )


def test_model_outside_the_package_is_compared(done, tmp_path):
    file = mine(tmp_path)
    done("train", f"{file}:Mine", "--data", store(), "--steps", 2, "--out", tmp_path / "run", "--quiet")
    words = ("--data", store(), "--horizon", 3, "--clips", 2, "--show", 0, "--out", tmp_path / "out")
    output = done("compare", tmp_path / "run", "--model-class", f"{file}:Mine", *words)
    assert " run " in output


def test_two_processes_give_the_same_scores_as_one(tmp_path):
    words = ["compare", tiny_run(), "--data", store(), "--horizon", 4, "--clips", 5, "--batch-size", 2, "--show", 0]
    words += ["--device", "cpu", "--precision", "fp32", "--quiet", "--devices", 2, "--out", tmp_path]

    def first():
        """The first process, which launches the second as `python -m framecast` does."""
        sys.modules["__main__"], sys.argv = framecast.__main__, ["framecast", *map(str, words)]
        os.environ |= process_settings()["env"]
        return run(sys.argv[1:])

    process = forked(first)
    process.join()
    assert process.exitcode == 0
    two = json.loads((tmp_path / "comparison.json").read_text())
    settings = {"horizon": 4, "clips": 5, "batch_size": 2, "show": 0, "device": "cpu", "precision": "fp32"}
    one = json.loads(json.dumps(compare([tiny_run()], store(), **settings)[0].to_json()))
    assert set(one.pop("costs")) == set(two.pop("costs")) == {"tiny", *BASELINES}
    assert one == two
    assert one["protocol"]["clips"] == 5


def test_public_name_is_the_function():
    assert framecast.compare is compare


@pytest.mark.system
def test_page_opens_in_a_browser_without_requests(asks_nobody, tmp_path):
    write_store(tmp_path / EVIL, channels=3, side=32)
    run = shutil.copytree(tiny_run(), tmp_path / "runs" / EVIL)
    found, kept = compare([run], tmp_path / EVIL, horizon=3, clips=2, show=1)
    path = write_comparison(tmp_path / "out", found, kept)
    assert EVIL not in path.read_text()
    assert asks_nobody(path) == f"Comparison on {EVIL}"


@pytest.mark.system
def test_packaged_models_are_compared_on_an_unseen_game(done, asks_nobody, tmp_path):
    game, out = tmp_path / "breakout", tmp_path / "out"
    recorded = ("--game", "breakout", "--episodes", 4, "--max-frames", 60, "--seed", 5)
    done("data", "make", "atari", *recorded, "--out", game)
    models = ("multiscale-gan-pacman", "ms-pacman-c-ae")
    words = ("--size", "84x64", "--horizon", 5, "--clips", 2, "--show", 1, "--split", "all")
    output = done("compare", *models, "--data", game, *words, "--out", out)
    assert all(name in output for name in (*models, "copy-last", "temporal-mean"))
    means = json.loads((out / "comparison.json").read_text())["means"]
    assert all(10 < means[name]["psnr"]["mean"] < 60 for name in models)
    assert asks_nobody(out / "comparison.html") == "Comparison on breakout"
