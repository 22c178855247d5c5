"""Codes of motion: grids of samples, motions carried over, numbers that count; from the command line too."""

# ruff: noqa: F401, F811 - fixtures come by import

import json

import numpy as np
import pytest
import torch
from cli_support import clip, copy_run, done, moving_run, pairs, refused
from PIL import Image

from framecast.cli import run as command
from framecast.core.errors import UserError
from framecast.inference.latents.io import as_floats, clips
from framecast.inference.latents.motions import dims, sample, tiled, transfer
from framecast.media.images import read_image, write_image
from framecast.models.visual_dynamics.predictor import VisualDynamics
from framecast.nn.mixture import gaussian_kl
from framecast.training.run_folder import open_run


def opened():
    return open_run(moving_run())


def test_grid_of_eight_images_is_1024_px_wide():
    columns = [torch.full((8, 3, 128, 128), k / 8) for k in range(8)]
    picture = tiled(columns)
    assert picture.shape == (3, 1024, 1024)
    assert picture[0, 500, 64::128].tolist() == [round(255 * k / 8) for k in range(8)]


def test_samples_stand_between_first_and_true_second_frame(tmp_path):
    result = sample(opened(), pictures=3, out=tmp_path)
    picture = read_image(result.files["grid"])
    assert picture.shape == (3, 3 * 128, 8 * 128)
    with Image.open(result.files["film"]) as film:
        assert film.n_frames == 2
        assert film.info["duration"] == 500
    assert result.facts["pictures"] == 3
    assert result.facts["prior"] == "normal"
    assert result.facts["spread"] > 0
    again = sample(opened(), pictures=3, out=tmp_path / "again")
    assert again.files["grid"].read_bytes() == result.files["grid"].read_bytes()
    assert sample(opened(), pictures=3, seed=1, out=tmp_path / "b").files["grid"].read_bytes() != (
        result.files["grid"].read_bytes()
    )


def test_still_image_has_no_true_second_frame(tmp_path):
    write_image(np.zeros((3, 40, 50), np.uint8), tmp_path / "still.png")
    result = sample(opened(), tmp_path / "still.png", prior="posterior", out=tmp_path)
    assert result.files["grid"].name == "sample-posterior.png"
    assert read_image(result.files["grid"]).shape == (3, 128, 7 * 128)


def test_transfer_applies_motion_to_other_images(tmp_path, monkeypatch):
    run = opened()
    model = run.model()
    seen = {}

    def encode(frames):
        seen["pair"] = frames
        return VisualDynamics.encode(model, frames)

    def decode(z, context=None):
        seen["z"], seen["context"] = z, context
        return VisualDynamics.decode(model, z, context)

    model.encode, model.decode = encode, decode
    monkeypatch.setattr(run, "model", lambda device: model)
    result = transfer(run, pictures=3, out=tmp_path)
    assert read_image(result.files["grid"]).shape == (3, 3 * 128, 4 * 128)
    assert torch.equal(seen["pair"][0], seen["pair"][2])
    assert not torch.equal(seen["context"][0], seen["pair"][0, :1])
    assert torch.equal(seen["z"][0], seen["z"][1])
    with Image.open(result.files["film"]) as film:
        assert (film.n_frames, film.info["duration"]) == (2, 1000)


def test_transfer_from_a_single_clip_raises(tmp_path):
    write_image(np.zeros((3, 32, 32), np.uint8), tmp_path / "still.png")
    with pytest.raises(UserError, match="expected at least one further image to move; use --onto"):
        transfer(opened(), tmp_path / "still.png", out=tmp_path)
    result = transfer(opened(), tmp_path / "still.png", pairs(), pictures=2, out=tmp_path)
    assert result.facts == {"pictures": 2}


def test_dims_finds_active_dimensions(tmp_path):
    result = dims(opened(), pairs(), count=5, out=tmp_path)
    assert (result.facts["clips"], result.facts["size"]) == (5, 100)
    table = json.loads(result.files["table"].read_text())
    kl = table["by_number"]["kl"]
    assert result.facts["dominant"] == sorted(range(100), key=lambda i: -kl[i])[:16]
    assert result.facts["active"] == sum(v > 0.01 for v in kl)
    assert result.facts["kl"] == pytest.approx(sum(kl), abs=0.01)
    assert len(table["by_number"]["logvar_high"]) == 100
    pages = {"features 0", "features 1", "features 2", "features 3", "kernels 0", "kernels 1", "kernels 2", "kernels 3"}
    assert set(result.files) == pages | {"table", "bars"}
    assert all(path.is_file() for path in result.files.values())


def test_kl_equals_that_of_the_loss(tmp_path):
    run = opened()
    result = dims(run, pairs(), count=4, out=tmp_path)
    model = run.model()
    mean, logvar = model.posterior(as_floats(model, clips(run, pairs(), 4)))
    kl = gaussian_kl(mean, logvar).mean((0, 1))
    found = json.loads(result.files["table"].read_text())["by_number"]["kl"]
    np.testing.assert_allclose(found, kl.numpy(), atol=1e-4)


def test_commands_write_the_same_results(done, refused, tmp_path):
    for verb, file in (("sample", "sample.png"), ("transfer", "transfer.gif"), ("dims", "dims.json")):
        result = done("latents", verb, moving_run(), "--out", tmp_path, "--input", pairs())
        assert str(tmp_path / file) in result
    assert "has no latent space" in refused("latents", "sample", copy_run())
    assert "dimensions above 0.01 nats" in done("latents", "dims", moving_run(), "--out", tmp_path, "--clips", "3")


def test_missing_posteriors_raise(refused, tmp_path):
    out = tmp_path / "none"
    words = ("train", "visual-dynamics", "--profile", "tiny", "--data", pairs(), "--out", out, "--steps", "1")
    assert command([str(w) for w in (*words, "--model.stored", "0", "--quiet", "--train.no-tensorboard")]) == 0
    result = refused("latents", "sample", out, "--prior", "posterior")
    assert result.startswith("this run has no stored posteriors to sample from; train with model.stored above 0")


def test_any_video_is_a_source_of_pairs(done, tmp_path):
    run = tmp_path / "film"
    words = (
        "--profile",
        "tiny",
        "--data",
        clip(),
        "--out",
        run,
        "--steps",
        "2",
        "--train.no-tensorboard",
        "--train.stats-every",
        "1",
    )
    done("train", "visual-dynamics", *words)
    assert "sample.png" in done("latents", "sample", run, "--out", tmp_path)
    assert read_image(tmp_path / "sample.png").shape == (3, 7 * 128, 8 * 128)  # eight frames are held out
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2


def test_prediction_from_one_image(done, refused, tmp_path):
    write_image(np.full((3, 48, 40), 90, np.uint8), tmp_path / "still.png")
    film = ("--input", tmp_path / "still.png", "--horizon", "2", "--samples", "3", "--out", tmp_path / "f.gif")
    assert "1 context frames, 2 predicted" in done("predict", moving_run(), *film)
    with Image.open(tmp_path / "f.gif") as made:
        assert made.n_frames == 3
