"""Packaged weights: complete, small, in single precision when loaded, with the scores of their model cards."""

# ruff: noqa: F811 - fixtures come by import

import json
import re

import numpy as np
import pytest
import torch
from cli_support import done  # noqa: F401
from PIL import Image

import framecast
from framecast.data.store import Store
from framecast.data.synthetic.shapes import Shapes, ShapesConfig
from framecast.evaluation.evaluate import evaluate
from framecast.evaluation.motion import measure_motions, samplers
from framecast.media.write import write_video
from framecast.metrics.displacement import KINDS
from framecast.metrics.scores import Scores
from framecast.training.run_folder import open_run, packaged

#: Bytes each may take; all together 16 MB.
LIMITS = {"multiscale-gan-pacman": 2_000_000, "visual-dynamics-shapes": 8_000_000}


def fresh_pacman(folder, episodes=2, frames=30, seed=20251121):
    """Episodes of Ms. Pac-Man that no training saw, at frame skip 4."""
    pytest.importorskip("ale_py")
    from framecast.data.synthetic.atari import Atari, AtariConfig

    config = AtariConfig(game="ms_pacman", episodes=episodes, max_frames=frames, frame_skip=4, seed=seed)
    Atari(config).prepare(folder)
    return Store(folder)


@pytest.mark.parametrize("name", packaged())
def test_packaged_weights_are_complete_and_small(name):
    folder = packaged()[name]
    files = {p.name: p for p in folder.iterdir()}
    assert {"config.json", "model.safetensors", "README.md"} <= set(files)
    assert sum(p.stat().st_size for p in files.values() if p.is_file()) <= LIMITS.get(name, 8_000_000)
    model = framecast.load(name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    run = open_run(name)
    assert run.own is False
    assert run.trained[0] > 0
    text = files["README.md"].read_text() + files["config.json"].read_text()
    assert not re.search(r"(?<![\w.:/])/(?:home|root|Users|tmp|mnt|work)/\w+", text)
    if name.startswith("world-"):  # figures of whole plays instead of scores of forecasts
        assert "## A playable world" in text
        assert "Figures (the true game's beside each" in text
        return
    assert "## Protocol" in text
    scores = files["scores.json"].read_text()
    found = Scores.load(files["scores.json"])
    curves = sum(len(row) for row in (*found.predictors.values(), *found.versus.values()))
    assert len(scores.splitlines()) < 300 + 5 * curves, "one curve a line"
    assert not re.search(r"[1-9]\.\d{6}", scores), "six digits are enough for a test split"


def test_total_size_of_packaged_weights_is_small():
    assert sum(p.stat().st_size for folder in packaged().values() for p in folder.iterdir()) <= 16_000_000


def test_packaged_weights_are_listed(done):
    rows = {row["name"]: row for row in json.loads(done("models", "--pretrained", "--json"))}
    assert set(LIMITS) <= set(rows)
    row = rows["multiscale-gan-pacman"]
    assert (row["family"], row["profile"]) == ("multi-scale adversarial prediction", "small")
    assert "multiscale-gan-pacman" in done("models", "--pretrained")


def test_pacman_scores_on_new_episodes_match_its_model_card(tmp_path):
    source = fresh_pacman(tmp_path / "fresh")
    scores, _ = evaluate("multiscale-gan-pacman", source, split="all", horizon=1, clips=4, save=False)
    result = Scores.load(packaged()["multiscale-gan-pacman"] / "scores.json")
    gain, stored = (s.versus["multiscale-gan"]["moving_psnr"] for s in (scores, result))
    assert scores.protocol.videos == 2
    assert stored.mean[0] > 10
    assert gain.mean[0] > stored.low[0] - 3, "far below its model card"
    assert scores.predictors["multiscale-gan"]["psnr"].mean[0] > 33


def test_packaged_model_predicts_a_video(done, tmp_path):
    source = fresh_pacman(tmp_path / "fresh", episodes=1, frames=8)
    clip = write_video(source.clip(0, 0, 8).frames, tmp_path / "clip.mp4", 15)
    result = done("predict", "multiscale-gan-pacman", "--input", clip, "--horizon", 2, "--out", tmp_path / "future.gif")
    assert "4 context frames, 2 predicted" in result
    assert framecast.read_video(tmp_path / "future.gif").frames.shape[0] == 6
    frames = source.clip(0, 0, 4).frames
    assert framecast.load("multiscale-gan-pacman").predict(np.array(frames), 1).shape == (1, 1, 1, 3, 210, 160)


@pytest.fixture(scope="module")
def fresh_shapes(tmp_path_factory):
    """Scenes of the law the packaged weights learnt, of a seed no training saw."""
    folder = tmp_path_factory.mktemp("shapes") / "fresh"
    Shapes(ShapesConfig(train=1, val=1, test=30, visualise=0, size=64, seed=20251121)).prepare(folder)
    return Store(folder)


@pytest.mark.parametrize("prior", ["normal", "posterior"])
def test_motions_of_shapes_follow_their_law_in_fresh_scenes(fresh_shapes, prior):
    law = {kind: list(range(-10, 11)) for kind in KINDS}
    sampler = samplers(framecast.load("visual-dynamics-shapes"))[prior]
    result = measure_motions(sampler, fresh_shapes, fresh_shapes.splits(2)["test"], (64, 64), law)
    for kind in KINDS:
        row = result["shapes"][kind]
        assert row["off_axis"] > (0.88 if kind == "triangle" else 0.95), kind
        assert 0.8 < row["sd_ratio"] < 1.2, kind
        assert row["within_image_sd"] > 3, kind
        assert row["kl"] < 0.8, kind  # 600 samples: the sparse bins alone make up to half of it
    assert result["shapes"]["square"]["rejected"] < 0.05
    assert result["doubled"] < (0.12 if prior == "normal" else 0.04)  # 0.19 and 0.09 without the link `erasing`
    assert result["corr_circle_triangle"] > 0.9
    assert abs(result["corr_circle_square"]) < 0.15


def test_packaged_model_samples_many_futures(done, tmp_path):
    done("latents", "sample", "visual-dynamics-shapes", "--prior", "posterior", "--out", tmp_path)
    with Image.open(tmp_path / "sample-posterior.png") as grid:
        assert grid.size == (1024, 1024)
    with Image.open(tmp_path / "sample-posterior.gif") as film:
        assert film.n_frames == 2
        assert film.info["duration"] == 500
