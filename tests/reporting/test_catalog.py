"""Catalogue rows of models, sources and packaged weights."""

import shutil

import pytest
from cli_support import mine, tiny_run

import framecast.training.run_folder
from framecast.core.errors import UserError
from framecast.models import MODELS
from framecast.reporting.catalog import draw, figure, list_models, list_packaged, list_sources, one_model


def test_every_model_has_a_row_of_its_requirements():
    rows = {row["name"]: row for row in list_models()}
    assert set(rows) == set(MODELS)
    assert rows["multiscale-gan"]["context"] == 4
    assert "arXiv 1511.05440" in rows["multiscale-gan"]["paper"]
    assert all(row["actions"] in ("none", "optional", "required") and row["profiles"] for row in rows.values())


def test_published_counts():
    result = one_model("multiscale-gan")
    assert result["parameters"]["discriminator"] == 20_640_388
    assert result["total"] == sum(result["parameters"].values())
    assert one_model("copy-last") == {
        **{"name": "copy-last", "family": "copy-last", "profile": "default"},
        **{"parameters": {}, "total": 0},
    }


def test_parameters_outside_any_part_are_counted(tmp_path):
    assert one_model(f"{mine(tmp_path)}:Mine")["parameters"] == {"other": 1}


def test_drawings_are_svg_and_written_to_the_given_path(tmp_path):
    assert "<svg" in figure("multiscale-gan", "tiny")
    draw("multiscale-gan", "tiny", tmp_path / "a" / "b.svg")
    assert "<svg" in (tmp_path / "a" / "b.svg").read_text()
    with pytest.raises(UserError, match=r"c\.svg: cannot be written"):
        draw("multiscale-gan", "tiny", tmp_path / "a" / "b.svg" / "c.svg")


def test_sources_with_their_settings():
    rows = {row["name"]: row for row in list_sources()}
    assert rows["atari"]["settings"]["game"] == "ms_pacman"
    assert rows["bouncing"]["summary"]


def test_packaged_weights_are_listed(tmp_path, monkeypatch):
    shutil.copytree(tiny_run() / "weights" / "step-2", tmp_path / "pretrained" / "small-thing")
    monkeypatch.setattr(framecast.training.run_folder, "__file__", str(tmp_path / "training" / "run_folder.py"))
    (row,) = list_packaged()
    assert row["name"] == "small-thing"
    assert (row["family"], row["profile"]) == ("multi-scale adversarial prediction", "tiny")
    assert row["bytes"] > 1000


@pytest.mark.parametrize(("profile", "total"), [("original", 895_587), ("default", 895_575), ("small", 1_170_065)])
def test_autoencoders_are_built_at_the_size_their_profile_trains_on(profile, total):
    result = one_model("c-ae", profile)
    assert result["total"] == total
    assert set(result["parameters"]) == {"encoder", "decoder"}
    row = next(row for row in list_models() if row["name"] == "c-lstm-vae")
    assert row["summary"] == "Convolutional variational ConvLSTM autoencoder: a clip to the clip 5 later."
    assert row["stochastic"]
