"""Flags of `train` and `data make`: one per field of the config, and the config they give."""

import dataclasses

import pytest

from framecast.cli.data import make_config, make_flags
from framecast.core.errors import UserError
from framecast.core.flags import field_docs, flag_names, parse
from framecast.data import SOURCES
from framecast.data.registry import find_source
from framecast.data.synthetic.bouncing import BouncingConfig
from framecast.models import MODELS
from framecast.models.registry import find_model
from framecast.training.flags import from_file, train_config, train_flags
from framecast.training.presets import preset, profiles


def config_from(*argv, profile="tiny", base=None):
    base = base or preset("multiscale-gan", profile)
    flags = parse(train_flags(base, profiles("multiscale-gan")), ["--data", "x.mp4", *argv], "train multiscale-gan")
    return train_config(base, flags)


def test_without_flags_the_config_is_the_profile():
    for profile in profiles("multiscale-gan"):
        base = preset("multiscale-gan", profile)
        found = config_from(profile=profile)
        assert dataclasses.replace(found, data=base.data) == base
        assert found.data.path == "x.mp4"


def test_every_setting_has_one_flag():
    names = flag_names(train_flags(preset("multiscale-gan"), ["default"]))
    assert len(names) == len(set(names))
    assert not [n for n in names if n.startswith("--model.optim")]
    short = {"steps", "epochs", "budget", "batch-size", "grad-accum-steps", "seed", "precision", "deterministic"}
    assert {f"--{n}" for n in short} <= set(names)
    assert not {f"--train.{n}" for n in short} & set(names)
    assert "--train.save-every" in names


def test_flags_set_their_config_fields():
    found = config_from(
        *("--steps", "7", "--batch-size", "2", "--optim.generator-lr", "1e-3", "--model.no-adversarial"),
        *("--train.save-every", "3", "--size", "64", "--model.context", "3"),
    )
    assert (found.train.steps, found.train.batch_size, found.train.save_every) == (7, 2, 3)
    assert (found.model.optim.generator_lr, found.model.adversarial, found.model.context) == (1e-3, False, 3)
    assert found.data.size == "64"


@pytest.mark.parametrize("config", [find_source(n).Config for n in SOURCES] + [find_model(n).Config for n in MODELS])
def test_every_flag_has_a_help_text(config):
    docs = field_docs(config)
    assert not [f.name for f in dataclasses.fields(config) if not docs.get(f.name)]


def test_tables_are_parsed_from_text():
    rows = ("--model.generator-widths", "4,4,4,6-6", "--model.generator-kernels", "3-3,3-3,3-3,3-3-3")
    assert config_from(*rows).model.generator_widths == ((4,), (4,), (4,), (6, 6))


def test_length_flag_replaces_the_length_of_the_profile():
    found = config_from("--budget", "3m")
    assert (found.train.steps, found.train.epochs, found.train.budget) == (None, None, "3m")
    with pytest.raises(UserError, match="expected one of --steps, --epochs and --budget, got 2"):
        config_from("--budget", "3m", "--steps", "3")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--model.context", "model.context must be at least 1"),
        ("--optim.generator-lr", "generator_lr must be above 0"),
        ("--batch-size", "--batch-size must be at least 1"),
        ("--train.save-every", "--train.save-every must be at least 1"),
    ],
)
def test_invalid_values_are_refused(flag, sentence):
    with pytest.raises(UserError, match=sentence):
        config_from(flag, "0")


def test_config_file_overrides_profile_and_flags_override_file():
    base = preset("multiscale-gan", "tiny")
    given = {"train": {"budget": "5m", "batch_size": 6}, "model": {"gdl_weight": 0, "optim": {"eps": "1e-7"}}}
    base = from_file(base, given, "mine.yaml")
    found = config_from("--batch-size", "2", base=base)
    assert (found.train.budget, found.train.steps, found.train.batch_size) == ("5m", None, 2)
    assert (found.model.gdl_weight, found.model.optim.eps) == (0.0, 1e-7)


def test_config_of_a_run_is_a_valid_config_file():
    base = preset("multiscale-gan", "tiny")
    stored = dataclasses.replace(base, data=dataclasses.replace(base.data, path="x", digest="12", trained_size="128"))
    found = from_file(base, stored.to_json(), "config.json")
    assert found == dataclasses.replace(base, data=dataclasses.replace(base.data, path="x"))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"trian": {}}, "mine.yaml: unknown key 'trian'; did you mean 'train'?"),
        ({"train": {"batch_size": "eight"}}, "mine.yaml: train: batch_size: expected a whole number, got text 'eight'"),
        ({"model": {"optim": {"generatr_lr": 1}}}, "unknown key 'generatr_lr'; did you mean 'generator_lr'?"),
        ({"name": "copy-last"}, "mine.yaml: is a config of copy-last; expected one of multiscale-gan"),
        ({"train": 3}, "mine.yaml: train"),
    ],
)
def test_invalid_config_files_are_refused(given, sentence):
    with pytest.raises(UserError) as error:
        from_file(preset("multiscale-gan"), given, "mine.yaml")
    assert sentence in str(error.value)


def test_source_flags_give_its_config():
    flags = parse(make_flags("bouncing", BouncingConfig), ["--out", "x", "--videos", "3"], "data make bouncing")
    assert make_config(BouncingConfig, flags) == BouncingConfig(videos=3)
    assert (flags.out, flags.overwrite) == ("x", False)
