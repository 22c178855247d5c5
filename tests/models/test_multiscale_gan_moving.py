"""Things that move, in the multi-scale model: their dimming in the context and their weight in the loss."""

from dataclasses import replace

import pytest
import torch

from framecast.core.errors import UserError
from framecast.core.types import Batch, ClipSpec
from framecast.models.multiscale_gan.config import default, eight, natural, original, small, tiny
from framecast.models.multiscale_gan.moving import FRAMES, foreground, mixed, nearest_colours, palette_of
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.nn.losses import gdl, lp
from framecast.nn.scales import pyramid

SPEC = ClipSpec(channels=3, height=32, width=32)


def built(**changes):
    torch.manual_seed(0)
    return MultiscaleGAN(replace(tiny(), adversarial=False, **changes), SPEC)


def moving(frames=FRAMES, step=4):
    """A bright square of 8x8 that moves to the right by `step` px a frame, (1, frames, 3, 32, 48)."""
    clip = torch.zeros(1, frames, 3, 32, 48)
    for t in range(frames):
        clip[0, t, :, 8:16, t * step : t * step + 8] = 1.0
    return clip


def batch_of(clip, context=4):
    return Batch(context=clip[:, :context], future=clip[:, context:])


# ------------------------------------------------------------------------------------------------------- mixing


def test_mixed_context_lies_between_a_frame_and_an_earlier_one():
    torch.manual_seed(0)
    context = torch.rand(64, 4, 3, 8, 8)
    found = mixed(context, 0.5, 0.0)
    assert torch.equal(found[:, 0], context[:, 0])  # nothing is earlier
    for b in range(64):
        for t in range(1, 4):
            fits = []
            for shift in range(1, 4):
                change = context[b, max(t - shift, 0)] - context[b, t]
                share = ((found[b, t] - context[b, t]) * change).sum() / change.square().sum()
                error = (context[b, t] + share * change - found[b, t]).abs().max()
                fits.append(bool(error < 1e-5) and 0 <= share <= 0.5)
            assert any(fits)


def test_a_share_of_clips_is_not_mixed_and_none_in_validation_or_of_one_frame():
    torch.manual_seed(0)
    context = torch.rand(400, 4, 3, 4, 4)
    same = (mixed(context, 0.5, 0.3) == context).flatten(1).all(1)
    assert same.float().mean().item() == pytest.approx(0.3, abs=0.08)
    assert torch.equal(mixed(context[:, :1], 0.5, 0.0), context[:, :1])
    model, batch = built(context_mix=0.5), batch_of(torch.rand(2, 5, 3, 32, 32))
    losses = {mode: [model.train(mode).loss(batch).total.item() for _ in range(2)] for mode in (False, True)}
    assert losses[False][0] == losses[False][1] == built().eval().loss(batch).total.item()
    assert losses[True][0] != losses[True][1]


# --------------------------------------------------------------------------------------------------- foreground


def test_foreground_is_what_differs_from_the_temporal_median():
    clip = moving()
    found = foreground(clip[:, :4], clip[:, 4:])
    assert found.shape == (1, FRAMES - 4, 1, 32, 48)
    assert torch.equal(found, clip[:, 4:, :1])  # the square alone, not the place it left
    still = moving(step=0)
    assert not foreground(still[:, :4], still[:, 4:]).any()


def test_weighted_loss_equals_its_equation():
    weight, clip = 3.0, moving()[..., :32]
    batch = batch_of(clip)
    model = built(foreground_weight=weight, recursion=2, recursion_gradient="all").eval()
    found = model.loss(batch).parts
    window, total, edges = batch.context.flatten(1, 2) * 2 - 1, [], []
    for k in range(2):
        outputs = model.generator(pyramid(window, 4))
        mask = foreground(batch.context, batch.future)[:, k].repeat(1, 3, 1, 1)
        for output, y, w in zip(
            outputs, pyramid(batch.future[:, k] * 2 - 1, 4), pyramid(1 + weight * mask, 4), strict=True
        ):
            total.append((w * (output.frame - y).square()).mean())
            edges.append(gdl(output.frame, y))
        window = torch.cat([window, outputs[-1].frame.clamp(-1, 1)], 1)[:, -12:]
    assert float(found["lp"]) == pytest.approx(float(torch.stack(total).mean()), rel=1e-5)
    assert float(found["gdl"]) == pytest.approx(float(torch.stack(edges).mean()), rel=1e-5)
    plain = replace(model.config, foreground_weight=0.0)
    assert float(found["lp"]) > float(MultiscaleGAN(plain, SPEC).eval().loss(batch).parts["lp"])


def test_weight_of_lp_multiplies_every_element():
    y_hat, y = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    weight = torch.rand(2, 1, 4, 4)
    for reduction in ("mean", "sum"):
        expected = getattr(weight * (y_hat - y).square(), reduction)()
        assert lp(y_hat, y, 2.0, reduction, weight).item() == pytest.approx(expected.item(), rel=1e-6)


def test_clips_are_long_enough_for_the_median_and_unchanged_without_it():
    assert MultiscaleGAN.request(replace(tiny(), foreground_weight=1.0)).length == FRAMES
    assert MultiscaleGAN.request(tiny()).length == 5
    for config in (default(), original(), small(), natural(), eight()):
        assert (config.context_mix, config.foreground_weight, config.palette) == (0.0, 0.0, ())


# ------------------------------------------------------------------------------------------------------ palette


def test_nearest_colours_equal_a_search_over_all():
    torch.manual_seed(0)
    palette = palette_of(((0, 28, 136), (228, 111, 111), (0, 0, 0), (255, 255, 255)), 3)
    x = torch.rand(2, 6, 5, 7) * 2 - 1
    pixels = x.reshape(2, 2, 3, 5, 7).movedim(2, -1)
    expected = palette[(pixels[..., None, :] - palette).square().sum(-1).argmin(-1)].movedim(-1, 2).reshape(x.shape)
    assert torch.equal(nearest_colours(x, palette), expected)


def test_roll_out_has_the_palettes_colours_alone_and_gradients_pass():
    colours = ((0, 28, 136), (228, 111, 111), (200, 72, 72))
    model = built(palette=colours, round_feedback=True, recursion=2, recursion_gradient="all").eval()
    frames = model.predict(torch.rand(1, 4, 3, 32, 32), 3)[0]
    found = {tuple(v) for v in (frames * 255).round().int().movedim(2, -1).reshape(-1, 3).tolist()}
    assert found <= set(colours)
    window = torch.rand(1, 12, 8, 8) * 2 - 1
    block = torch.rand(1, 3, 8, 8).requires_grad_()
    _, fed = model._fed_back(window, block)
    fed.sum().backward()
    assert torch.equal(block.grad, torch.ones_like(block))


def test_colours_of_other_frames_are_refused():
    with pytest.raises(UserError, match=r"model\.palette must have 3 values per colour"):
        built(palette=((0, 0),))
