"""Inputs of the categorical network: the scene without its objects; and its logits in training and prediction."""

import dataclasses

import pytest
import torch

from framecast.models.categorical.config import tiny
from framecast.models.categorical.networks import History, Network

GROUND, DOT, SPRITE = 0, 1, 2


def network(**changes):
    config = dataclasses.replace(
        tiny(), palette=((0, 0, 0), (9, 9, 9), (200, 0, 0)), areas=(300, 90, 12), background=True, **changes
    )
    return Network(config, 3, 8, 8, 0), config


def history(config, *rows):
    """A history of frames whose pixel (0, 0) has these colours, oldest first; the others are ground."""
    frames = torch.zeros(1, len(rows), 8, 8, dtype=torch.int64)
    frames[0, :, 0, 0] = torch.tensor(rows)
    return History.of(frames, None, 3, config, 0)


def test_background_is_the_newest_common_colour_below_a_sprite():
    net, config = network()
    for rows, expected in (
        ((DOT, DOT, SPRITE, SPRITE), DOT),  # covered
        ((DOT, SPRITE, GROUND, SPRITE), GROUND),  # eaten, then covered
        ((DOT, DOT, DOT, DOT), DOT),
        ((DOT, SPRITE, SPRITE, GROUND), GROUND),
    ):
        found = net.background(history(config, *rows))
        assert found.shape == (1, 3, 8, 8)
        assert found[0, :, 0, 0].tolist() == [float(k == expected) for k in range(3)]
        assert found[0, :, 1:].sum(0).eq(1).all()
        assert found[0, GROUND, 1:].eq(1).all()


def test_background_is_unknown_where_a_sprite_has_always_been():
    net, config = network()
    found = net.background(history(config, SPRITE, SPRITE, SPRITE, SPRITE))
    assert found[0, :, 0, 0].tolist() == [0, 0, 0]
    assert Network(dataclasses.replace(config, background=False), 3, 8, 8, 0).background(history(config, DOT)) is None


def test_a_large_colour_that_most_frames_lack_is_no_scene():
    """Four chasers that turn blue together cover more than one sprite, but only for a while."""
    config = dataclasses.replace(tiny(), palette=((0, 0, 0), (9, 9, 9), (200, 0, 0)), areas=(300, 90, 90))
    assert Network(dataclasses.replace(config, presence=(1.0, 0.5, 0.2)), 3, 8, 8, 0).common.flatten().tolist() == [
        True,
        True,
        False,
    ]
    assert Network(config, 3, 8, 8, 0).common.all()  # of an earlier version, which did not measure it


def test_background_reaches_the_logits_and_the_first_layer():
    torch.manual_seed(0)
    net, config = network()
    covered, eaten = (history(config, *rows) for rows in ((DOT, DOT, SPRITE, SPRITE), (GROUND, GROUND, SPRITE, SPRITE)))
    nothing = torch.zeros(1, 0)
    with torch.no_grad():
        a, b = (net(h, nothing)[0][0, :, 0, 0] for h in (covered, eaten))
        assert (a - b)[DOT] == (b - a)[GROUND] == net.uncover  # the head is zero at the start
        without = (dataclasses.replace(h, since=h.since.clone()) for h in (covered, eaten))
        shown = [net._planes(h, net.background(h)) for h in without]
    assert shown[0].shape[1] == (config.frames + len(config.traces) + 1) * 3
    assert not torch.equal(shown[0][:, -3:], shown[1][:, -3:])


def test_without_areas_no_colour_is_common():
    net = Network(dataclasses.replace(tiny(), background=True), 3, 8, 8, 0)
    assert not net.background(history(net.config, DOT, DOT)).any()


@pytest.mark.parametrize("narrow", [False, True])
def test_logits_of_training_and_prediction_are_equal(narrow):
    """Training has channels last, and inputs in the precision of the convolutions."""
    torch.manual_seed(0)
    net, config = network()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    frames = torch.randint(0, 3, (2, 9, 8, 8))
    found = []
    for training in (True, False):
        with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            seen = History.of(frames[:, :-1], None, 3, config, 0).advance(frames[:, -1], torch.zeros(2, 0))
            found.append(net(seen, torch.zeros(2, 0))[0].detach())
    assert float(found[1].std()) > 0.1
    close = {"atol": 0.05, "rtol": 0.05} if narrow else {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(found[0], found[1], **close)
