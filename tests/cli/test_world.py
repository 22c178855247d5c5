"""`framecast world`: from a game's name to a packed world, resumed by a second call."""

import json

import pytest

from framecast.cli import run
from framecast.cli.world import make_world
from framecast.core.errors import UserError
from framecast.inference.starts import open_starts
from framecast.training.run_folder import open_run


def test_world_is_recorded_trained_measured_and_packed(tmp_path, capsys):
    assert run(["world", "paddle", "--tiny", "--out", str(tmp_path / "w"), "--json", str(tmp_path / "j.json")]) == 0
    paths = json.loads((tmp_path / "j.json").read_text())
    packed = open_run(paths["world"])
    assert packed.model().outcome_names
    starts = open_starts(packed)
    assert starts[0].world is not None  # the true game can be played beside it
    figures = json.loads((tmp_path / "w" / "figures.json").read_text())
    assert figures["random_held_actions"].keys() == {"world", "true"}
    before = (tmp_path / "w" / "figures.json").stat().st_mtime_ns
    assert make_world("paddle", tmp_path / "w", tiny=True)["world"].is_dir()
    assert (tmp_path / "w" / "figures.json").stat().st_mtime_ns == before


def test_unknown_game_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="unknown game 'pingpong'"):
        make_world("pingpong", tmp_path)
