"""Metrics of shape colours, foregrounds and probes on scenes with known truth."""

import numpy as np
import pytest
import torch

from framecast.media.draw import SHAPES, draw_shape
from reproduction.scene_metrics import foreground, iou, presence, probe, shape_colours, shape_kinds

PALETTE = ((220, 40, 40), (40, 180, 60), (50, 80, 220), (240, 220, 60), (160, 50, 180), (250, 250, 250))
SATURATED = ((255, 0, 0), (255, 128, 0), (255, 255, 0), (0, 255, 0))
SATURATED += ((0, 255, 255), (0, 0, 255), (128, 0, 255), (255, 0, 255))
GREY = (128, 128, 128)


def frame(colour=None, at=(32.0, 32.0), size=14.0, kind="circle"):
    canvas = np.full((3, 64, 64), 128, np.uint8)
    if colour is not None:
        draw_shape(canvas, kind, at, size, colour)
    return torch.from_numpy(canvas).float()[None, None] / 255


@pytest.mark.parametrize("kind", ["circle", "square", "triangle"])
@pytest.mark.parametrize("palette", [PALETTE, SATURATED])
def test_perfect_prediction_is_correct_whatever_shape_and_colour(kind, palette):
    true = torch.cat([frame(colour, (31.3, 30.6), kind=kind) for colour in palette])
    found = shape_colours(true, true, palette, GREY)
    assert bool(found.correct.all())
    assert bool(shape_colours(true.roll(1, 0), true, palette, GREY).wrong.all())
    assert float(found.away.max()) == 0


def test_other_colours_are_wrong_and_empty_frames_gone():
    true = frame(PALETTE[0])
    other = shape_colours(frame(PALETTE[2], at=(35.0, 36.0)), true, PALETTE, GREY)
    assert (bool(other.correct), bool(other.wrong), bool(other.gone)) == (False, True, False)
    assert float(other.away) == pytest.approx(5, abs=0.1)
    empty = shape_colours(frame(), true, PALETTE, GREY)
    assert (bool(empty.correct), bool(empty.wrong), bool(empty.gone)) == (False, False, True)
    assert bool(empty.away.isnan())
    small = shape_colours(frame(PALETTE[0], size=5.0), true, PALETTE, GREY)
    assert bool(small.gone)  # an eighth of the area


def test_shape_in_noise_or_with_a_ghost_of_another_colour_is_not_correct():
    true = frame(PALETTE[0], at=(20.0, 20.0))
    noise = torch.rand(true.shape, generator=torch.Generator().manual_seed(0))
    assert bool(shape_colours(torch.where(noise > 0.6, noise, true), true, PALETTE, GREY).wrong)
    larger = frame(PALETTE[3], at=(45.0, 45.0), size=18.0)
    assert bool(shape_colours(torch.where(larger != 128 / 255, larger, true), true, PALETTE, GREY).wrong)


def test_half_faded_shape_is_gone_and_one_almost_there_is_not():
    true = frame(PALETTE[1])
    ground = frame()
    assert bool(shape_colours(0.3 * true + 0.7 * ground, true, PALETTE, GREY).gone)
    assert bool(shape_colours(0.7 * true + 0.3 * ground, true, PALETTE, GREY).correct)


@pytest.mark.parametrize("palette", [PALETTE, SATURATED])
def test_kinds_of_true_shapes_are_found_by_their_moments(palette):
    """At sizes and places as in source bouncing; at least 99 % of them, and 0 % after their kinds were exchanged."""
    rng, frames = np.random.default_rng(0), []
    kinds = rng.integers(len(SHAPES), size=400)
    for kind in kinds:
        at, size = rng.integers(10 * 16, 54 * 16, 2) / 16, float(rng.integers(10, 19))
        frames.append(frame(palette[rng.integers(len(palette))], tuple(map(float, at)), size, SHAPES[kind]))
    found = shape_kinds(torch.cat(frames), palette, GREY)[:, 0].numpy()
    assert (found == kinds).mean() >= 0.99
    assert (found == (kinds + 1) % 3).mean() <= 0.01


def test_round_blots_are_circles_and_empty_frames_have_no_kind():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blot = torch.exp(-((y - 30) ** 2 + (x - 33) ** 2) / (2 * 5**2))  # what is left of a triangle in a blurred forecast
    ink = torch.tensor(PALETTE[0]) / 255
    blurred = blot * ink[:, None, None] + (1 - blot) * 128 / 255
    assert shape_kinds(blurred[None, None], PALETTE, GREY).tolist() == [[SHAPES.index("circle")]]
    assert shape_kinds(frame(), PALETTE, GREY).tolist() == [[-1]]


def test_foreground_iou_and_presence_of_a_square_that_moves():
    ground = torch.zeros(1, 3, 40, 40)
    frames, masks = torch.zeros(1, 2, 3, 40, 40), torch.zeros(1, 2, 40, 40, dtype=torch.bool)
    for t in range(2):
        masks[0, t, 10:20, 10 + 2 * t : 20 + 2 * t] = True
    frames[0, :, 1] = masks[0].float()
    there = foreground(frames, ground)
    assert torch.equal(there, masks)
    assert iou(there, masks).tolist() == [[1.0, 1.0]]
    assert iou(there[:, :1], masks[:, 1:]).item() == pytest.approx(80 / 120)
    assert bool(iou(there & ~there, masks & ~masks).isnan().all())
    assert presence(there, masks).tolist() == [[True, True]]
    half = there.clone()
    half[..., :15, :] = False
    assert presence(half, masks).tolist() == [[False, False]]
    far = torch.zeros_like(there)
    far[..., 30:, 30:] = True
    assert presence(far, masks).tolist() == [[False, False]]
    assert presence(far, masks, near=False).tolist() == [[True, True]]
    far[..., 34:, :] = False  # 40 of 100 pixels
    assert presence(far, masks, near=False).tolist() == [[False, False]]


def test_probe_regresses_only_values_that_the_latent_contains():
    g = torch.Generator().manual_seed(0)
    latents = torch.randn(2000, 6, generator=g)
    values = torch.stack([latents[:, 0] * 0.5 + 3, latents[:, 1].abs()], 1)
    noise = torch.randn(2000, 6, generator=g)
    learnt, held = slice(0, 1500), slice(1500, None)

    def error(latents, visible=None):
        return probe(latents[learnt], values[learnt], latents[held], values[held], visible, hidden=64, steps=300)

    knows = error(latents)
    state = torch.get_rng_state()
    assert error(latents) == knows < 0.2
    assert error(noise) > 0.35
    assert torch.equal(torch.get_rng_state(), state)
    columns = [torch.arange(2).expand(500, 2) == k for k in range(2)]
    assert np.mean([error(latents, column) for column in columns]) == pytest.approx(knows, rel=1e-5)
