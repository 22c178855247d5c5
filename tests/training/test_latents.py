"""Precomputed latents of all frames."""

import json

import numpy as np
import pytest
import torch
from small_models import CPU, TwoStage, build, write_store

from framecast.core.errors import UserError
from framecast.training import latents
from framecast.training.latents import precompute_all


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "data", videos=3, frames=11)


def encoded(model, store, folder, step=0, resize=lambda frames: frames, seed=0):
    return precompute_all(model.latents, model, store, resize, CPU, folder, step, seed)


def test_every_frame_of_every_video_is_encoded_in_chunks(store, tmp_path, monkeypatch):
    model = build(TwoStage)
    whole = encoded(model, store, tmp_path / "whole")
    monkeypatch.setattr(latents, "CHUNK", 4)
    found = encoded(model, store, tmp_path / "latents")
    assert list(found) == ["z"]
    assert [v.shape for v in found["z"]] == [(11, 6)] * 3
    assert all(isinstance(v, np.memmap) for v in found["z"])
    for video in range(3):
        np.testing.assert_allclose(found["z"][video], whole["z"][video], rtol=1e-5, atol=1e-6)
        frames = torch.from_numpy(np.array(store.clip(video, 0, 11).frames))[None].float() / 255
        with torch.no_grad():
            np.testing.assert_allclose(found["z"][video], model.encode(frames)[0], rtol=1e-5, atol=1e-6)
    assert model.training


def test_latents_of_the_same_step_are_reused_and_others_recomputed(store, tmp_path):
    first = np.array(encoded(build(TwoStage), store, tmp_path / "latents", step=5)["z"][0])
    other = build(TwoStage, seed=1)
    assert np.array_equal(encoded(other, store, tmp_path / "latents", step=5)["z"][0], first)
    assert not np.allclose(encoded(other, store, tmp_path / "latents", step=6)["z"][0], first)
    assert json.loads((tmp_path / "latents" / "latents.json").read_text()) == {"step": 6, "names": ["z"]}


def test_incomplete_latents_are_recomputed(store, tmp_path):
    encoded(build(TwoStage), store, tmp_path / "latents")
    (tmp_path / "latents" / "latents.json").unlink()
    other = build(TwoStage, seed=1)
    again, fresh = (encoded(other, store, tmp_path / name)["z"][2] for name in ("codes", "elsewhere"))
    assert np.array_equal(again, fresh)


def test_sampled_latents_depend_on_the_seed_of_the_run(store, tmp_path):
    class Sampling(TwoStage):
        def latents(self, batch):
            return {name: value + torch.randn_like(value) for name, value in super().latents(batch).items()}

    model = build(Sampling)
    first, again, other = (
        np.array(encoded(model, store, tmp_path / name, seed=seed)["z"][0])
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_frames_are_resized_for_the_model(store, tmp_path):
    seen = []

    class Recording(TwoStage):
        def latents(self, batch):
            seen.append((batch.context.dtype, batch.context.shape, batch.future.shape, float(batch.context.max())))
            return super().latents(batch)

    def pad(frames):
        return np.pad(frames[:, :, 3:9, 3:9], ((0, 0), (0, 0), (3, 3), (3, 3)))

    encoded(build(Recording), store, tmp_path / "latents", resize=pad)
    dtype, context, future, top = seen[0]
    assert (dtype, context, future) == (torch.float32, (1, 11, 1, 12, 12), (1, 0, 1, 12, 12))
    assert 0 < top <= 1


def test_full_disk_is_one_sentence(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match=r"the latents could not be written \(No space left on device\)"):
        encoded(build(TwoStage), store, tmp_path / "latents")
