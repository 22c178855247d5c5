"""Objects found by colour: shapes at known positions, games beside the emulator's memory, forecasts."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.bouncing import COLOURS, Bouncing, BouncingConfig
from framecast.metrics.objects import (
    GAMES,
    OBJECT_METRICS,
    Thing,
    Things,
    find,
    object_series,
    read_things,
    score_objects,
    things_of,
    true_places,
    write_things,
)

RED = Thing(name="red", colours=((220, 40, 40),), least=4, near=3)
PLAIN = Things(things=(RED,), size=(20, 30), grounds=((128, 128, 128),))


def painted(*places, size=(20, 30), side=4, colour=(220, 40, 40)):
    """Grey frames with a square at each (x, y) of its top left corner; None is without."""
    frames = torch.full((len(places), 3, *size), 128.0)
    for frame, place in zip(frames, places, strict=True):
        if place is not None:
            x, y = place
            frame[:, y : y + side, x : x + side] = torch.tensor(colour)[:, None, None]
    return frames / 255


def test_square_is_found_at_its_centre_and_absent_without_it():
    found = find(painted((5, 8), None, (26, 16)), PLAIN)
    assert found.there[:, 0].tolist() == [True, False, True]
    assert found.place[0, 0].tolist() == [6.5, 9.5]
    assert found.place[2, 0].tolist() == [27.5, 17.5]
    assert found.place[1, 0].isnan().all()


def test_pixel_belongs_to_the_nearest_colour_within_the_tolerance():
    pale = tuple(int(0.7 * c + 0.3 * 128) for c in (220, 40, 40))
    for colour, there in ((pale, True), ((160, 100, 100), False), ((220, 40, 255), False), ((128, 128, 128), False)):
        assert bool(find(painted((5, 8), colour=colour), PLAIN).there) is there, colour
    twins = dataclasses.replace(PLAIN, things=(RED, Thing(name="rose", colours=((250, 90, 90),))))
    found = find(torch.cat([painted((5, 8)), painted((5, 8), colour=(250, 90, 90))]), twins)
    assert found.there.tolist() == [[True, False], [False, True]]


def test_frames_of_another_size_give_positions_on_the_nominal_size():
    large = painted((10, 16), size=(40, 60), side=8)
    assert find(large, PLAIN).place[0, 0].tolist() == pytest.approx([6.5, 9.5])
    assert PLAIN.fits(40, 60)
    assert not PLAIN.fits(20, 20)


def test_one_colour_in_two_boxes_is_two_objects():
    ball, paddle = (
        Thing(name=n, colours=RED.colours, box=b) for n, b in (("ball", (0, 0, 12, 30)), ("paddle", (12, 0, 20, 30)))
    )
    found = find(painted((5, 2), (5, 14)), dataclasses.replace(PLAIN, things=(ball, paddle)))
    assert found.there.tolist() == [[True, False], [False, True]]
    assert found.place[1, 1].tolist() == [6.5, 15.5]


def test_bouncing_shapes_are_found_at_their_positions(tmp_path):
    Bouncing(BouncingConfig(videos=3, frames=20, shapes=1)).prepare(tmp_path / "b")
    source = Store(tmp_path / "b")
    things = things_of(source.meta())
    assert {t.name: t.colours for t in things.things} == {name: (rgb,) for name, rgb in COLOURS.items()}
    for i in range(3):
        clip = source.clip(i, 0, 20)
        found = find(torch.from_numpy(clip.frames.copy()).float() / 255, things)
        which = [t.colours[0] for t in things.things].index(tuple(clip.arrays["colour"][0, 0].tolist()))
        assert found.there[:, which].all()
        assert found.there.sum() == 20
        away = found.place[:, which].numpy() - clip.arrays["position"][:, 0]
        # a triangle's centre of area lies a sixth of its height below that of its box; pixel 0 lies at 0.5
        assert np.abs(away[:, 0] + 0.5).max() < 0.5
        assert np.abs(away[:, 1]).max() < 3.6


@pytest.mark.parametrize(("game", "close"), [("ms_pacman", 4.0), ("pong", 1.0), ("breakout", 0.5)])
def test_positions_in_games_agree_with_the_emulator_memory(game, close, tmp_path):
    pytest.importorskip("ale_py")
    from framecast.data.synthetic.atari import Atari, AtariConfig

    Atari(AtariConfig(game=game, episodes=1, max_frames=100, frame_skip=2, ram=True)).prepare(tmp_path / game)
    source = Store(tmp_path / game)
    things = things_of(source.meta())
    assert things is GAMES[game]
    clip = source.clip(0, 0, source.lengths[0])
    found = find(torch.from_numpy(clip.frames.copy()).float() / 255, things)
    places = true_places(things, {"ram": torch.from_numpy(clip.arrays["ram"].copy())}, found)
    seen = found.there.float().mean(0)
    assert (seen > 0.2).all(), dict(zip([t.name for t in things.things], seen.tolist(), strict=True))
    for i, thing in enumerate(things.things):
        error = (found.place - places)[found.there[:, i], i].square().sum(-1).sqrt()
        assert error.quantile(0.9) <= close, (thing.name, error.quantile(0.9))


def test_object_metrics_of_a_forecast():
    truth = find(painted((5, 8), (6, 8), (7, 8), None)[None], PLAIN)
    made = find(painted((5, 8), (10, 8), None, (5, 8))[None, None], PLAIN)
    scored = score_objects(made, truth, truth.place, PLAIN)
    assert set(scored) == set(OBJECT_METRICS)
    flat = {name: values[0, 0, :, 0].tolist() for name, values in scored.items()}
    assert flat["present"][:3] == [1, 1, 0]
    assert flat["found"][:3] == [1, 0, 0]  # 4 px away is not near
    assert flat["error"][:2] == [0, 4]
    assert flat["invented"][3] == 1
    for name, at in (("present", 3), ("found", 3), ("error", 2), ("error", 3), ("invented", 0)):
        assert math.isnan(flat[name][at]), (name, at)


def test_true_positions_come_from_the_arrays_of_the_data():
    track = {"array": "ram", "x": [1, 2.0, 0.5], "y": [0, 1.0, -1.0]}
    known = read_things({**write_things(PLAIN), "things": [{**write_things(PLAIN)["things"][0], "track": track}]}, "f")
    found = find(painted((5, 8), None), known)
    places = true_places(known, {"ram": torch.tensor([[9, 3], [11, 4]], dtype=torch.uint8)}, found)
    assert places[:, 0].tolist() == [[6.5, 8.0], [8.5, 10.0]]
    assert true_places(known, {}, found)[0, 0].tolist() == [6.5, 9.5]
    with pytest.raises(UserError, match="array 'ram' has 1 entries a frame, so none with index 1"):
        true_places(known, {"ram": torch.zeros(2, 1)}, found)


def test_object_curves_are_means_over_clips():
    values = torch.tensor([[[1.0, 0.0], [0.0, math.nan]], [[0.0, 1.0], [1.0, 1.0]]])
    series = object_series(dict.fromkeys(OBJECT_METRICS, values), ["a", "b"])
    assert series["found"]["a"].mean == (0.5, 0.5)
    assert series["found"]["b"].n == (2, 1)


def test_objects_of_data_come_from_their_meta_json():
    assert things_of({"objects": write_things(PLAIN)}) == PLAIN
    assert things_of({"generator": "atari", "parameters": {"game": "tennis"}}) is None
    assert things_of({}) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": [20]}, "is not valid"),
        ({"things": []}, "at least one object"),
        ({"things": [{"name": "a"}]}, "'colours' is missing"),
        ({"things": [{"name": "a", "colours": [[300, 0, 0]]}]}, "RGB triples of 0…255"),
        ({"things": [{"name": "a", "colours": [[30, 0]]}]}, "is not valid"),
        ({"things": [{"name": "a", "colours": [[30, 0, 0]], "box": [5, 0, 2, 9]}]}, r"box must be \(top, left"),
        ({"things": [{"name": "a", "colours": [[30, 0, 0]], "most": 3}]}, "unknown key 'most'"),
        ({"things": [{"name": "a", "colours": [[30, 0, 0]], "least": 0}]}, "must be above 0 px"),
        ({"tolerance": 0}, "tolerance and size must be above 0"),
        ({"ground": []}, "unknown key 'ground'"),
    ],
)
def test_invalid_object_descriptions_are_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        read_things({**write_things(PLAIN), **change}, "objects.json")
    with pytest.raises(UserError, match="in RGB frames"):
        find(torch.zeros(2, 1, 8, 8), PLAIN)
