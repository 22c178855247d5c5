"""Codes looked into: which clips are taken, what moving one number does, and what is refused."""

# ruff: noqa: F401, F811 - fixtures come by import

import functools
import json
import shutil

import numpy as np
import pytest
import torch
from cli_support import copy_run, done, refused, store, work
from PIL import Image
from small_models import TwoStage, small_config

from framecast.cli.latents import numbers
from framecast.core.errors import UserError
from framecast.inference.latents.io import clips
from framecast.inference.latents.traversal import traverse
from framecast.media.images import write_image
from framecast.training.run_folder import open_run
from framecast.training.train import train


@functools.cache
def coding_run():
    """A model of another's with codes of six numbers, after two steps on 32x32 frames."""
    config = small_config(TwoStage, steps=2)
    return train(TwoStage, store(), config=config, out=work() / "coding", quiet=True)


def opened():
    return open_run(coding_run(), TwoStage)


def test_clips_are_held_out_or_given(tmp_path):
    run = opened()
    held = clips(run, count=2)
    assert (held.dtype, held.shape) == (torch.uint8, (2, 3, 3, 32, 32))
    assert torch.equal(held, clips(run, count=2))
    assert clips(run, store(), count=5).shape[0] == 5
    write_image(held[0, 0], tmp_path / "still.png")
    still = clips(run, tmp_path / "still.png")
    assert torch.equal(still, held[:1, :1].expand(-1, 3, -1, -1, -1))


def test_examples_beside_the_weights_come_first(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(coding_run() / "weights" / "step-2", folder)
    frames = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
    for i, frame in enumerate(frames):
        write_image(frame, folder / "examples" / f"{i}.png")
    np.testing.assert_array_equal(clips(open_run(folder, TwoStage))[0], frames)


def test_one_dimension_moves_and_the_others_stay(tmp_path):
    run = opened()
    result = traverse(run, dims=[4, 1], low=-2, high=2, steps=5, out=tmp_path)
    assert result.facts == {"dims": [4, 1], "values": [-2, -1, 0, 1, 2]}
    assert set(result.files) == {"sheet", "film"}
    with Image.open(result.files["film"]) as film:
        assert film.n_frames == 5
        assert film.info["duration"] == 100
    seen = {}
    model = run.model()

    def decode(z, context=None):
        seen.setdefault("codes", []).append(z[:, -1].clone())
        return TwoStage.decode(model, z, context)

    model.decode = decode
    run.model = lambda device: model
    traverse(run, dims=[4], low=-2, high=2, steps=5, out=tmp_path)
    (latents,) = seen["codes"]
    own = model.encode(clips(run, count=16).float() / 255)[0, -1]
    np.testing.assert_allclose(latents[:, 4], np.linspace(-2, 2, 5))
    kept = [0, 1, 2, 3, 5]
    torch.testing.assert_close(latents[:, kept], own[kept].expand(5, -1))


def test_without_dims_the_most_varied_are_shown(tmp_path):
    run = opened()
    latents = run.model().encode(clips(run, count=16).float() / 255)[:, -1]
    wanted = latents.std(0).argsort(descending=True)[:3].tolist()
    assert traverse(run, steps=3, out=tmp_path).facts["dims"] == wanted


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"dims": [6]}, r"--dims 6: latents of .* have 6 dimensions; use 0…5"),
        ({"low": 1, "high": 1}, "expected low < high"),
        ({"steps": 1}, "at least 2 steps"),
    ],
)
def test_invalid_traversal_raises(settings, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        traverse(opened(), out=tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_lists_of_numbers():
    assert numbers(None, "--dims") == ()
    assert numbers("3, 17", "--dims") == [3, 17]
    with pytest.raises(UserError, match="--dims '3,x': expected whole numbers such as 3,17"):
        numbers("3,x", "--dims")


def test_the_command(done, refused, tmp_path):
    assert "framecast latents traverse RUN" in done("latents")
    assert "did you mean 'traverse'?" in refused("latents", "travers", copy_run())
    assert "copy-last has no latent space" in refused("latents", "traverse", copy_run())
    (tmp_path / "mine.py").write_text("from small_models import TwoStage\n")
    given = ("--model-class", f"{tmp_path / 'mine.py'}:TwoStage", "--steps", "3")
    result = done("latents", "traverse", coding_run(), *given, "--out", tmp_path / "new", "--json", "-")
    made = json.loads(result)
    assert made["files"]["sheet"] == str(tmp_path / "new" / "traverse.png")
    assert (tmp_path / "new" / "traverse.gif").is_file()
