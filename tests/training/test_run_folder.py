"""Opening of runs, models, sources and data by name, and the errors."""

import dataclasses
import json
import shutil

import pytest
import torch
from cli_support import clip, copy_run, mine, store, tiny_run
from safetensors.torch import save_file

import framecast.training.run_folder
from framecast.core.errors import UserError
from framecast.data.cache import open_data
from framecast.data.options import DataConfig
from framecast.data.registry import find_source, make_source
from framecast.evaluation.evaluate import evaluate
from framecast.inference.load import load
from framecast.models.registry import find_model
from framecast.training.checkpoint import check_shapes
from framecast.training.config import TrainConfig, check_resume, config_from_json, every_in_steps, resolve_steps
from framecast.training.run_folder import open_run


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
    """Packaged weights called small-thing; returns their folder."""
    folder = tmp_path / "package" / "pretrained" / "small-thing"
    shutil.copytree(tiny_run() / "weights" / "step-2", folder)
    monkeypatch.setattr(
        framecast.training.run_folder, "__file__", str(tmp_path / "package" / "training" / "run_folder.py")
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_existing_folder_has_priority_over_packaged_weights(pretrained, tmp_path):
    assert open_run("small-thing").folder == pretrained
    assert open_run("small-thing").own is False
    assert open_run(tiny_run()).own is True
    shutil.copytree(copy_run(), tmp_path / "here" / "small-thing")
    assert open_run("small-thing").config.name == "copy-last"


def test_packaged_weights_are_read_only(pretrained, tmp_path):
    before = sorted(p.name for p in pretrained.iterdir())
    run = open_run("small-thing")
    evaluate(run, store(), horizon=2, clips=1)
    assert sorted(p.name for p in pretrained.iterdir()) == before
    assert (tmp_path / "here" / "small-thing-results" / "scores.json").is_file()
    assert open_run(pretrained).own is False  # named by its path


def test_missing_path_is_never_downloaded(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr("framecast.training.run_folder.download_run", lambda *_: pytest.fail("a download"))
    for name, sentence in (
        ("small-thng", "small-thng: no such run folder or packaged weights; did you mean 'small-thing'?"),
        (str(tiny_run()) + "y", f"did you mean '{tiny_run()}'?"),
        ("org/name", "org/name: no such run folder"),
    ):
        with pytest.raises(UserError) as error:
            open_run(name)
        assert sentence in str(error.value)


def test_hub_names_are_downloaded_without_code(monkeypatch, tmp_path):
    asked = {}

    def fetched(repository, revision=None, allow_patterns=None):
        asked.update(repository=repository, revision=revision, patterns=allow_patterns)
        return str(tiny_run() / "weights" / "step-2")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    run = open_run("hf://org/name@v1")
    assert (asked["repository"], asked["revision"]) == ("org/name", "v1")
    assert not [p for p in asked["patterns"] if p.endswith((".py", ".bin", ".pt"))]
    assert (run.own, str(run.results)) == (False, "name-results")
    assert open_run("hf://org/name").config.name == "multiscale-gan"


def test_unreachable_hub_is_one_sentence():
    with pytest.raises(UserError, match=r"hf://org/name: cannot be fetched .*; check name, revision and network"):
        open_run("hf://org/name")
    with pytest.raises(UserError, match="hf://a b/c: cannot be fetched"):
        open_run("hf://a b/c")
    with pytest.raises(UserError, match="expected hf://organisation/name"):
        open_run("hf://name")


def changed(folder, tmp_path, **fields):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    stored = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**stored, **fields}))
    return copy


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"format": 99}, "is of format 99, this version knows up to 1; upgrade framecast"),
        ({"format": None}, "has no valid format number"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"model": {"contxt": 1}}, "unknown key 'contxt'; did you mean 'context'?"),
        ({"name": "mine.py:Mine"}, "give its class, e.g. --model-class mine.py:Mine"),
        ({"train": {"batch_size": "x"}}, "train: batch_size: expected a whole number"),
    ],
)
def test_invalid_configs_are_refused(tmp_path, fields, sentence):
    with pytest.raises(UserError) as error:
        open_run(changed(tiny_run(), tmp_path, **fields))
    assert sentence in str(error.value)
    assert "config.json" in str(error.value)


def test_folders_without_a_run_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json; expected a run folder"):
        open_run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; expected the run's folder"):
        open_run(tmp_path / "file")


def test_missing_or_damaged_weights_are_refused(tmp_path):
    copy = changed(tiny_run(), tmp_path)
    weights = copy / "weights" / "step-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="the weights file is damaged"):
        load(copy)
    shutil.rmtree(copy / "weights")
    with pytest.raises(UserError, match="has no weights yet; train it first"):
        load(copy)


def test_missing_config_is_read_from_the_snapshot(tmp_path):
    copy = changed(tiny_run(), tmp_path)
    (copy / "config.json").unlink()
    assert open_run(copy).config.profile == "tiny"


def test_only_changeable_settings_may_differ_on_resume():
    config = open_run(tiny_run()).config
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=9, stats_every=3))
    check_resume(tiny_run(), longer)
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=7, seed=3))
    with pytest.raises(UserError) as error:
        check_resume(tiny_run(), other)
    assert "train.batch_size was 4 and is now 7; train.seed was 0 and is now 3" in str(error.value)
    assert "choose another --out, or give --overwrite" in str(error.value)


