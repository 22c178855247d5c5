"""Games played for real in the page, and the store of one's own play."""

import asyncio

import numpy as np
import pytest

from framecast.cli.data import run_data
from framecast.cli.play import run_play
from framecast.core.errors import UserError
from framecast.data.store import Store
from framecast.data.synthetic.paddle import PaddleGame
from framecast.web import play
from framecast.web.games import GamePlayer, Recorder, open_game
from framecast.web.session import Session, _outcome
from tests.web.playing import serving


def session(name="paddle", recorder=None):
    game = open_game(name)
    return Session(GamePlayer(game, 0, None if recorder is None else Recorder(game, recorder)))


def test_frames_and_score_are_those_of_the_game():
    played, game, score = session(), PaddleGame(), 0.0
    game.reset(seed=0)
    played.press(1)
    for i in range(400):
        assert np.array_equal(played.now.picture, game.frame())
        assert (played.now.number, played.now.score) == (i, score)
        played.step()
        score += game.act(1)[0]
    assert score < 0
    header, pixels = played.look()
    assert (header["kind"], header["score"], header["recorded"]) == ("game", score, False)
    assert len(pixels) == 80 * 80 * 3


def test_history_continues_from_an_earlier_frame_and_a_reset_is_a_new_game():
    played = session("maze")
    played.press(2)
    for _ in range(60):
        played.step()
    last = played.now.picture
    played.go(40)
    for _ in range(20):
        played.step()
    np.testing.assert_array_equal(played.now.picture, last)
    played.reset()
    assert (played.now.number, played.now.score, played.seed) == (0, 0.0, 1)


def test_two_browsers_play_games_of_their_own():
    player = GamePlayer(open_game("paddle"))
    first, second = Session(player), Session(player)
    first.press(1)
    second.press(2)
    for _ in range(8):
        first.step()
        second.step()
    assert (first.now.picture != second.now.picture).any()
    assert first.now.picture[:, :, 74].tolist() != second.now.picture[:, :, 74].tolist()


def test_play_is_recorded_as_it_was_played(tmp_path):
    game = open_game("maze")
    recorder = Recorder(game, tmp_path / "mine")
    played = Session(GamePlayer(game, 5, recorder))
    played.press(3)
    for _ in range(50):
        played.step()
    played.go(45)  # the last five frames are played again
    played.press(4)
    for _ in range(10):
        played.step()
    played.reset()
    other = Session(played.player)
    for _ in range(3):
        played.step()
        other.step()
    other.close()
    assert recorder.close() == 3
    store = Store(tmp_path / "mine")
    assert sorted(store.lengths) == [4, 4, 56]
    assert store.spec.actions.names == ("NOOP", "UP", "DOWN", "LEFT", "RIGHT")
    arrays = store.clip(0, 0, 56).arrays
    assert arrays["actions"].tolist() == [3] * 45 + [4] * 10 + [0]
    assert arrays["truncated"].tolist() == [False] * 54 + [True, False]
    game.begin(5)
    for i in range(56):
        np.testing.assert_array_equal(store.clip(0, i, 1).frames[0], game.frame())
        assert arrays["states"][i].tolist() == game.state()
        reward, over = game.act(int(arrays["actions"][i]))
        assert i == 55 or (reward, over) == (arrays["rewards"][i], arrays["terminated"][i])


def test_nothing_played_leaves_no_store(tmp_path):
    recorder = Recorder(open_game("paddle"), tmp_path / "mine")
    Session(GamePlayer(recorder.game, 0, recorder))
    with pytest.raises(UserError, match="nothing was played"):
        recorder.close()
    assert not (tmp_path / "mine").exists()


def test_unknown_games_are_refused():
    with pytest.raises(UserError, match="'mase' is not a game; did you mean 'maze'"):
        open_game("mase")


def test_games_of_the_emulator_are_played_at_palette_level(tmp_path):
    pytest.importorskip("ale_py")
    played = session("pong", tmp_path / "mine")
    assert played.now.picture.shape == (3, 80, 80)
    for _ in range(4):
        played.step()
    played.player.recorder.close()
    store = Store(tmp_path / "mine")
    assert (store.lengths, store.spec.fps, set(store.spec.extras)) == ([5], 30, {"rewards", "terminated", "truncated"})


def test_the_score_of_a_dream_is_the_sum_of_predicted_rewards():
    import torch

    assert _outcome({}, None) == (None, False)
    assert _outcome({"reward": torch.tensor([2.0]), "terminated": torch.tensor([0.7])}, 3.0) == (5.0, True)


def test_a_page_that_closes_leaves_its_game_in_the_store(tmp_path):
    websockets = pytest.importorskip("websockets")
    game = open_game("paddle")
    recorder = Recorder(game, tmp_path / "mine")

    async def play_a_little(url):
        async with websockets.connect(f"{url.replace('http', 'ws')}/live", origin=url) as socket:
            hello = await socket.recv()
            assert '"real":true' in hello.replace(" ", "")
            for _ in range(3):
                await socket.send('{"type": "step"}')
                await socket.recv()

    with serving(GamePlayer(game, 0, recorder)) as url:
        asyncio.run(play_a_little(url))
    assert recorder.close() == 1
    assert Store(tmp_path / "mine").lengths[0] >= 2


def test_the_commands_record_and_play_a_game(tmp_path, monkeypatch, capsys):
    def interrupted(app, listener):
        listener.close()
        Session(app.state.shared.player).step()
        raise KeyboardInterrupt

    monkeypatch.setattr(play, "_serve", interrupted)
    words = ["--port", "0", "--sessions", "2", "--seed", "3"]
    run_data(["record", "--source", "paddle", "--out", str(tmp_path / "mine"), *words])
    assert Store(tmp_path / "mine").lengths == [2]
    run_data(["record", "--source", "paddle", "--out", str(tmp_path / "mine"), "--overwrite", *words])
    with pytest.raises(KeyboardInterrupt):
        run_play(["paddle", "--real", *words])
    assert "playing paddle: http://127.0.0.1:" in capsys.readouterr().out


def test_a_prepared_recording_is_written_when_the_server_ends(tmp_path, monkeypatch):
    def interrupted(app, listener):
        listener.close()
        player = app.state.shared.player
        one = Session(player)
        one.step()
        raise KeyboardInterrupt

    monkeypatch.setattr(play, "_serve", interrupted)
    play.prepare_game("paddle", str(tmp_path / "mine"), port=0).serve()
    assert Store(tmp_path / "mine").lengths == [2]
