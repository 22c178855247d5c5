"""Categorical worlds: palette, history, decoding, losses, and a roll-out that keeps a moving ball sharp."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from framecast.core.errors import UserError
from framecast.core.types import ActionSpec, Batch, ClipSpec
from framecast.models.categorical.config import CategoricalConfig, tiny
from framecast.models.categorical.decoding import RareColours, expected_area, most_likely, sample
from framecast.models.categorical.networks import NEVER, History, Network
from framecast.models.categorical.palette import default_palette, find_palette, lookup_table, nearest
from framecast.models.categorical.predictor import Categorical

COLOURS = ((0, 0, 0), (200, 40, 40), (40, 40, 200))


def small_config(**changes):
    return dataclasses.replace(tiny(), palette=COLOURS, areas=(256, 4, 12), least_areas=(200, 4, 12), **changes)


def model_of(config, size=16, actions=2):
    torch.manual_seed(0)
    spec = ActionSpec(kind="discrete", size=actions) if actions else None
    return Categorical(config, ClipSpec(channels=3, height=size, width=size, actions=spec))


def random_history(config, model, b=2, t=6):
    frames = torch.randint(len(COLOURS), (b, t, 16, 16))
    actions = functional.one_hot(torch.randint(2, (b, t - 1)), 2).float()
    return frames, actions, History.of(frames, actions, len(COLOURS), config, 2)


# --------------------------------------------------------------------------------------------------------- palette


def test_palette_of_few_colours_is_exact_and_counts_their_areas():
    frames = np.zeros((3, 3, 8, 8), np.uint8)
    frames[:2, :, 2:4, 2:4] = np.array([250, 250, 250], np.uint8)[:, None, None]
    frames[2, :, 0] = np.array([10, 20, 30], np.uint8)[:, None]
    found = find_palette(frames, 16)
    assert set(found.colours) == {(0, 0, 0), (10, 20, 30), (250, 250, 250)}
    assert found.error == 0
    assert found.distinct == 3
    areas = dict(zip(found.colours, found.areas, strict=True))
    assert areas[250, 250, 250] == 4
    assert areas[10, 20, 30] == 8
    assert dict(zip(found.colours, found.extents, strict=True)) == {
        (0, 0, 0): (8, 8),
        (10, 20, 30): (1, 8),
        (250, 250, 250): (2, 2),
    }


def test_smeared_colours_are_merged_to_those_of_the_scene_and_the_error_is_stated():
    rng = np.random.default_rng(0)
    true = np.array([[20, 20, 20], [240, 60, 60], [60, 60, 240]])
    which = rng.integers(3, size=(4, 12, 12))
    frames = np.clip(true[which] + rng.integers(-4, 5, (4, 12, 12, 3)), 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
    found = find_palette(frames, 3)
    assert len(found.colours) == 3
    assert 1 < found.error < 4
    for colour in true:
        assert min(np.abs(np.array(found.colours) - colour).max(1)) <= 2


@pytest.mark.parametrize("close", [False, True])
def test_nearest_colour_equals_a_plain_search(close):
    colours = torch.tensor([(0, 0, 0), (2, 1, 0) if close else (90, 10, 40), (255, 200, 0)]).float() / 255
    table = lookup_table(colours)
    assert (len(table) == 0) == close
    frames = colours[torch.randint(3, (2, 5, 7, 7))].movedim(-1, -3)
    expected = (frames.movedim(-3, -1)[..., None, :] - colours).square().sum(-1).argmin(-1)
    assert torch.equal(nearest(frames, colours, table), expected)


def test_default_palette_has_different_colours():
    assert len(set(default_palette(16))) == 16


class Videos:
    def __init__(self, frames, rewards=None):
        self.video, self.rewards = frames, rewards
        extras = {} if rewards is None else {"rewards": (), "terminated": ()}
        self.spec = ClipSpec(channels=3, height=8, width=8, extras=extras)

    def frames(self, most):
        return iter(self.video[:most])

    def array(self, name):
        return self.rewards if name == "rewards" else self.rewards > 0


def test_config_takes_palette_rewards_and_flags_from_the_data():
    frames = np.zeros((2, 3, 8, 8), np.uint8)
    frames[:, 0, 0, 0] = 200
    found = Categorical.config_from_data(tiny(), Videos(frames, np.array([0.0, 1.0, -1.0, 0.0])))
    assert found.palette == ((0, 0, 0), (200, 0, 0))
    assert found.areas == (63, 1)
    assert found.least_areas == (63, 1)
    assert found.usual_areas == ((63,), (1,))
    assert found.presence == (), "measured for the background alone"
    behind = Categorical.config_from_data(
        dataclasses.replace(tiny(), background=True), Videos(frames, np.array([0.0, 1.0, -1.0, 0.0]))
    )
    assert behind.presence == (1.0, 1.0)
    assert found.reward_values == (-1.0, 0.0, 1.0)
    assert found.flags == ("terminated",)
    assert Categorical.request(found).extras == ("rewards", "terminated")
    without = Categorical.config_from_data(dataclasses.replace(tiny(), outcomes="none"), Videos(frames, np.zeros(2)))
    assert without.reward_values == ()


def test_a_scene_of_too_many_colours_is_refused_in_one_sentence():
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    with pytest.raises(UserError, match=r"the best palette of 8 differs .* raise --model.colours"):
        Categorical.config_from_data(tiny(), Videos(frames))


def test_smeared_training_frames_are_snapped_with_a_warning():
    rng = np.random.default_rng(0)
    frames = np.array(COLOURS, np.uint8)[rng.integers(3, size=(4, 8, 8))].transpose(0, 3, 1, 2)
    smeared = frames + rng.integers(0, 3, frames.shape).astype(np.uint8)
    with pytest.warns(UserWarning, match="snapped to a palette of 3"):
        found = Categorical.config_from_data(tiny(), Videos(smeared))
    assert len(found.palette) == 3


def test_frames_of_another_game_are_refused():
    model = model_of(small_config())
    with pytest.raises(ValueError, match="differ from the palette of 3 colours"):
        model.predict(torch.full((1, 4, 3, 16, 16), 0.7), 1, torch.zeros(1, 4, 2))


# --------------------------------------------------------------------------------------------------------- history


def test_history_of_frames_equals_advancing_frame_by_frame():
    config = small_config(frames=2, actions_seen=3, history=3)
    frames, actions, whole = random_history(config, None, t=6)
    step = History.of(frames[:, :3], actions[:, :2], len(COLOURS), config, 2)
    for t in range(3, 6):
        step = step.advance(frames[:, t], actions[:, t - 1])
    assert torch.equal(step.frames, whole.frames)
    assert torch.equal(step.actions, whole.actions)
    seen = whole.since < NEVER
    assert torch.equal(step.since[seen], whole.since[seen])
    assert torch.equal(step.present, whole.present)


def test_clock_counts_frames_since_a_colour_left_and_since_it_came():
    config = small_config(history=5)
    frames = torch.zeros(1, 5, 16, 16, dtype=torch.int64)
    frames[0, :2, 3, 3] = 1  # there in frames 0 and 1, last seen three frames ago
    frames[0, 3:, 5, 5] = 2  # there in the last two frames
    history = History.of(frames, None, 3, config, 0)
    assert history.since.amin((2, 3)).tolist() == [[0, 3, 0]]
    assert history.present.tolist() == [[5, 0, 2]]


@pytest.mark.parametrize(
    "change", [{"clock": 0}, {"background": True}, {"positions": False}, {"traces": ()}, {"actions_seen": 1}]
)
def test_every_input_can_be_left_out(change):
    config = small_config(**change)
    model = model_of(config)
    loss = model.loss(window(config))
    loss.total.backward()
    assert loss.total.isfinite()


def test_frames_of_a_side_that_is_no_multiple_of_eight_are_padded():
    config = small_config()
    network = Network(config, 3, 13, 18, 0)
    history = History.of(torch.zeros(1, 4, 13, 18, dtype=torch.int64), None, 3, config, 0)
    assert network(history, torch.zeros(1, 0))[0].shape == (1, 3, 13, 18)


# -------------------------------------------------------------------------------------------------------- decoding


def rare(least=(0, 0, 0), extents=((0, 0),) * 3):
    """A ball of 4 px and an object of 12 before a ground."""
    return RareColours.of((256, 4, 12), least, extents, 64)


def test_expected_area_keeps_a_ball_whose_place_is_uncertain_where_argmax_loses_it():
    p = torch.full((1, 3, 16, 16), 0.0)
    p[:, 0] = 1.0
    p[:, 0, 5:7, 5:9] = 0.51  # a ball of 2x2 somewhere in 2x4
    p[:, 1, 5:7, 5:9] = 0.49
    logits = p.clamp(min=1e-6).log()
    assert not (most_likely(logits) == 1).any()
    frame = expected_area(logits, rare((200, 4, 12)))
    assert (frame == 1).sum() == 4
    assert (frame[0, 5:7, 5:9] == 1).sum() == 4


def test_expected_area_ignores_small_probabilities_and_never_exceeds_the_area_of_the_data():
    p = torch.zeros(1, 3, 16, 16)
    p[:, 1] = 0.05  # 256 pixels of 0.05 add up to 13
    p[:, 0] = 0.95
    assert not (expected_area(p.clamp(min=1e-6).log(), rare()) == 1).any()
    p[:, 1, :4, :4], p[:, 0, :4, :4] = 0.9, 0.1
    assert (expected_area(p.clamp(min=1e-6).log(), rare()) == 1).sum() == 4


def test_there_is_no_half_ball():
    p = torch.zeros(1, 3, 16, 16)
    p[:, 0] = 1.0
    for expected, pixels in ((1.6, 0), (2.4, 4)):
        p[:, 1, 5:9, 5] = expected / 4
        p[:, 0, 5:9, 5] = 1 - expected / 4
        frame = expected_area(p.clamp(min=1e-6).log(), rare((200, 4, 12)))
        assert (frame == 1).sum() == pixels


@pytest.mark.parametrize(("expected", "pixels"), [(3.0, 0), (5.0, 8), (11.0, 8), (13.0, 16), (30.0, 16)])
def test_a_colour_is_drawn_in_an_area_that_the_data_show(expected, pixels):
    p = torch.zeros(1, 3, 16, 16)
    p[:, 0] = 1.0
    p[:, 2, 3:7, 3:11] = expected / 32
    p[:, 0, 3:7, 3:11] = 1 - expected / 32
    usual = ((), (4,), (8, 16))
    colours = RareColours.of((256, 4, 16), (200, 4, 8), ((0, 0),) * 3, 64, usual)
    frame = expected_area(p.clamp(min=1e-6).log(), colours, floor=0.05)
    assert (frame == 2).sum() == pixels


def test_an_object_that_may_be_at_several_places_is_shown_whole_at_one_of_them():
    p = torch.zeros(2, 3, 16, 16)
    p[:, 0] = 1.0
    for row, chance in ((2, 0.3), (7, 0.4), (12, 0.3)):
        p[:, 1, row : row + 2, 5:7] = chance
        p[:, 0, row : row + 2, 5:7] = 1 - chance
    frame = expected_area(p.clamp(min=1e-6).log(), rare((200, 4, 12), ((16, 16), (2, 2), (0, 0))))
    assert (frame[:, 7:9, 5:7] == 1).all()
    assert (frame == 1).sum() == 8


def test_samples_follow_the_probabilities():
    p = torch.tensor([0.2, 0.5, 0.3])
    logits = p.log().view(1, 3, 1, 1).expand(1, 3, 50, 50)
    drawn = sample(logits, torch.ones(1), torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)))
    share = functional.one_hot(drawn, 3).float().mean((0, 1, 2))
    torch.testing.assert_close(share, p, atol=0.03, rtol=0)


# -------------------------------------------------------------------------------------------------------- training


def window(config, b=2, seed=0):
    """A ball that moves by one pixel per frame, up or down by the action."""
    request = Categorical.request(config)
    g = torch.Generator().manual_seed(seed)
    index = torch.randint(2, (b, request.length - 1), generator=g)
    rows = 4 + torch.randint(8, (b, 1), generator=g) + torch.cat([torch.zeros(b, 1).long(), 2 * index - 1], 1).cumsum(1)
    frames = torch.zeros(b, request.length, 16, 16, dtype=torch.int64)
    frames[:, :, :, 14] = 2
    for i in range(b):
        for t in range(request.length):
            row = int(rows[i, t].clamp(0, 14))
            frames[i, t, row : row + 2, 6:8] = 1
    pixels = torch.tensor(COLOURS, dtype=torch.uint8)[frames].movedim(-1, -3).contiguous()
    return Batch(
        context=pixels[:, : request.context],
        future=pixels[:, request.context :],
        actions=functional.one_hot(index, 2).float(),
        extras={"rewards": torch.zeros(b, request.length), "terminated": torch.zeros(b, request.length)},
        elapsed=1.0,
    ).to("cpu")


def test_loss_equals_a_plain_loop_over_pixels():
    config = small_config(recursion=1, flips=0.0, change_weight=3.0)
    model = model_of(config)
    batch = window(config, b=1)
    past, truth = model.indices(batch.context), model.indices(batch.future)[:, 0]
    history = History.of(past, batch.actions[:, :-1], 3, config, 2)
    logits = model.network(history, batch.actions[:, -1])[0]
    p = logits.detach().softmax(1)[0].numpy()
    seen = torch.cat([history.frames, truth[:, None]], 1)[0].numpy()
    moved = (seen[1:] != seen[:-1]).any(0)
    total = 0.0
    for y in range(16):
        for x in range(16):
            rows, columns = (
                slice(max(0, 2 * (y // 2 - 1)), 2 * (y // 2 + 2)),
                slice(max(0, 2 * (x // 2 - 1)), 2 * (x // 2 + 2)),
            )
            weight = 1 + 3.0 * moved[rows, columns].any()
            total -= weight * np.log(p[int(truth[0, y, x]), y, x])
    assert float(model.loss(batch).total.detach()) == pytest.approx(total / 256, rel=1e-4)


def test_recursion_grows_with_the_elapsed_share_and_is_whole_in_validation():
    model = model_of(small_config(recursion=4, recursion_ramp=0.5)).train()
    assert [model._depth(e, 4) for e in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)] == [1, 1, 2, 3, 4, 4]
    assert model.eval()._depth(0.0, 4) == 4


def test_a_sample_that_left_the_truth_returns_to_it():
    config = small_config(recursion=2, flips=0.0, reset_pixels=14, reset_presence=False)
    model = model_of(config)
    given = []
    network = model.network.forward

    def spied(history, action):
        given.append(history)
        logits, features = network(history, action)
        return torch.full_like(logits, -9.0).index_fill(1, torch.tensor([2]), 9.0), features  # all pixels wrong

    model.network.forward = spied
    batch = window(config)
    model.loss(batch)
    assert torch.equal(given[1].frames[:, -1], model.indices(batch.future)[:, 0])
    given.clear()
    model.config = dataclasses.replace(config, reset_pixels=0)
    model.loss(batch)
    assert not torch.equal(given[1].frames[:, -1], model.indices(batch.future)[:, 0])
    given.clear()
    model.config = dataclasses.replace(config, reset_pixels=0, reset_presence=True)  # black and red are missing
    model.loss(batch)
    assert torch.equal(given[1].frames[:, -1], model.indices(batch.future)[:, 0])


def test_a_few_steps_lower_the_loss():
    config = small_config(recursion=1)
    model = model_of(config).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        loss = model.loss(window(config)).total
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


# ------------------------------------------------------------------------------------------------- frame by frame


def test_rewards_and_flags_are_entries_of_the_state():
    config = small_config(reward_values=(-1.0, 0.0, 1.0), flags=("terminated",))
    model = model_of(config).eval()
    batch = window(config)
    assert set(model.loss(batch).parts) >= {"cross_entropy", "reward", "terminated"}
    state = model.rollout_init(batch.context, batch.actions[:, :3])
    assert state["reward"].tolist() == [0, 0]
    state, _ = model.rollout_step(state, batch.actions[:, 3])
    assert set(state["reward"].tolist()) <= {-1.0, 0.0, 1.0}
    assert ((state["terminated"] >= 0) & (state["terminated"] <= 1)).all()


def test_observing_the_true_frame_equals_a_longer_context():
    config = small_config(history=4)
    model = model_of(config).eval()
    batch = window(dataclasses.replace(config, recursion=3))
    state = model.rollout_init(batch.context, batch.actions[:, :3])
    for k in range(2):
        state = model.observe(state, batch.future[:, k], batch.actions[:, 3 + k])
    whole = torch.cat([batch.context, batch.future[:, :2]], 1)
    history = History.of(model.indices(whole), batch.actions[:, :5], 3, config, 2)
    assert torch.equal(state["frames"], history.frames)
    assert torch.equal(state["actions"], history.actions)


def test_temperature_turns_sampling_on_during_a_rollout():
    config = small_config()
    model = model_of(config).eval()
    assert not model.stochastic
    assert Categorical.is_stochastic(dataclasses.replace(config, temperature=0.5))
    batch = window(config)
    state = model.rollout_init(batch.context, batch.actions[:, :3], generator=torch.Generator().manual_seed(0))
    _, still = model.rollout_step(state, batch.actions[:, 3])
    hot = {**state, "temperature": torch.full((2,), 1.5)}
    _, drawn = model.rollout_step(hot, batch.actions[:, 3])
    assert not torch.equal(still, drawn)
    assert torch.equal(drawn, model.rollout_step(hot, batch.actions[:, 3])[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colours": 1}, "model.colours must be in 2…64"),
        ({"palette": ((0, 0, 0), (0, 0, 0))}, "must be different colours"),
        ({"palette": COLOURS, "areas": (1,)}, "model.areas must have one number for each of 3"),
        ({"history": 2, "frames": 4}, "model.history must be at least 4"),
        ({"traces": (1.0,)}, "model.traces must lie between 0 and 1"),
        ({"decoding": "best"}, "model.decoding must be one of"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        CategoricalConfig(**change)
