"""Commands of the command line: help, printed and written output, exit codes."""

# ruff: noqa: F401, F811 - fixtures come by import

import json
import subprocess
import sys

import numpy as np
import pytest
from cli_support import clip, done, frames, mine, refused, store, tiny_run

import framecast
import framecast.cli.demo
from framecast.cli import COMMANDS, HELP, run
from framecast.data import SOURCES
from framecast.training.run_folder import open_run
from framecast.training.signals import Interrupted

WITH_HELP = [
    *(["demo"], ["models"], ["data"], ["data", "sources"], ["data", "make"], ["data", "make", "atari"]),
    *(["data", "make", "bouncing"], ["data", "import"], ["data", "inspect"], ["train"], ["train", "multiscale-gan"]),
    *(["evaluate"], ["predict"], ["report"], ["compare"], ["data", "clips"], ["data", "push"]),
    *(
        ["export"],
        ["push"],
        ["anomaly"],
        ["latents"],
        ["latents", "traverse"],
        ["latents", "sample"],
        ["latents", "transfer"],
    ),
    *(["latents", "dims"],),
    *(["latents", "importance"], ["latents", "statistics"]),
]


def test_help_imports_no_heavy_package():
    code = (
        "import sys; from framecast.cli import run; run(['--help'])\n"
        "sys.exit(len({'torch', 'numpy', 'tyro', 'rich', 'yaml', 'av', 'PIL'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert output.returncode == 0
    assert all(f"framecast {name}" in output.stdout for name in COMMANDS)


@pytest.mark.parametrize("words", WITH_HELP, ids=" ".join)
def test_every_command_has_an_example_in_its_help(done, words):
    output = done(*words, "--help")
    assert f"framecast {' '.join(words)}" in output
    assert output == done("help", *words)


def test_version_is_printed_and_no_arguments_print_the_help(done):
    assert done("--version") == f"framecast {framecast.__version__}\n"
    assert done() == done("--help") == HELP


def test_training_help_lists_each_flag_once(done, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    output = done("train", "multiscale-gan", "--help")
    assert "Number of context frames, at least 1; published: 4" in output
    assert "Steps between checkpoints." in output
    assert "--model.optim" not in output
    assert output.count("--optim.generator-lr ") == output.count("--steps ") == output.count("--batch-size ") == 1


def test_training_without_a_model_starts_from_the_packaged_weights(done, tmp_path, capsys):
    words = ["train", "--data", store(), "--steps", "1", "--batch-size", "2", "--train.val-batches", "1", "--out"]
    short = ["--model.context", "3", "--model.recent", "3", "--model.kept", "2", "--from-scratch"]
    done(*words, tmp_path / "scratch", *short, "--quiet")
    config = open_run(tmp_path / "scratch").config
    assert (config.name, config.profile) == ("direct", "natural")
    assert config.model.horizon < 32  # what these short videos hold
    given = json.loads(done("train", "--data", store(), "--dry-run"))
    assert given["name"] == "direct"
    assert run(["train", "--data", str(store()), *words[3:-1], "--out", str(tmp_path / "run")]) == 0
    assert "tensors taken from direct-any" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- catalogue


def test_json_of_models_and_sources_is_the_only_output(done):
    rows = json.loads(done("models", "--json"))
    assert {"multiscale-gan", "copy-last", "temporal-mean"} <= {row["name"] for row in rows}
    one = json.loads(done("models", "--json", "multiscale-gan", "--profile", "tiny"))
    assert set(one) == {"name", "family", "profile", "parameters", "total"}
    assert one["total"] == sum(one["parameters"].values())
    assert {row["name"] for row in json.loads(done("data", "sources", "--json"))} == set(SOURCES)
    assert isinstance(json.loads(done("models", "--pretrained", "--json")), list)


def test_models_list_names_paper_and_profiles(done):
    output = done("models")
    assert "ICLR 2016" in output
    assert "profiles: default, original, small" in output
    assert "total" in done("models", "multiscale-gan", "--profile", "tiny")
    assert "data make bouncing" in done("data", "sources")


def test_figure_path_is_printed_and_json_stays_valid(done, capsys, tmp_path):
    figure = tmp_path / "new" / "tiny.svg"
    output = done("models", "multiscale-gan", "--profile", "tiny", "--figure", figure)
    assert f"figure: {figure}" in output
    assert figure.read_text().lstrip().startswith(("<?xml", "<svg"))
    json.loads(done("models", "multiscale-gan", "--profile", "tiny", "--figure", figure, "--json"))


def test_invalid_figures_are_refused(refused, tmp_path):
    assert "name the model" in refused("models", "--figure", tmp_path / "x.svg")
    assert ".svg" in refused("models", "copy-last", "--figure", tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    output = refused("models", "multiscale-gan", "--profile", "tiny", "--figure", tmp_path / "file" / "x.svg")
    assert "cannot be written" in output


# --------------------------------------------------------------------------------------------------------------- data


def test_data_is_made_imported_and_inspected(done, tmp_path):
    made = tmp_path / "made"
    small = ("--videos", "2", "--frames", "8", "--size", "24", "--size-min", "4", "--size-max", "6")
    output = done("data", "make", "bouncing", "--out", made, *small)
    assert output == f"2 videos, 16 frames\nstore: {made}\n"
    before = (made / "index.json").read_bytes()
    done("data", "make", "bouncing", "--out", made, *small, "--overwrite")
    assert (made / "index.json").read_bytes() == before

    output = done("data", "import", clip(), "--out", tmp_path / "in", "--size", "16", "--json", "-")
    assert json.loads(output)["sizes"] == {"16x16": 1}
    sheet, listing = tmp_path / "sheet.png", tmp_path / "it.json"
    output = done("data", "inspect", frames(), "--sheet", sheet, "--json", listing)
    assert f"sheet: {sheet}" in output
    assert f"json: {listing}" in output
    assert sheet.is_file()
    assert json.loads(listing.read_text())["frames"] == 40


def test_import_prints_the_disk_space_it_needs(capsys, tmp_path):
    assert run(["data", "import", str(clip()), "--out", str(tmp_path / "in")]) == 0
    assert "1 video, 40 frames: 122.9 kB" in capsys.readouterr().err


def test_store_is_unchanged_when_its_replacement_fails(done, refused, tmp_path):
    done("data", "import", clip(), "--out", tmp_path / "in")
    before = {p.name: p.read_bytes() for p in (tmp_path / "in").iterdir()}
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    refused("data", "import", tmp_path / "bad.mp4", "--out", tmp_path / "in", "--overwrite")
    refused("data", "make", "atari", "--game", "pongg", "--out", tmp_path / "in", "--overwrite")
    assert {p.name: p.read_bytes() for p in (tmp_path / "in").iterdir()} == before
    assert "already holds a store" in refused("data", "import", clip(), "--out", tmp_path / "in")


# ------------------------------------------------------------------------------------- train, evaluate, report, export


def test_commands_lead_from_a_video_to_its_forecast(done, tmp_path):
    folder, video = tmp_path / "run", tmp_path / "future.mp4"
    data = ("--data", clip())
    train = ("train", "multiscale-gan", "--profile", "tiny", *data, "--out", folder, "--train.no-tensorboard")
    output = done(*train, "--steps", "2")
    assert f"run: {folder}\n" in output
    assert open_run(folder).config.data.trained_size == "128"
    assert json.loads(done(*train, "--steps", "3", "--json", "-"))["run"] == str(folder)  # resumes
    assert [p.name for p in sorted((folder / "weights").iterdir())] == ["step-2", "step-3"]

    output = done("evaluate", folder, "--horizon", "1", "--clips", "2")
    assert f"scores: {folder / 'scores.json'}" in output
    assert "copy-last" in output
    output = done("report", folder, "--horizon", "1", "--clips", "2")
    assert f"report: {folder / 'report.html'}" in output
    output = done("predict", folder, "--input", clip(), "--horizon", "3", "--out", video)
    assert f"video: {video}" in output
    assert "4 context frames, 3 predicted, at 15 fps; frames kept at 32x32" in output


def test_writing_commands_print_or_store_json(done, tmp_path):
    short = ("--horizon", "2", "--clips", "2")
    scores = json.loads(done("evaluate", tiny_run(), *short, "--out", tmp_path / "e", "--json", "-"))
    assert scores["protocol"]["horizon"] == 2
    assert json.loads((tmp_path / "e" / "scores.json").read_text()) == scores
    output = done("report", tiny_run(), *short, "--out", tmp_path / "r", "--json", tmp_path / "r.json")
    assert f"json: {tmp_path / 'r.json'}" in output
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["clips"] == 2
    made = json.loads(done("export", tiny_run(), "--out", tmp_path / "x", "--json", "-"))
    assert set(made["bytes"]) >= {"config.json", "model.safetensors", "README.md"}
    predict = ("predict", tiny_run(), "--input", frames(), "--horizon", "2", "--out", tmp_path / "f.gif")
    assert json.loads(done(*predict, "--json", "-"))["frames"] == 2


def test_dry_run_prints_the_config_and_writes_nothing(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("train: {budget: 3m}\nmodel: {gdl_weight: 0.5}\n")
    flags = ("--data", "nowhere.mp4", "--config", "my.yaml", "--batch-size", "3", "--dry-run")
    plan = json.loads(done("train", "multiscale-gan", *flags))
    assert (plan["train"]["budget"], plan["train"]["steps"], plan["train"]["batch_size"]) == ("3m", None, 3)
    assert plan["model"]["gdl_weight"] == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["my.yaml"]


def test_dry_run_of_a_chain_prints_the_config_of_every_link(done, refused, tmp_path):
    command = ("train", "hierarchical", "--data", "nowhere.mp4", "--profile", "bouncing", "--steps", "100", "--dry-run")
    plan = json.loads(done(*command, "--seed", "4"))
    assert [link["name"] for link in plan["links"]][::7] == ["1-drawn", "8-far"]
    assert sum(link["config"]["train"]["steps"] for link in plan["links"]) == 100
    assert {link["config"]["train"]["seed"] for link in plan["links"]} == {4}
    assert "--model.mode has no effect" in refused(*command, "--model.mode", "e2e")
    (tmp_path / "link.json").write_text(json.dumps(plan["links"][-1]["config"]))
    sentence = refused("train", "hierarchical", "--data", "nowhere.mp4", "--config", tmp_path / "link.json")
    assert "is the config of one training, but profile bouncing is a chain" in sentence


def test_config_file_selects_its_profile(done, tmp_path):
    stored = tiny_run() / "config.json"
    plan = json.loads(done("train", "multiscale-gan", "--config", stored, "--dry-run"))
    assert plan["profile"] == "tiny"
    assert plan["data"]["path"] == str(store())


def test_model_from_a_file_works_in_every_command(done, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"{mine(tmp_path)}:Mine"
    assert "Number of context frames." in done("train", name, "--help")
    done("train", name, "--data", store(), "--steps", "2", "--batch-size", "2", "--train.no-tensorboard")
    folder = tmp_path / "runs" / f"Mine-{store().name}"
    assert folder.is_dir()
    assert "--model-class" in refused("evaluate", folder)
    given = ("--model-class", name)
    assert "Mine" in done("evaluate", folder, *given, "--horizon", "2", "--clips", "2")
    done("predict", folder, *given, "--input", clip(), "--horizon", "2", "--out", tmp_path / "f.gif")
    done("export", folder, *given, "--out", tmp_path / "x")
    assert "mine.py" in json.loads((tmp_path / "x" / "config.json").read_text())["name"]
    assert str(tmp_path) not in (tmp_path / "x" / "config.json").read_text()
    assert json.loads(done("models", name, "--json"))["total"] == 1


def test_training_and_scoring_from_python(tmp_path):
    folder = framecast.train("copy-last", store(), out=tmp_path / "run", steps=1, quiet=True, tensorboard=False)
    scores, kept = framecast.evaluate(folder, horizon=2, clips=2)
    assert scores.protocol.horizon == 2
    assert [clip.role for clip in kept]
    context = np.zeros((4, 3, 32, 32), np.uint8)
    assert framecast.load(folder).predict(context, 2).shape == (1, 1, 2, 3, 32, 32)


# ---------------------------------------------------------------------------------------------------------- exit codes


def raising(monkeypatch, error):
    def command(argv):
        raise error

    monkeypatch.setattr("framecast.cli.demo.run_demo", command)
    return run(["demo"])


def test_internal_error_exits_with_one(monkeypatch, capsys):
    assert raising(monkeypatch, RuntimeError("odd")) == 1
    output = capsys.readouterr().err
    assert "Traceback" in output
    assert output.splitlines()[-1].startswith("framecast: internal error of framecast")


def test_signals_and_exhausted_resources_have_their_exit_codes(monkeypatch, capsys):
    assert raising(monkeypatch, KeyboardInterrupt()) == 130
    assert raising(monkeypatch, Interrupted(143)) == 143
    assert raising(monkeypatch, MemoryError()) == 2
    assert raising(monkeypatch, OSError(28, "No space left on device", "runs/a/metrics.jsonl")) == 2
    output = capsys.readouterr().err.splitlines()
    assert output[-2].startswith("framecast: not enough memory; use a smaller")
    assert output[-1].startswith("framecast: runs/a/metrics.jsonl: No space left on device; free some space")


def test_closed_output_pipe_is_not_an_error():
    code = "from framecast.cli import main; main(['data'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_demo_prints_only_json_on_request(done, tmp_path, monkeypatch):
    def demo(out, **settings):
        print("progress")
        return out / "run" / "report.html"

    monkeypatch.setattr("framecast.cli.demo.demo", demo)
    assert json.loads(done("demo", "--out", tmp_path, "--json", "-"))["report"] == str(tmp_path / "run" / "report.html")


def test_closed_standard_output_is_replaced(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", None)
    assert run(["--version"]) == 0
    assert "standard output is closed" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert run(["nonsense"]) == 2
