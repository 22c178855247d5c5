"""Atari: what is recorded is what was done, the same every time."""

import builtins
import json

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.atari import STILL_START, Atari, AtariConfig, find_game, list_games, read_actions
from framecast.data.synthetic.atari_screen import FIELDS, shrink

ale_py = pytest.importorskip("ale_py")

NAMES = ("NOOP", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT")


def recorded(folder, **settings):
    Atari(AtariConfig(**{"episodes": 1, "max_frames": 12, **settings})).prepare(folder)
    return Store(folder)


def console(game, seed_of=None):
    from ale_py import roms

    found = ale_py.ALEInterface()
    found.setFloat("repeat_action_probability", 0.0)
    found.setInt("frame_skip", 1)
    found.setInt("random_seed", int(np.random.SeedSequence(seed_of or [0, 0]).generate_state(1)[0] >> 1))
    found.loadROM(str(roms.get_rom_path(game)))
    return found


def test_a_recording_has_everything(tmp_path):
    store = recorded(tmp_path / "s", episodes=2, ram=True)
    assert store.names == ["ms_pacman-0000", "ms_pacman-0001"]
    assert store.lengths == [12, 12]
    assert (store.spec.channels, store.spec.height, store.spec.width, store.spec.fps) == (3, 210, 160, 60.0)
    assert store.spec.actions.names == NAMES
    arrays = store.clip(0, 0, 12).arrays
    kinds = {name: (a.dtype.name, a.shape) for name, a in arrays.items()}
    assert kinds == {
        "actions": ("int64", (12,)),
        "rewards": ("float32", (12,)),
        "terminated": ("bool", (12,)),
        "truncated": ("bool", (12,)),
        "ram": ("uint8", (12, 128)),
    }
    assert store.meta()["parameters"]["game"] == "ms_pacman"
    assert store.meta()["parameters"]["skip_start"] == STILL_START["ms_pacman"]


@pytest.mark.parametrize("skip", [1, 4])
def test_actions_lead_to_the_next_frame_with_frame_skip(tmp_path, skip):
    store = recorded(tmp_path / "s", frame_skip=skip, max_frames=20, policy="random", ram=True, skip_start=270)
    clip = store.clip(0, 0, 20)
    assert clip.fps == 60 / skip
    played = console("ms_pacman")
    legal = played.getMinimalActionSet()
    for _ in range(270):
        played.act(legal[0])
    for i in range(20):
        np.testing.assert_array_equal(clip.frames[i], played.getScreenRGB().transpose(2, 0, 1))
        np.testing.assert_array_equal(clip.arrays["ram"][i], played.getRAM())
        reward = sum(played.act(legal[clip.arrays["actions"][i]]) for _ in range(skip if i < 19 else 0))
        assert clip.arrays["rewards"][i] == reward


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, settings in {"a": {}, "b": {}, "other": {"seed": 1}}.items():
        recorded(tmp_path / name, game="breakout", sticky=0.25, max_frames=40, **settings)
    a, b, other = (
        {p.name: p.read_bytes() for p in (tmp_path / n).iterdir() if p.name != "meta.json"} for n in ("a", "b", "other")
    )
    assert a == b
    assert a["actions-3x210x160.npy"] != other["actions-3x210x160.npy"]


def test_held_actions_are_held(tmp_path):
    actions = (
        recorded(tmp_path / "s", game="pong", max_frames=150, hold_min=6, hold_max=9).clip(0, 0, 149).arrays["actions"]
    )
    changes = np.flatnonzero(np.diff(actions)) + 1
    assert len(changes) > 8
    assert np.diff(changes).min() >= 6
    skipped = recorded(tmp_path / "t", game="pong", max_frames=60, frame_skip=3, hold_min=6, hold_max=9)
    assert np.diff(np.flatnonzero(np.diff(skipped.clip(0, 0, 59).arrays["actions"]))).min() >= 2
    random = recorded(tmp_path / "u", game="pong", max_frames=60, policy="random").clip(0, 0, 60).arrays["actions"]
    assert np.diff(np.flatnonzero(np.diff(random))).min() == 1


def test_game_over_ends_the_episode(tmp_path):
    store = recorded(tmp_path / "s", game="pong", frame_skip=60, max_frames=400, policy="random")
    n = store.lengths[0]
    arrays = store.clip(0, 0, n).arrays
    assert n < 400
    assert arrays["terminated"].tolist() == [False] * (n - 2) + [True, False]
    assert not arrays["truncated"].any()
    assert arrays["actions"][-1] == 0
    assert arrays["rewards"].sum() <= -15


def test_a_recording_that_stops_before_the_game_does_is_truncated(tmp_path):
    arrays = recorded(tmp_path / "s").clip(0, 0, 12).arrays
    assert arrays["truncated"].tolist() == [False] * 10 + [True, False]
    assert not arrays["terminated"].any()


@pytest.mark.parametrize(("game", "size"), [("pong", (80, 80)), ("breakout", (81, 72)), ("freeway", (88, 76))])
def test_reduced_frames_have_the_colours_of_the_emulator_and_lose_no_ball(tmp_path, game, size):
    settings = {"game": game, "max_frames": 100, "policy": "follow", "frame_skip": 2, "ram": True}
    whole = recorded(tmp_path / "whole", **settings)
    small = recorded(tmp_path / "small", field=True, reduce=2, **settings)
    a, b = whole.clip(0, 0, 100), small.clip(0, 0, 100)
    assert (small.spec.height, small.spec.width) == size
    np.testing.assert_array_equal(a.arrays["ram"], b.arrays["ram"])
    reduced = coloured(b.frames)
    assert set(np.unique(reduced)) <= set(np.unique(coloured(a.frames)))
    top, left, bottom, right = FIELDS[game]
    inside = coloured(a.frames[:, :, top:bottom, left:right])
    for colour in (0xECECEC, 0xC84848, 0xFCFC54):  # balls and the chicken
        np.testing.assert_array_equal((reduced == colour).any((1, 2)), (inside == colour).any((1, 2)))


def coloured(frames):
    """Colours as numbers 0xRRGGBB."""
    red, green, blue = np.moveaxis(frames, -3, 0).astype(np.int64)
    return red << 16 | green << 8 | blue


def test_ghosts_that_flicker_are_painted_from_the_newest_of_three_frames(tmp_path):
    settings = {"max_frames": 60, "frame_skip": 2, "skip_start": 300}
    shares = []
    for deflicker in (False, True):
        store = recorded(tmp_path / str(deflicker), deflicker=deflicker, **settings)
        found = coloured(store.clip(0, 0, 60).frames)
        ghosts = (0xC84848, 0xC659B3, 0x54B899, 0xB47A30)
        shares.append([(found == ghost).any((1, 2)).mean() for ghost in ghosts])
    assert min(shares[0]) < 0.7
    assert min(shares[1]) > 0.85


def test_shrinking_keeps_the_colour_of_highest_rank():
    ranks = np.arange(256, dtype=np.uint8)
    ranks[[3, 200]] = ranks[[200, 3]]
    image = np.array([[1, 1, 5, 4, 9], [1, 3, 4, 200, 9], [2, 2, 7, 7, 9]], np.uint8)
    assert shrink(image, 2, ranks).tolist() == [[3, 5]]
    assert shrink(image, 1, ranks) is image


def test_player_that_follows_the_ball_returns_most_balls(tmp_path):
    arrays = recorded(tmp_path / "s", game="pong", policy="follow", skill=1.0, max_frames=500, frame_skip=2).clip(
        0, 0, 500
    )
    assert (arrays.arrays["rewards"] < 0).sum() <= 2
    held = recorded(tmp_path / "t", game="pong", max_frames=500, frame_skip=2).clip(0, 0, 500).arrays
    assert (held["rewards"] < 0).sum() >= 4


def test_options_of_unknown_games_are_refused(tmp_path):
    with pytest.raises(UserError, match="no player to follow in ms_pacman, only in pong, breakout, freeway"):
        recorded(tmp_path / "s", policy="follow")
    with pytest.raises(UserError, match="the field of play of qbert is unknown"):
        recorded(tmp_path / "s", game="qbert", field=True)


def test_only_pills_change_in_skipped_start():
    played = console("ms_pacman")
    legal = played.getMinimalActionSet()
    changed = []
    before = played.getScreenRGB()
    for _ in range(STILL_START["ms_pacman"] + 6):
        played.act(legal[2])
        after = played.getScreenRGB()
        changed.append((after != before).any(axis=2))
        before = after
    still = np.any(changed[: STILL_START["ms_pacman"]], axis=0)
    moved = np.any(changed[STILL_START["ms_pacman"] :], axis=0) & ~still
    assert moved.sum() > 20  # ghosts leave their places right after
    assert not played.game_over()


@pytest.mark.parametrize("kind", ["json", "nested", "csv", "npy"])
def test_actions_of_a_file_are_executed(tmp_path, kind):
    rows = [1, 1, 2, 0, 3, 3]
    path = tmp_path / ("actions." + {"nested": "json"}.get(kind, kind))
    if kind == "json":
        path.write_text(json.dumps(["up", "UP", 2, 0, "LEFT", 3]))
    elif kind == "nested":
        path.write_text(json.dumps([rows, [4, 4]]))
    elif kind == "csv":
        path.write_text("action\nUP\n1\nright\n0\nLEFT\n3\n")
    else:
        np.save(path, np.array(rows))
    store = recorded(tmp_path / "s", actions_file=str(path), episodes=2)
    assert store.clip(0, 0, 7).arrays["actions"].tolist() == [*rows, 0]
    assert store.lengths == ([7, 3] if kind == "nested" else [7, 7])
    assert store.meta()["parameters"]["actions_file"] == path.name


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", "[1, 99]", r"a.json: 99 is not an action of this game; use 0…8 or NOOP"),
        ("a.json", '["JUMP"]', "'JUMP' is not an action"),
        ("a.json", "[true]", "True is not an action"),
        ("a.json", "[", "cannot be read as a list of actions"),
        ("a.json", '{"a": 1}', "it is not a list"),
        ("a.json", "[[]]", "an episode without actions"),
        ("a.npy", "text", "cannot be read as a list of actions"),
        ("a.txt", "1", "the ending '.txt' is not .json, .csv or .npy"),
        ("a.csv", "", "an episode without actions"),
    ],
)
def test_invalid_action_files_are_refused(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_actions(tmp_path / name, NAMES)


def test_missing_action_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_actions(tmp_path / "none.json", NAMES)


def test_games_are_found_by_any_spelling():
    assert "ms_pacman" in list_games()
    assert len(list_games()) > 90
    for name in ("ms_pacman", "MsPacman", "ms-pacman", "Ms. PacMan"):
        assert find_game(name) == "ms_pacman"
    assert find_game("SpaceInvaders") == "space_invaders"
    with pytest.raises(UserError, match="unknown game 'ms_pacmen'; did you mean ms_pacman"):
        find_game("ms_pacmen")
    with pytest.raises(UserError, match="unknown game 'zzz'; see"):
        find_game("zzz")


def test_missing_emulator_error_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "ale_py":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'pip install "framecast\[atari\]"'):
        recorded(tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"frame_skip": 0}, "frame_skip must be at least 1"),
        ({"hold_max": 3}, "hold_max 3 is below hold_min 8"),
        ({"sticky": 1.5}, "sticky is a probability"),
        ({"policy": "clever"}, "policy must be held, random or follow"),
        ({"skill": 2}, "skill is a share"),
        ({"reduce": 0}, "reduce must be at least 1"),
        ({"skip_start": -1}, "skip_start must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        AtariConfig(**settings)


def test_emulator_prints_nothing(tmp_path, capfd):
    recorded(tmp_path / "s")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize(
    "settings",
    [
        {"frame_skip": 4},
        {"sticky": 0.3, "skip_start": 270},
        {"field": True, "reduce": 2, "deflicker": True, "skip_start": 300},
    ],
)
def test_replay_restores_a_recorded_game(tmp_path, settings):
    store = recorded(tmp_path / "s", episodes=2, max_frames=30, policy="random", seed=3, **settings)
    clip = store.clip(1, 0, 30)
    moves = clip.arrays["actions"].tolist()
    game = Atari.replay(store.meta(), store.names[1], moves[:20])
    assert np.array_equal(game.frame(), clip.frames[20])
    state = game.save()
    for i in range(20, 26):
        game.act(moves[i])
        assert np.array_equal(game.frame(), clip.frames[i + 1])
    game.restore(state)
    game.act(moves[20])
    assert np.array_equal(game.frame(), clip.frames[21])


def test_replay_needs_the_settings_in_meta(tmp_path):
    store = recorded(tmp_path / "s")
    for meta, name in (({}, "ms_pacman-0000"), (store.meta(), "mine"), ({"parameters": {"game": "pong"}}, "x-0000")):
        with pytest.raises(UserError, match="holds no emulator settings"):
            Atari.replay(meta, name, [])
