"""The packaged weights of the ball still dream as they did when they were made."""

import pytest
import torch

import framecast
from framecast.data.synthetic.ball import COLOUR, RADIUS, painted, places
from framecast.training.run_folder import open_run, packaged
from reproduction.dream_metrics import change, spot, turns

LENGTH = 300


@pytest.fixture(scope="module")
def frames():
    place = places()
    pictures = [painted((next(place), 32), RADIUS, COLOUR) for _ in range(136)]
    return torch.stack([torch.from_numpy(p) for p in pictures]).float() / 255


@pytest.fixture(scope="module")
def model():
    return framecast.load("dreams-ball")


@pytest.fixture(scope="module")
def dream(model, frames):
    """Two dreams of 300 frames, both from the same ten real ones."""
    generator = torch.Generator().manual_seed(0)
    return model.predict(frames[:10], LENGTH, samples=2, generator=generator)[:, 0]


def test_weights_are_half_precision_and_contain_no_path():
    run = open_run("dreams-ball")
    assert run.config.name == "dreams"
    assert run.config.data.path == "ball"
    assert sum(p.stat().st_size for p in packaged()["dreams-ball"].iterdir()) < 5_000_000


def test_reconstruction_preserves_frames(model, frames):
    decoded = model.decode(model.encode(frames[None]))[0]
    assert float((decoded - frames).square().sum((1, 2, 3)).mean()) <= 5
    truth, found = spot(frames), spot(decoded)
    whole = truth.area == 317
    assert float(((found.centre - truth.centre)[whole].norm(dim=-1) <= 1).float().mean()) >= 0.95


def test_dreams_contain_a_moving_ball_that_turns(dream, frames):
    seen = spot(dream)
    x = seen.centre[..., 0]
    step = (x[:, 1:] - x[:, :-1]).abs()
    assert float((seen.area >= 55).float().mean()) >= 0.95
    assert 1 <= float(step[step.isfinite()].median()) <= 3
    assert min(turns(row) for row in x) >= 4
    assert 0.5 <= float(change(dream[:, 20:]).mean() / change(frames)) <= 2


def test_latent_norms_of_dreams_stay_constant(model, frames, dream):
    data = model.encode(frames[None]).norm(dim=-1).mean()
    dreamt = model.encode(dream).norm(dim=-1)
    assert 0.5 <= float(dreamt[:, -20:].mean() / data) <= 2


def test_packaged_dreams_can_be_played(tmp_path, monkeypatch):
    pytest.importorskip("fastapi")
    from framecast.inference.starts import open_starts
    from framecast.web.player import Player
    from framecast.web.session import Session

    monkeypatch.setenv("FRAMECAST_CACHE", str(tmp_path))  # nothing was made before
    run = open_run("dreams-ball")
    session = Session(Player(run.model(), open_starts(run), "dreams-ball", "dreams (small)"))
    hello = session.player.hello()
    assert [control["label"] for control in hello["controls"]] == [
        "Temperature: which future",
        "Temperature: how much noise",
    ]
    assert len(hello["sliders"]) == 32
    for _ in range(20):
        session.step()
    seen = spot(torch.from_numpy(session.now.picture)[None].float() / 255)
    truth = spot(torch.from_numpy(session.start.after(20)[0])[None].float() / 255)
    assert float((seen.centre - truth.centre).norm()) <= 3