def test_run_of_a_version_without_a_setting_of_the_model_is_resumed(tmp_path):
    copy = changed(tiny_run(), tmp_path)
    config = open_run(copy).config
    stored = json.loads((copy / "config.json").read_text())
    assert stored["model"].pop("output") == "frame"
    stored["model"]["optim"].pop("generator_clip")
    (copy / "config.json").write_text(json.dumps(stored))
    check_resume(copy, config)
    with pytest.raises(UserError, match=r"model\.output was .frame. and is now .gated."):
        check_resume(copy, dataclasses.replace(config, model=dataclasses.replace(config.model, output="gated")))


# --------------------------------------------------------------------------------------------------- models, sources


def test_models_are_found_by_name_and_file(tmp_path):
    assert find_model("multiscale-gan").__name__ == "MultiscaleGAN"
    path = mine(tmp_path)
    assert find_model(f"{path}:Mine").__name__ == "Mine"
    with pytest.raises(UserError, match="has no Predictor named 'Mien'; did you mean 'Mine'"):
        find_model(f"{path}:Mien")
    path.write_text("import nothing_of_this_name")
    with pytest.raises(UserError, match=r"mine\.py: cannot be imported \(ModuleNotFoundError"):
        find_model(f"{path}:Mine")
    path.write_text("from framecast.models.base import Predictor\nclass Mine(Predictor): pass")
    with pytest.raises(UserError, match="needs a class attribute Config, a frozen dataclass"):
        find_model(f"{path}:Mine")


def test_config_never_executes_code(tmp_path):
    path = mine(tmp_path)
    path.write_text("raise SystemExit('ran')")
    with pytest.raises(UserError, match="--model-class"):
        config_from_json({"format": 1, "name": f"{path}:Mine"}, tmp_path / "config.json")


def test_sources_are_found_by_name(tmp_path):
    made = make_source("bouncing", tmp_path / "b", {"videos": 2, "frames": 4, "size": 24})
    assert len(made) == 2
    with pytest.raises(UserError, match="unknown source 'bouncin'; did you mean 'bouncing'"):
        find_source("bouncin")
    with pytest.raises(UserError, match="source bouncing: unknown key 'video'; did you mean 'videos'"):
        make_source("bouncing", tmp_path / "c", {"video": 2})


def test_video_is_decoded_once_and_stores_are_not_copied(tmp_path):
    calls = []
    source, data = open_data(DataConfig(path=str(clip()), size="20"), lambda done, total: calls.append((done, total)))
    assert (source.spec.height, source.spec.width, data.trained_size) == (20, 20, "20")
    assert calls[-1] == (40, 40)
    calls.clear()
    again, _ = open_data(DataConfig(path=str(clip()), size="20"), lambda done, total: calls.append(done))
    assert again.folder == source.folder
    assert not calls
    source, data = open_data(DataConfig(path=str(store())))
    assert (source.folder, data.trained_size) == (store(), None)


def test_missing_data_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="did you mean 'bouncing'"):
        open_data(DataConfig(path="bouncin"))
    with pytest.raises(UserError, match=r"did you mean .*clip\.mp4"):
        open_data(DataConfig(path=str(clip().with_name("clop.mp4"))))


def test_length_of_a_run_in_steps():
    assert resolve_steps(TrainConfig(steps=7, batch_size=4), 10) == (3, 7)
    assert resolve_steps(TrainConfig(epochs=2.5, batch_size=4), 10) == (3, 8)
    assert resolve_steps(TrainConfig(epochs=0.01, batch_size=4), 10) == (3, 1)
    assert resolve_steps(TrainConfig(budget="1m", steps_per_epoch=5), 10) == (5, None)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 1, "epochs": 1}, "expected one of --steps, --epochs and --budget"),
        ({"steps": 0}, "--steps must be above 0"),
        ({"budget": "soon"}, "duration 'soon'"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"keep": 0}, "--train.keep must be at least 1"),
        ({"ema": 1.0}, "--train.ema"),
        ({"steps_per_epoch": -1}, "--train.steps-per-epoch"),
    ],
)
def test_invalid_training_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        TrainConfig(**settings)


def test_frequencies_in_epochs_become_steps_once():
    train = TrainConfig(steps=5, every="epochs", preview_every=8, validate_every=1, save_every=2)
    settled = every_in_steps(train, 625)
    assert (settled.preview_every, settled.validate_every, settled.save_every) == (5000, 625, 1250)
    assert settled.every == "steps"
    assert every_in_steps(settled, 625) == settled


def test_a_config_larger_than_its_weights_is_refused_before_it_is_built(tmp_path):
    weights = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}, weights)
    check_shapes(lambda: torch.nn.Linear(3, 3), weights)
    with pytest.raises(UserError, match="describes a model larger than its weights"):
        check_shapes(lambda: torch.nn.Linear(10_000_000, 10_000_000), weights)
    with pytest.raises(UserError, match="describes a model larger than its weights"):
        check_shapes(lambda: torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(10**4))), weights)
    with pytest.raises(UserError, match="2 of 2 tensors do not fit the model, first 'weight'"):
        check_shapes(lambda: torch.nn.Linear(4, 4), weights)
