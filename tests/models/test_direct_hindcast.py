"""Velocities and hindcasts of `direct` against clips whose motion is known."""

import pytest
import torch

from framecast.models.direct.hindcast import LEADS, hindcast, map_counts, velocities
from framecast.nn.flow import block_matching


def pan(speeds, size=48):
    """A smooth texture (1, t, 1, size, size) whose content moves right by `speeds` px between frames."""
    ys, xs = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    frames, place = [], 0.0
    for speed in (0.0, *speeds):
        place += speed
        x = xs - place
        frames.append(0.5 + 0.2 * torch.sin(x / 3) * torch.cos(ys / 4) + 0.2 * torch.sin((x + ys) / 7))
    return torch.stack(frames)[None, :, None]


def inner(maps, edge=10):
    return maps[..., edge:-edge, edge:-edge]


def test_velocities_are_of_the_last_step_and_the_mean_of_several():
    found = inner(velocities(pan([0, 0, 3]), block_matching, 3)).mean((0, 2, 3))
    assert found.tolist() == pytest.approx([-3, 0, -1, 0], abs=0.35)


def test_velocities_of_one_frame_and_of_tiny_frames_are_zero():
    assert not velocities(pan([]), block_matching, 3).any()
    assert not velocities(pan([2, 2], size=8), block_matching, 3).any()


def test_hindcast_separates_constant_motion_from_motion_that_stops():
    steady = hindcast(pan([2] * 7), "blocks", 3)
    stopped = hindcast(pan([2] * 6 + [0]), "blocks", 3)
    names = [f"{kind}-{lead}" for lead in LEADS for kind in ("copy", "newest", "smooth")]
    for found, best in ((steady, "newest"), (stopped, "copy")):
        errors = dict(zip(names, inner(found.errors).mean((0, 2, 3)).tolist(), strict=True))
        assert min((errors[f"{kind}-1"], kind) for kind in ("copy", "newest", "smooth"))[1] == best


def test_errors_and_logarithms_of_copying_by_hand():
    frames = torch.rand(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = hindcast(frames, "none", 3)
    last = frames[:, -1]
    for i, lead in enumerate(LEADS):
        difference = frames[:, -1 - lead] - last
        torch.testing.assert_close(found.errors[:, i], difference.abs().mean(1))
        expected = ((difference.square().mean((1, 2, 3)) + 1e-6).log10() + 3) / 2
        torch.testing.assert_close(found.logs[:, i], expected)
    mean = (frames.mean(1) - last).square().mean((1, 2, 3))
    torch.testing.assert_close(found.logs[:, -1], ((mean + 1e-6).log10() + 3) / 2)
    assert found.velocities is None


@pytest.mark.parametrize("length", [2, 3, 8])
@pytest.mark.parametrize("kind", ["none", "blocks"])
def test_counts_hold_for_every_length(kind, length):
    found = hindcast(torch.rand(2, length, 3, 16, 20), kind, 3)
    maps, logs = map_counts(kind != "none")
    assert found.errors.shape == (2, maps, 16, 20)
    assert found.logs.shape == (2, logs)
