"""Hierarchical prediction from outside: records of both schemas, poses, an adversarial run that starts from another."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from cli_support import done  # noqa: F401 - a fixture
from small_models import rows_of

import framecast
from framecast.core.errors import UserError
from framecast.core.types import Batch
from framecast.data.store import DatasetWriter, Store
from framecast.data.tfrecord_writer import write_records
from framecast.models.hierarchical import objectives
from framecast.models.hierarchical.config import OptimConfig
from framecast.models.hierarchical.predictor import Hierarchical
from framecast.training.presets import preset
from framecast.training.train import train


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Clips with actions, states and joints of a robot, as a store and as records of both schemas."""
    folder, rng = tmp_path_factory.mktemp("pushes"), np.random.default_rng(0)
    with DatasetWriter(folder / "store", fps=10) as writer:
        for split in ("train", "train", "train", "val", "test"):
            actions = rng.normal(size=(8, 5)).astype(np.float32)
            place = np.clip(16 + 2 * np.cumsum(actions[:, :2], 0), 0, 24).astype(int)
            frames = np.full((8, 3, 32, 32), 40, np.uint8)
            for frame, (y, x) in zip(frames, place, strict=True):
                frame[:, y : y + 8, x : x + 8] = 210
            more = {"states": np.roll(actions, 1, 0), "joints": rng.normal(size=(8, 7)).astype(np.float32)}
            writer.add(frames, actions=actions, split=split, **more)
    for schema in ("published", "robot-push"):
        write_records(Store(folder / "store"), folder / schema, schema, quality=100)
    return folder


def config(**settings):
    base = preset("hierarchical", "tiny")
    model = dataclasses.replace(base.model, size=32, **settings)
    train_config = dataclasses.replace(base.train, steps=2, stats_every=1, tensorboard=False, precision="fp32")
    return dataclasses.replace(base, model=model, train=train_config)


@pytest.mark.parametrize("mode", ["epva", "individual"])
def test_one_config_trains_on_a_store_and_on_records_of_both_schemas(shelf, tmp_path, mode):
    losses = {}
    for name in ("store", "published", "robot-push"):
        run = train(
            "hierarchical",
            shelf / name,
            config=config(mode=mode, encoding_size=12),
            out=tmp_path / name,
            quiet=True,
        )
        losses[name] = [[v for k, v in row.items() if k.endswith("/total")] for row in rows_of(run)]
    assert np.isfinite(np.concatenate(losses["store"])).all()
    np.testing.assert_allclose(losses["published"][0], losses["store"][0], rtol=0.05)  # records hold JPEGs
    np.testing.assert_allclose(losses["robot-push"][0], losses["published"][0], rtol=1e-6)


def test_the_adversarial_mode_starts_from_an_epva_run(shelf, tmp_path, capsys):
    first = train("hierarchical", shelf / "store", config=config(), out=tmp_path / "epva", quiet=True)
    judged = config(mode="epva-gan", predictor_noise=1.0, normalise=True)
    second = train("hierarchical", shelf / "store", config=judged, out=tmp_path / "gan", init_from=first)
    result = capsys.readouterr().err
    own, ours = (len(framecast.load(run).state_dict()) for run in (second, first))
    assert f"{ours} of {own} tensors taken from" in result
    assert isinstance(framecast.load(second), Hierarchical)


def test_weights_without_a_critic_are_refused_where_one_is_needed(shelf, tmp_path):
    run = train("hierarchical", shelf / "store", config=config(), out=tmp_path / "epva", quiet=True)
    model = framecast.load(run)
    frames = torch.rand(1, 5, 3, 32, 32)
    batch = Batch(context=frames[:, :2], future=frames[:, 2:], actions=torch.zeros(1, 4, 5))
    for loss in (objectives.critic_loss, objectives.generator_loss):
        with pytest.raises(UserError, match="mode epva have no critic; train one from them with --init-from"):
            loss(model, batch)
    stored = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**stored, "model": {**stored["model"], "mode": "epva-gan"}}))
    with pytest.raises(UserError, match=r"tensors do not fit the model, first 'discriminator\..*other weights"):
        framecast.load(run)


def test_video_is_predicted_with_actions_from_a_file(shelf, tmp_path, done):  # noqa: F811
    run = train("hierarchical", shelf / "store", config=config(), out=tmp_path / "run", quiet=True)
    frames = Store(shelf / "store").clip(0, 0, 4).frames
    framecast.write_video(frames, tmp_path / "seen.mp4", 10)
    (tmp_path / "actions.json").write_text(json.dumps(np.zeros((7, 5)).tolist()))
    result = json.loads(
        done(
            *("predict", run, "--input", tmp_path / "seen.mp4", "--horizon", "6", "--out", tmp_path / "film.webp"),
            *("--actions", tmp_path / "actions.json", "--json", "-"),
        )
    )
    assert (result["context"], result["frames"]) == (2, 6)


def test_masks_and_reconstructions_are_written_beside_the_video(shelf, tmp_path, done):  # noqa: F811
    run = train("hierarchical", shelf / "store", config=config(), out=tmp_path / "run", quiet=True)
    made = ("predict", run, "--input", shelf / "store" / Store(shelf / "store").names[0], "--views", "--json", "-")
    result = json.loads(done(*made, "--horizon", "5", "--at", "4", "--out", tmp_path / "film.gif"))
    assert result["views"] == {n: str(tmp_path / f"film-{n}.gif") for n in ("mask", "reconstruction")}
    shown = {name: framecast.read_video(path).frames for name, path in result["views"].items()}
    assert {name: len(frames) for name, frames in shown.items()} == {"mask": 5, "reconstruction": 4}  # of 8, 4 are left
    model, truth = framecast.load(run), Store(shelf / "store").clip(0, 2, 6).frames[None]
    drawn = model.reconstruct(np.concatenate([truth[:, :1], truth[:, 2:]], 1))[0].numpy() * 255
    assert np.abs(shown["reconstruction"] - drawn).mean() < 6  # a .gif has 256 colours
    at_the_end = json.loads(done(*made, "--horizon", "5", "--out", tmp_path / "other.gif"))
    assert list(at_the_end["views"]) == ["mask"]


def test_predictor_mode_requires_an_encoder(shelf, tmp_path):
    with pytest.raises(UserError, match="give its run with --init-from"):
        train("hierarchical", shelf / "store", config=config(mode="predictor"), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_predictor_mode_trains_on_precomputed_encodings(shelf, tmp_path):
    first = train("hierarchical", shelf / "store", config=config(), out=tmp_path / "epva", quiet=True)
    alone = config(mode="predictor", context=3, optim=OptimConfig(predictor_lr=0.01))
    second = train("hierarchical", shelf / "store", config=alone, out=tmp_path / "alone", init_from=first, quiet=True)
    before, after = (framecast.load(run).state_dict() for run in (first, second))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"predictor"}
    assert {"predictor/enc_pred", "predictor/explained"} <= set(rows_of(second)[0])
    stored = np.load(second / "latents" / "predictor" / "encodings-0.npy")
    frames = np.array(Store(shelf / "store").clip(0, 0, 8).frames)[None]
    np.testing.assert_allclose(
        framecast.load(first).encode(torch.from_numpy(frames) / 255)[0].detach(), stored, atol=1e-5
    )
