"""The mixed sets of the packaged weights: which games they hold, and windows of their recordings."""

import numpy as np
import pytest

from framecast import DatasetWriter
from reproduction import direct_data


def test_wide_set_holds_every_game_but_those_set_aside():
    pytest.importorskip("ale_py")
    wide = direct_data.all_games()
    apart = {*direct_data.HELD_OUT_GAMES, *direct_data.VALIDATION_GAMES, *direct_data.FOR_TWO}
    assert len(apart) == 20, "the three lists share no game"
    assert not apart & set(wide)
    assert wide[: len(direct_data.GAMES)] == direct_data.GAMES
    assert len(set(wide)) == len(wide) > 80


def test_windows_skip_episodes_that_ended_early(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("pong-1", "pong-2", "pong-4", "pong-1-start"):
        with DatasetWriter(tmp_path / folder, fps=60) as writer:
            for length in (100, 60):
                writer.add(frames=rng.integers(0, 256, (length, 3, 210, 160), dtype=np.uint8))
    windows = list(direct_data.windows_of_games(tmp_path, ["pong"], starts=True, per_episode=1))
    assert [w["frames"].shape for w in windows] == 4 * [(96, 3, 64, 64)]
    assert len({w["name"] for w in windows}) == 4
    assert windows[-1]["name"].startswith("pong-1-start-")
