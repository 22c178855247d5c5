"""The commands as a user meets them: help, what they print and write, exit codes."""

# ruff: noqa: F401, F811 - fixtures come by import

import json
import subprocess
import sys

import numpy as np
import pytest
from cli_support import clip, done, frames, mine, refused, store, tiny_run

import framecast
import framecast.cli.demo
from framecast import cli
from framecast.data import SOURCES
from framecast.training.run_folder import open_run
from framecast.training.signals import Interrupted

COMMANDS = [
    *(["demo"], ["models"], ["data"], ["data", "sources"], ["data", "make"], ["data", "make", "atari"]),
    *(["data", "make", "bouncing"], ["data", "import"], ["data", "inspect"], ["train"], ["train", "multiscale-gan"]),
    *(["evaluate"], ["predict"], ["report"], ["compare"], ["data", "clips"]),
    *(["export"], ["latents"], ["latents", "traverse"], ["latents", "sample"], ["latents", "transfer"]),
    *(["latents", "dims"],),
    *(["latents", "importance"], ["latents", "statistics"]),
]


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from framecast.cli import run; run(['--help'])\n"
        "sys.exit(len({'torch', 'numpy', 'tyro', 'rich', 'yaml', 'av', 'PIL'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0
    assert all(f"framecast {name}" in told.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_in_its_help(done, words):
    told = done(*words, "--help")
    assert f"framecast {' '.join(words)}" in told
    assert told == done("help", *words)


def test_version_and_no_words_at_all(done):
    assert done("--version") == f"framecast {framecast.__version__}\n"
    assert done() == done("--help") == cli.HELP


def test_help_of_training_says_what_each_flag_is_once(done, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    told = done("train", "multiscale-gan", "--help")
    assert "Frames seen, at least 1; published: 4" in told
    assert "Steps between checkpoints." in told
    assert "--model.optim" not in told
    assert told.count("--optim.generator-lr ") == told.count("--steps ") == told.count("--batch-size ") == 1


# ---------------------------------------------------------------------------------------------------------- catalogue


def test_models_and_sources_print_only_json_on_request(done):
    rows = json.loads(done("models", "--json"))
    assert {"multiscale-gan", "copy-last", "temporal-mean"} <= {row["name"] for row in rows}
    one = json.loads(done("models", "--json", "multiscale-gan", "--profile", "tiny"))
    assert set(one) == {"name", "family", "profile", "parameters", "total"}
    assert one["total"] == sum(one["parameters"].values())
    assert {row["name"] for row in json.loads(done("data", "sources", "--json"))} == set(SOURCES)
    assert isinstance(json.loads(done("models", "--pretrained", "--json")), list)


def test_models_for_reading(done):
    told = done("models")
    assert "ICLR 2016" in told
    assert "profiles: default, original, small" in told
    assert "total" in done("models", "multiscale-gan", "--profile", "tiny")
    assert "data make bouncing" in done("data", "sources")


def test_a_figure_says_where_it_is_and_json_stays_json(done, capsys, tmp_path):
    figure = tmp_path / "new" / "tiny.svg"
    told = done("models", "multiscale-gan", "--profile", "tiny", "--figure", figure)
    assert f"figure: {figure}" in told
    assert figure.read_text().lstrip().startswith(("<?xml", "<svg"))
    json.loads(done("models", "multiscale-gan", "--profile", "tiny", "--figure", figure, "--json"))


def test_figures_that_cannot_be(refused, tmp_path):
    assert "name the model" in refused("models", "--figure", tmp_path / "x.svg")
    assert ".svg" in refused("models", "copy-last", "--figure", tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    told = refused("models", "multiscale-gan", "--profile", "tiny", "--figure", tmp_path / "file" / "x.svg")
    assert "cannot be written" in told


# --------------------------------------------------------------------------------------------------------------- data


def test_make_import_inspect(done, tmp_path):
    made = tmp_path / "made"
    small = ("--videos", "2", "--frames", "8", "--size", "24", "--size-min", "4", "--size-max", "6")
    told = done("data", "make", "bouncing", "--out", made, *small)
    assert told == f"2 videos, 16 frames\nstore: {made}\n"
    before = (made / "index.json").read_bytes()
    done("data", "make", "bouncing", "--out", made, *small, "--overwrite")
    assert (made / "index.json").read_bytes() == before

    told = done("data", "import", clip(), "--out", tmp_path / "in", "--size", "16", "--json", "-")
    assert json.loads(told)["sizes"] == {"16x16": 1}
    sheet, listing = tmp_path / "sheet.png", tmp_path / "it.json"
    told = done("data", "inspect", frames(), "--sheet", sheet, "--json", listing)
    assert f"sheet: {sheet}" in told
    assert f"json: {listing}" in told
    assert sheet.is_file()
    assert json.loads(listing.read_text())["frames"] == 40


def test_import_says_how_much_disk_it_takes(capsys, tmp_path):
    assert cli.run(["data", "import", str(clip()), "--out", str(tmp_path / "in")]) == 0
    assert "1 video, 40 frames: 122.9 kB" in capsys.readouterr().err


def test_a_store_stays_when_its_replacement_fails(done, refused, tmp_path):
    done("data", "import", clip(), "--out", tmp_path / "in")
    before = {p.name: p.read_bytes() for p in (tmp_path / "in").iterdir()}
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    refused("data", "import", tmp_path / "bad.mp4", "--out", tmp_path / "in", "--overwrite")
    refused("data", "make", "atari", "--game", "pongg", "--out", tmp_path / "in", "--overwrite")
    assert {p.name: p.read_bytes() for p in (tmp_path / "in").iterdir()} == before
    assert "not empty" in refused("data", "import", clip(), "--out", tmp_path / "in")


# ------------------------------------------------------------------------------------- train, evaluate, report, export


def test_from_a_film_to_its_future(done, tmp_path):
    run, film = tmp_path / "run", tmp_path / "future.mp4"
    train = ("train", "multiscale-gan", "--profile", "tiny", "--data", clip(), "--out", run, "--train.no-tensorboard")
    told = done(*train, "--steps", "2")
    assert f"run: {run}\n" in told
    assert open_run(run).config.data.trained_size == "128"
    assert json.loads(done(*train, "--steps", "3", "--json", "-"))["run"] == str(run)  # goes on
    assert [p.name for p in sorted((run / "weights").iterdir())] == ["step-2", "step-3"]

    told = done("evaluate", run, "--horizon", "1", "--clips", "2")
    assert f"scores: {run / 'scores.json'}" in told
    assert "copy-last" in told
    told = done("report", run, "--horizon", "1", "--clips", "2")
    assert f"report: {run / 'report.html'}" in told
    told = done("predict", run, "--input", clip(), "--horizon", "3", "--out", film)
    assert f"film: {film}" in told
    assert "4 frames seen, 3 predicted, at 15 fps; frames kept at 32x32" in told


def test_json_of_every_command_that_writes(done, tmp_path):
    short = ("--horizon", "2", "--clips", "2")
    scores = json.loads(done("evaluate", tiny_run(), *short, "--out", tmp_path / "e", "--json", "-"))
    assert scores["protocol"]["horizon"] == 2
    assert json.loads((tmp_path / "e" / "scores.json").read_text()) == scores
    told = done("report", tiny_run(), *short, "--out", tmp_path / "r", "--json", tmp_path / "r.json")
    assert f"json: {tmp_path / 'r.json'}" in told
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["clips"] == 2
    made = json.loads(done("export", tiny_run(), "--out", tmp_path / "x", "--json", "-"))
    assert set(made["bytes"]) >= {"config.json", "model.safetensors", "README.md"}
    film = ("predict", tiny_run(), "--input", frames(), "--horizon", "2", "--out", tmp_path / "f.gif")
    assert json.loads(done(*film, "--json", "-"))["frames"] == 2


def test_a_dry_run_shows_the_config_and_writes_nothing(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("train: {budget: 3m}\nmodel: {gdl_weight: 0.5}\n")
    flags = ("--data", "nowhere.mp4", "--config", "my.yaml", "--batch-size", "3", "--dry-run")
    plan = json.loads(done("train", "multiscale-gan", *flags))
    assert (plan["train"]["budget"], plan["train"]["steps"], plan["train"]["batch_size"]) == ("3m", None, 3)
    assert plan["model"]["gdl_weight"] == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["my.yaml"]


def test_a_config_file_names_the_profile_it_is_of(done, tmp_path):
    stored = tiny_run() / "config.json"
    plan = json.loads(done("train", "multiscale-gan", "--config", stored, "--dry-run"))
    assert plan["profile"] == "tiny"
    assert plan["data"]["path"] == str(store())


def test_a_model_of_somebody_else(done, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"{mine(tmp_path)}:Mine"
    assert "Frames it looks at." in done("train", name, "--help")
    done("train", name, "--data", store(), "--steps", "2", "--batch-size", "2", "--train.no-tensorboard")
    run = tmp_path / "runs" / f"Mine-{store().name}"
    assert run.is_dir()
    assert "--model-class" in refused("evaluate", run)
    given = ("--model-class", name)
    assert "Mine" in done("evaluate", run, *given, "--horizon", "2", "--clips", "2")
    done("predict", run, *given, "--input", clip(), "--horizon", "2", "--out", tmp_path / "f.gif")
    done("export", run, *given, "--out", tmp_path / "x")
    assert "mine.py" in json.loads((tmp_path / "x" / "config.json").read_text())["name"]
    assert str(tmp_path) not in (tmp_path / "x" / "config.json").read_text()
    assert json.loads(done("models", name, "--json"))["total"] == 1


def test_training_and_scoring_from_python(tmp_path):
    run = framecast.train("copy-last", store(), out=tmp_path / "run", steps=1, quiet=True, tensorboard=False)
    scores, kept = framecast.evaluate(run, horizon=2, clips=2)
    assert scores.protocol.horizon == 2
    assert [clip.role for clip in kept]
    context = np.zeros((4, 3, 32, 32), np.uint8)
    assert framecast.load(run).predict(context, 2).shape == (1, 1, 2, 3, 32, 32)


# ---------------------------------------------------------------------------------------------------------- exit codes


def raising(monkeypatch, error):
    def command(argv):
        raise error

    monkeypatch.setitem(cli.COMMANDS, "demo", command)
    return cli.run(["demo"])


def test_our_fault_is_one(monkeypatch, capsys):
    assert raising(monkeypatch, RuntimeError("odd")) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("framecast: this is a fault of framecast")


def test_signals_and_running_out(monkeypatch, capsys):
    assert raising(monkeypatch, KeyboardInterrupt()) == 130
    assert raising(monkeypatch, Interrupted(143)) == 143
    assert raising(monkeypatch, MemoryError()) == 2
    assert raising(monkeypatch, OSError(28, "No space left on device", "runs/a/metrics.jsonl")) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-2].startswith("framecast: not enough memory; take a smaller")
    assert told[-1].startswith("framecast: runs/a/metrics.jsonl: No space left on device; free some space")


def test_a_reader_that_stops_reading_is_no_fault():
    code = "from framecast.cli import main; main(['data'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_the_demo_with_json_alone_on_standard_output(done, tmp_path, monkeypatch):
    def demo(out, **settings):
        print("much said")
        return out / "run" / "report.html"

    monkeypatch.setattr("framecast.cli.demo.demo", demo)
    assert json.loads(done("demo", "--out", tmp_path, "--json", "-"))["report"] == str(tmp_path / "run" / "report.html")
