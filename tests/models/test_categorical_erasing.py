"""Objects taken out of fed-back frames in training: which, how often, and what is shown in their place."""

import dataclasses

import torch

from framecast.models.categorical.config import tiny
from framecast.models.categorical.erasing import choose, erased, ground_colours
from framecast.models.categorical.networks import History
from tests.models.test_categorical import model_of, small_config, window

GROUNDS = (0, 1)


def scene(places, size=20):
    """Frames (1, t, h, w): ground 0 with a wall 1 in the upper half, and an object 2 of 3x3 px at each place."""
    frames = torch.zeros(1, len(places), size, size, dtype=torch.int64)
    frames[:, :, : size // 2] = 1
    for t, (row, column) in enumerate(places):
        frames[0, t, row : row + 3, column : column + 3] = 2
    return frames


def since(frames):
    return History.of(frames, None, 3, tiny(), 0).since


def test_colours_of_more_than_a_tenth_of_the_frame_are_grounds():
    assert ground_colours((400, 41, 40, 3), 400) == (0, 1)


def test_an_object_is_replaced_by_the_ground_that_was_last_there():
    frames = scene([(9, 4), (9, 8)])  # half of it before the wall
    found = erased(frames[:, 1], since(frames[:, :1]), torch.tensor([2]), GROUNDS)
    wall = (torch.arange(20) < 10).long().view(1, 20, 1).expand(1, 20, 20)
    assert torch.equal(found, wall)


def test_where_no_ground_was_seen_the_most_frequent_around_is_taken():
    frames = scene([(14, 8), (14, 8)])
    found = erased(frames[:, 1], since(frames[:, :1]), torch.tensor([2]), GROUNDS)
    assert not (found == 2).any()
    assert (found[0, 14:17, 8:11] == 0).all()


def test_only_pixels_near_one_of_the_colour_are_erased():
    frame = scene([(14, 1)])[:, 0]
    frame[0, 14:17, 16:19] = 2  # another object of the colour, further than the square reaches
    found = erased(frame, since(frame[:, None]), torch.tensor([2]), GROUNDS)
    assert int((found == 2).sum()) == 9


def test_nothing_is_erased_where_no_colour_is_chosen():
    frame = scene([(14, 1)])[:, 0]
    assert torch.equal(erased(frame, since(frame[:, None]), torch.tensor([-1]), GROUNDS), frame)


def test_chosen_colours_are_shown_and_no_grounds_at_the_given_share():
    torch.manual_seed(0)
    frame = scene([(14, 1)])[:, 0].expand(4000, -1, -1)
    none = torch.full((4000,), -1)
    chosen = choose(frame, none, 0.2, GROUNDS, 4)
    assert set(chosen.tolist()) == {-1, 2}
    assert abs(float((chosen == 2).float().mean()) - 0.2) < 0.03
    again = choose(frame, torch.full((4000,), 2), 0.0, GROUNDS, 4)
    assert abs(float((again == 2).float().mean()) - 0.5) < 0.03


def test_a_scene_without_objects_is_left_alone():
    frame = torch.zeros(3, 20, 20, dtype=torch.int64)
    assert choose(frame, torch.full((3,), -1), 1.0, GROUNDS, 3).tolist() == [-1, -1, -1]


def test_the_network_sees_the_erased_frame_and_is_trained_on_the_true_one():
    config = small_config(recursion=3, flips=0.0, erase=1.0, reset_pixels=0, reset_presence=False)
    model = model_of(config).train()
    given = []
    network = model.network.forward

    def spied(history, action):
        given.append(history)
        return network(history, action)

    model.network.forward = spied
    batch = dataclasses.replace(window(config), elapsed=1.0)
    truths = model.indices(batch.future)
    model.loss(batch)
    assert all((h.frames[:, -1] != 0).sum() < (t != 0).sum() for h, t in zip(given[1:], truths.unbind(1), strict=False))
    given.clear()
    model.eval().loss(batch)  # validation shows what the model makes
    whole = model.decode(network(given[0], batch.actions[:, config.history - 1])[0])
    assert torch.equal(given[1].frames[:, -1], whole)
