"""`framecast world`: from a game's name to a packed world, resumed by a second call."""

import dataclasses
import json

import pytest

from framecast.cli import run
from framecast.cli.world import make_world, trained_world
from framecast.core.errors import UserError
from framecast.evaluation.world_games import GAMES
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


def test_a_whole_world_of_other_settings_is_kept_and_a_recording_is_not_used(tmp_path, monkeypatch, capsys):
    paths = make_world("paddle", tmp_path / "w", tiny=True)
    older = dataclasses.replace(GAMES["paddle"], settings={"episodes": 4, "skill": 0.5}, model={"reset_pixels": 9})
    monkeypatch.setitem(GAMES, "paddle", older)
    assert make_world("paddle", tmp_path / "w", tiny=True) == paths
    assert run(["world", "paddle", "--tiny", "--out", str(tmp_path / "w"), "--steps", "5"]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "was recorded with skill 0.75, where 0.5 is asked for; choose another --out" in message


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_world("paddle", tmp_path_factory.mktemp("w"), tiny=True)


def test_evaluate_measures_a_run_as_a_world_beside_the_true_game(trained, tmp_path, capsys):
    given = ["--world", "--clips", "2", "--horizon", "20", "--out", str(tmp_path)]
    assert run(["evaluate", str(trained["run"]), *given]) == 0
    figures = json.loads((tmp_path / "world.json").read_text())
    assert figures["random_held_actions"]["true"]["worlds"] == 2
    assert figures["random_held_actions"]["true"]["frames"] == 20
    assert figures["ball_follower"].keys() == {"world", "true"}
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["world", "true", "game"]
    both = next(line for line in shown if line.startswith("random held actions both paddles"))
    assert both.split()[-1] == f"{figures['random_held_actions']['true']['both_paddles']:.4g}"


@pytest.mark.parametrize("flags", [["--split", "val"], ["--samples", "3"], ["--context", "80"], ["--clips", "0"]])
def test_flags_that_do_not_go_with_a_world_are_one_sentence(trained, flags, capsys):
    assert run(["evaluate", str(trained["run"]), "--world", *flags]) == 2
    message = capsys.readouterr().err
    assert flags[0] in message
    assert len(message.strip().splitlines()) == 1


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_measured(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("framecast.evaluation.evaluate_world.evaluate_world", lambda *_, **__: 1 / 0)
    (tmp_path / "here").write_text("mine")
    assert run(["evaluate", str(trained["run"]), "--world", "--out", str(tmp_path / "here")]) == 2
    assert "is a file; --out must be a folder" in capsys.readouterr().err
    assert (tmp_path / "here").read_text() == "mine"


def test_a_model_without_actions_is_no_world(trained, tmp_path, capsys):
    assert run(["train", "copy-last", "--data", str(trained["data"]), "--out", str(tmp_path / "r"), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(tmp_path / "r"), "--world", "--clips", "2", "--horizon", "8"]) == 2
    assert "a world needs actions" in capsys.readouterr().err


def test_unknown_game_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="unknown game 'pingpong'"):
        make_world("pingpong", tmp_path)
