"""Codes in figures, on a model whose codes are known."""

# ruff: noqa: F401, F811 - fixtures come by import

import csv
import functools
import json

import pytest
import torch
from cli_support import done, refused, store, work
from small_models import Plain, Steered, TwoStage, small_config

from framecast.core.errors import UserError
from framecast.inference.latents.io import clips
from framecast.inference.latents.statistics import dream_norms, importance, statistics
from framecast.training.run_folder import open_run
from framecast.training.train import train


@functools.cache
def coding_run():
    return train(TwoStage, store(), config=small_config(TwoStage, steps=2), out=work() / "measured", quiet=True)


def with_model(model):
    """The run, opened, with a model put in its place."""
    run = open_run(coding_run(), TwoStage)
    run.model = lambda device="cpu": model
    return run


class Known(TwoStage):
    """Codes: mean of red, of green, a number nobody decodes. Decoded: flat colours."""

    def encode(self, frames):
        red, green = frames[:, :, 0].mean((-1, -2)), frames[:, :, 1].mean((-1, -2))
        return torch.stack([red, 3 * green, red * 0 + frames[:, :, 2].mean((-1, -2))], -1)

    def decode(self, z, context=None):
        b, t, _ = z.shape
        colour = torch.stack([z[..., 0], z[..., 1] / 3, torch.zeros(b, t)], -1)
        return colour[..., None, None].expand(b, t, 3, 32, 32)


def known():
    run = open_run(coding_run(), TwoStage)
    return with_model(Known(run.config.model, run.config.spec))


def test_importance_is_the_rise_of_the_error_without_a_dimension(tmp_path, monkeypatch):
    colours = torch.randint(0, 256, (4, 3, 3, 1, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    flat = colours.expand(-1, -1, -1, 32, 32)
    monkeypatch.setattr("framecast.inference.latents.statistics.clips", lambda *_: flat)
    result = importance(known(), out=tmp_path, count=4)
    frames = flat.float().div(255)
    red, green = (frames[:, :, c].mean((-1, -2)) for c in (0, 1))
    rises = {row["number"]: row["rise"] for row in result.facts["numbers"]}
    # Of a flat picture, replacing a colour by its mean over frames costs its variance at every pixel.
    for dim, value in ((0, red), (1, green)):
        assert rises[dim] == pytest.approx(float(value.var(unbiased=False)) * 32 * 32, rel=1e-3)
    assert rises[2] == pytest.approx(0, abs=1e-3)
    assert [row["rise"] for row in result.facts["numbers"]] == sorted(rises.values(), reverse=True)
    assert sum(row["share"] for row in result.facts["numbers"]) == pytest.approx(1)
    rows = list(csv.DictReader((tmp_path / "importance.csv").open()))
    assert [int(row["number"]) for row in rows] == [row["number"] for row in result.facts["numbers"]]
    assert (tmp_path / "importance.png").is_file()


def test_statistics_of_latents(tmp_path):
    run = known()
    result = statistics(run, out=tmp_path, count=4)
    latents = run.model().encode(clips(run, count=4).float().div(255)).flatten(0, 1)
    assert result.facts["norm"] == pytest.approx(float(latents.norm(dim=1).mean()), rel=1e-5)
    for d, row in enumerate(result.facts["numbers"]):
        assert row["mean"] == pytest.approx(float(latents[:, d].mean()), rel=1e-4)
        assert row["std"] == pytest.approx(float(latents[:, d].std()), rel=1e-4)
        assert (row["low"], row["high"]) == (float(latents[:, d].min()), float(latents[:, d].max()))
    assert "dream" not in result.facts  # it has codes but does not dream in them
    with pytest.raises(UserError, match="--steps must be at least 0"):
        statistics(run, steps=-1)


def test_latent_norms_of_dreams():
    torch.manual_seed(0)
    run = open_run(coding_run(), TwoStage)
    model = Steered(small_config(Steered).model, run.config.spec)
    context = torch.rand(2, 2, 3, 12, 12)
    found = dream_norms(model, context, (1, 4))
    assert [row[0] for row in found] == [1, 4]
    generator = torch.Generator().manual_seed(0)
    carry = model.rollout_init(context, generator=generator)
    for _ in range(4):
        carry, frame = model.rollout_step(carry)
    assert found[-1][1] == pytest.approx(float(model.get_latent(carry).norm(dim=-1).mean()))
    assert found[-1][2] == pytest.approx(float(model.encode(frame[:, None]).norm(dim=-1).mean()))


def test_commands_write_the_same_results(done, refused, tmp_path):
    (tmp_path / "mine.py").write_text("from small_models import TwoStage\n")
    given = ("--model-class", f"{tmp_path / 'mine.py'}:TwoStage", "--clips", "2", "--json", "-")
    result = json.loads(done("latents", "importance", coding_run(), *given, "--out", tmp_path / "a"))
    assert len(result["numbers"]) == 6
    result = json.loads(done("latents", "statistics", coding_run(), *given, "--out", tmp_path / "b"))
    assert result["files"]["table"] == str(tmp_path / "b" / "statistics.csv")
