"""Files and flags of older versions are read under their present names."""

import dataclasses
import json

import pytest
import torch

from framecast.cli.export import ExportFlags
from framecast.core.flags import parse
from framecast.core.migration import migrate_checkpoint, migrate_config, migrate_run_folder
from framecast.training.flags import from_file
from framecast.training.presets import preset


def test_renamed_settings_are_found_under_their_new_names():
    old = {
        "format": 1,
        "train": {"accumulate": 2, "seed": 3},
        "spec": {"channels": 3, "actions": {"kind": "continuous", "size": 1, "mean": [0.5], "sd": [2.0]}},
    }
    new = migrate_config(old)
    assert new["train"] == {"grad_accum_steps": 2, "seed": 3}
    assert new["spec"]["actions"] == {"kind": "continuous", "size": 1, "mean": [0.5], "std": [2.0]}
    assert migrate_config({"spec": {"extras": {"ram": [128], "terminals": []}}})["spec"]["extras"] == {
        "ram": [128],
        "terminated": [],
    }
    assert migrate_config(new) == new, "present names stay"
    assert old["train"] == {"accumulate": 2, "seed": 3}, "what was read is left alone"


@pytest.mark.parametrize(
    ("name", "profile", "setting"),
    [
        ("dreams", "narrow", "background"),
        ("hierarchical", "narrow", "background"),
        ("visual-dynamics", "pairs", "guess_weight"),
    ],
)
def test_whole_runs_of_a_profile_that_was_renamed_have_its_present_name(name, profile, setting):
    old = {"version": "0.1.0", "name": name, "profile": "small", "model": {"context": 10}}
    assert migrate_config(old)["profile"] == profile
    present = {**old, "model": {setting: "last"}}
    assert migrate_config(present)["profile"] == "small", "a run of the present profile"
    mine = {k: v for k, v in old.items() if k != "version"}
    assert migrate_config(mine)["profile"] == "small", "a file that sets some fields"
    other = {**old, "name": "direct"}
    assert migrate_config(other)["profile"] == "small"


def test_optimisers_of_renamed_phases_are_found():
    saved = {"step": 4, "optimisers": {"fool": {"state": 1}, "judge": {"state": 2}}}
    assert migrate_checkpoint(saved)["optimisers"] == {"generator": {"state": 1}, "discriminator": {"state": 2}}
    other = {"stage_seconds": 2.0, "optimisers": {"generator": {"state": 1}, "discriminator": {"state": 2}}}
    assert migrate_checkpoint(other) == other
    assert migrate_checkpoint(saved)["stage_seconds"] == 0


def test_a_resumed_run_finds_the_latents_an_older_version_computed(tmp_path):
    folder = tmp_path / "codes" / "memory"
    folder.mkdir(parents=True)
    (folder / "codes.json").write_text(json.dumps({"step": 3, "names": ["z"]}))
    torch.save({}, folder / "z-0.npy")
    migrate_run_folder(tmp_path)
    assert sorted(p.name for p in (tmp_path / "latents" / "memory").iterdir()) == ["latents.json", "z-0.npy"]
    assert not (tmp_path / "codes").exists()
    migrate_run_folder(tmp_path)
    assert (tmp_path / "latents" / "memory" / "latents.json").is_file()


def test_a_config_file_may_use_the_old_names():
    base = preset("multiscale-gan", "tiny")
    assert from_file(base, {"train": {"accumulate": 2}}, "old.yaml").train.grad_accum_steps == 2


def test_a_config_file_leaves_settings_it_lacks_to_the_profile():
    base = preset("multiscale-gan", "tiny")
    base = dataclasses.replace(base, train=dataclasses.replace(base.train, select="skill", select_horizon=8))
    found = from_file(base, {"train": {"seed": 3}}, "mine.yaml").train
    assert (found.seed, found.select, found.select_horizon) == (3, "skill", 8)


@pytest.mark.parametrize("words", [["--lean"], ["--inference-only"]])
def test_a_renamed_flag_works_with_a_warning(words, capsys):
    flags = parse(ExportFlags, ["run", "--out", "x", *words], "export")
    assert flags.inference_only is True
    warning = capsys.readouterr().err
    assert ("--lean is now --inference-only" in warning) == (words == ["--lean"])
