"""Profiles: each can be built, and what is unknown is answered with the nearest name."""

import json

import pytest
from cli_support import mine
from small_models import Plain

from framecast.core.config import from_dict
from framecast.core.errors import UserError
from framecast.models.registry import find_model
from framecast.training.config import config_from_json
from framecast.training.presets import PRESETS, preset, profiles

EVERY = [(name, profile) for name in PRESETS for profile in profiles(name)]


@pytest.mark.parametrize(("name", "profile"), EVERY)
def test_every_profile_is_equal_after_its_file(name, profile, tmp_path):
    config = preset(name, profile)
    assert (config.name, config.profile) == (name, profile)
    assert find_model(name).request(config.model).context >= 1
    stored = json.loads(json.dumps(config.to_json()))
    assert config_from_json(stored, tmp_path / "config.json") == config


@pytest.mark.parametrize(("name", "profile"), EVERY)
def test_every_profile_has_a_length(name, profile):
    train = preset(name, profile).train
    assert sum(v is not None for v in (train.steps, train.epochs, train.budget)) == 1


def test_outside_models_have_the_defaults_of_their_config(tmp_path):
    assert preset(Plain).model == Plain.Config()
    name = f"{mine(tmp_path)}:Mine"
    config = preset(name)
    assert config.name == name
    assert config.model == from_dict(type(config.model), {})
    with pytest.raises(UserError, match=r"no profile 'small'; known are default"):
        preset(name, "small")


@pytest.mark.parametrize(
    ("name", "profile", "sentence"),
    [
        ("multiscale-gn", "default", "unknown model 'multiscale-gn'; did you mean 'multiscale-gan'?"),
        ("multiscale-gan", "smal", "multiscale-gan has no profile 'smal'; did you mean 'small'?"),
        ("mine.py", "default", "mine.py: add the name of the class, e.g. mine.py:Mine"),
        ("nowhere.py:Mine", "default", "nowhere.py: no such file"),
    ],
)
def test_unknown_names_are_refused(name, profile, sentence):
    with pytest.raises(UserError) as error:
        preset(name, profile)
    assert sentence in str(error.value)
