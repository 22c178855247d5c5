"""Atari Grand Challenge folders, written here in the release's own form, both numberings."""

import json

import numpy as np
import pytest

from framecast.cli import run
from framecast.core.errors import UserError
from framecast.core.types import ClipRequest
from framecast.data.base import Segment
from framecast.data.inspect import inspect
from framecast.data.loader import Loader
from framecast.data.open import open_path
from framecast.data.options import ReadOptions
from framecast.data.readers.grand_challenge import ACTIONS, GrandChallenge, find_root, read_trajectory
from framecast.data.store import Store, pack
from framecast.media.images import read_image, write_image


def image(game, episode, frame, size=(14, 10)):
    """A frame whose pixels encode its episode and number."""
    pixels = np.zeros((3, *size), np.uint8)
    pixels[0], pixels[1], pixels[2] = hash_of(game), episode, frame
    return pixels


def hash_of(game):
    return sum(map(ord, game)) % 256


def write(root, game, episode, frames, first=0, missing=(), extra_row=0, spaces=False):
    """One episode: images numbered from `first`, rows from 0. missing: frames without an image."""
    screens, rows = root / "screens" / game / str(episode), root / "trajectories" / game
    screens.mkdir(parents=True)
    rows.mkdir(parents=True, exist_ok=True)
    comma = ", " if spaces else ","
    lines = [f"episode {episode}, recorded", comma.join(["frame", "reward", "score", "terminal", "action"])]
    for t in range(frames + extra_row):
        lines.append(comma.join(map(str, [t, t % 3, 10 * t, int(t == frames - 1), t % 18])))
        if t < frames and t not in missing:
            write_image(image(game, episode, t), screens / f"{t + first}.png")
    (rows / f"{episode}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("first", [0, 1])
def test_images_match_rows_for_any_first_number(tmp_path, first):
    write(tmp_path, "qbert", 7, 12, first=first)
    source = open_path(tmp_path)
    assert isinstance(source, GrandChallenge)
    assert (source.names, source.lengths) == (["qbert/7"], [12])
    clip = source.clip(0, 2, 5, 2)
    assert clip.frames[:, 2, 0, 0].tolist() == [2, 4, 6, 8, 10]
    assert clip.arrays["actions"].tolist() == [2, 4, 6, 8, 10]
    assert clip.arrays["rewards"].tolist() == [2, 1, 0, 2, 1]
    assert clip.arrays["scores"].tolist() == [20, 40, 60, 80, 100]
    assert clip.arrays["terminated"].tolist() == [False] * 4 + [True]  # the transition from frame 10 to the last
    assert clip.meta == {"game": "qbert", "episode": "7", "first": first}
    assert source.clip(0, 9, 3).arrays["terminated"].tolist() == [False, True, False]


def test_spec_of_frames_and_actions(tmp_path):
    write(tmp_path, "qbert", 1, 3, spaces=True)
    spec = open_path(tmp_path).spec
    assert (spec.height, spec.width, spec.fps) == (14, 10, 60.0)
    assert (spec.actions.kind, spec.actions.size, spec.actions.names) == ("discrete", 18, ACTIONS)
    assert set(spec.extras) == {"rewards", "scores", "terminated"}
    assert len(set(ACTIONS)) == 18


def test_frames_are_sorted_numerically_and_images_without_row_left_out(tmp_path):
    write(tmp_path, "pinball", 3, 12)
    write_image(image("pinball", 3, 12), tmp_path / "screens" / "pinball" / "3" / "12.png")
    source = open_path(tmp_path)
    assert source.lengths == [12]
    assert source.clip(0, 0, 12).frames[:, 2, 0, 0].tolist() == list(range(12))
    assert "1 images without a row" in source.meta()["notes"][0]


def test_no_window_crosses_a_gap_and_gaps_are_counted(tmp_path):
    write(tmp_path, "revenge", 5, 20, first=1, missing=(6, 7, 13))
    source = open_path(tmp_path)
    assert source.names == ["revenge/5", "revenge/5@9", "revenge/5@15"]
    assert source.lengths == [6, 5, 6]
    assert source.meta()["games"]["revenge"] == {"episodes": 1, "frames": 17, "gaps": 2, "missing": 3, "without_row": 0}
    assert source.meta()["notes"] == ["2 gaps in the frame numbers, 3 frames missing; no clip crosses them"]
    request = ClipRequest(context=3, future=2)
    segments = [Segment(i, 0, n) for i, n in enumerate(source.lengths)]
    loader = Loader(source, segments, request, 64)
    batch = loader.batch(0)
    shown = np.concatenate([batch.context[:, :, 2, 0, 0], batch.future[:, :, 2, 0, 0]], axis=1).astype(int)
    assert (np.diff(shown, axis=1) == 1).all()


def test_segments_of_an_episode_stay_in_one_split(tmp_path):
    for episode in range(12):
        write(tmp_path, "qbert", episode, 9, missing=(4,))
    source = open_path(tmp_path)
    parts = {split: {source.groups[source.names[s.video]] for s in found} for split, found in source.splits(3).items()}
    assert all(parts.values())
    assert sum(map(len, parts.values())) == 12
    assert len(source) == 24
    packed = pack(source, tmp_path / "store")
    again = {s: {packed.groups[packed.names[x.video]] for x in f} for s, f in packed.splits(3).items()}
    assert again == parts


def test_targets_overlap_the_input_by_the_shift(tmp_path):
    write(tmp_path, "qbert", 1, 40)
    source = open_path(tmp_path)
    request = ClipRequest(context=10, future=10, target_offset=-4)
    batch = Loader(source, [Segment(0, 0, 40)], request, 4).batch(0)
    assert (batch.context[:, 5:] == batch.future[:, :5]).all()
    assert (batch.future[:, 5:, 2, 0, 0].int() - batch.context[:, 5:, 2, 0, 0].int() == 5).all()


def test_games_are_counted_and_shown(tmp_path):
    for game, episodes in (("mspacman", 6), ("qbert", 4)):
        for episode in range(episodes):
            write(tmp_path / "agc", game, episode, 8)
    facts = inspect(open_path(tmp_path / "agc"), tmp_path / "sheet.png", window=3)
    assert {game: (row["videos"], row["frames"]) for game, row in facts["games"].items()} == {
        "mspacman": (6, 48),
        "qbert": (4, 32),
    }
    for split in ("train", "val", "test"):
        rows = [row[split] for row in facts["games"].values() if split in row]
        assert sum(r["frames"] for r in rows) == facts["splits"][split]["frames"]
    sheet = read_image(tmp_path / "sheet.png")
    for game in ("mspacman", "qbert"):
        assert (sheet[0] == hash_of(game)).any(), f"{game} is not on the sheet"
    store = pack(open_path(tmp_path / "agc"), tmp_path / "store")
    assert inspect(store, window=3)["games"] == facts["games"]


def test_one_game_of_several(tmp_path):
    write(tmp_path, "mspacman", 1, 3)
    write(tmp_path, "qbert", 1, 3)
    assert set(open_path(tmp_path).games.values()) == {"mspacman", "qbert"}
    assert set(open_path(tmp_path / "screens" / "qbert").games.values()) == {"qbert"}
    (tmp_path / "atari_v1").mkdir()
    for part in ("screens", "trajectories"):
        (tmp_path / part).rename(tmp_path / "atari_v1" / part)
    assert len(open_path(tmp_path)) == 2, "as it lies after unpacking"


def test_import_keeps_actions_scores_rewards_and_ends(tmp_path, capsys):
    write(tmp_path / "agc", "qbert", 2, 10, missing=(3,))
    words = ["data", "import", str(tmp_path / "agc"), "--out", str(tmp_path / "store"), "--size", "7x5"]
    assert run(words) == 0
    assert "1 gaps in the frame numbers, 1 frames missing; no clip crosses them" in capsys.readouterr().err
    store = Store(tmp_path / "store")
    assert (store.names, store.lengths, store.fps) == (["qbert/2", "qbert/2@4"], [3, 6], [60.0, 60.0])
    clip = store.clip(1, 0, 6)
    assert clip.frames.shape == (6, 3, 7, 5)
    assert clip.arrays["actions"].tolist() == [4, 5, 6, 7, 8, 9]
    assert clip.arrays["scores"].tolist() == [40, 50, 60, 70, 80, 90]
    assert clip.arrays["rewards"].tolist() == [1, 2, 0, 1, 2, 0]
    assert clip.arrays["terminated"].tolist() == [False] * 4 + [True, False]
    facts = json.loads((tmp_path / "store" / "meta.json").read_text())
    assert facts["games"]["qbert"]["gaps"] == 1


def test_damaged_files_raise_specific_errors(tmp_path):
    write(tmp_path / "a", "qbert", 1, 4)
    rows = tmp_path / "a" / "trajectories" / "qbert"
    good = (rows / "1.txt").read_text()
    for text, sentence in (
        (good.replace("frame,", "picture,"), "line 2 must name the columns frame, reward, score, terminal, action"),
        (good.replace("2,2,20,0,2", "2,2,20,0"), "line 5 is not 5 whole numbers"),
        (good.replace("2,2,20,0,2", "2,2,twenty,0,2"), "line 5 is not 5 whole numbers"),
        (good.replace("2,2,20,0,2", "2,2,20,0,18"), "actions must be 0 to 17"),
        (good.replace("2,2,20,0,2", "1,2,20,0,2"), "frame numbers are not increasing"),
        ("".join(good.splitlines(True)[:2]), "has no rows"),
        (good.replace("\n0,", "\n100,").replace("\n1,", "\n101,").replace("\n2,", "\n102,").replace("\n3,", "\n103,"),
         "none of its images has a row"),
    ):  # fmt: skip
        (rows / "1.txt").write_text(text)
        with pytest.raises(UserError, match=sentence):
            open_path(tmp_path / "a")
    (rows / "1.txt").unlink()
    with pytest.raises(UserError, match=r"1\.txt is missing but its images exist"):
        open_path(tmp_path / "a")
    rows.rmdir()
    with pytest.raises(UserError, match="is missing, expected the trajectories of qbert"):
        open_path(tmp_path / "a")


def test_bad_episodes_are_left_out_on_request(tmp_path):
    write(tmp_path, "qbert", 1, 4)
    write(tmp_path, "qbert", 2, 4)
    (tmp_path / "trajectories" / "qbert" / "1.txt").unlink()
    source = open_path(tmp_path, ReadOptions(skip_bad=True))
    assert source.names == ["qbert/2"]
    assert source.meta()["skipped"] == ["qbert/1"]


def test_episodes_shorter_than_a_window_are_reported(tmp_path):
    for episode in range(4):
        write(tmp_path, "qbert", episode, 6)
    source = open_path(tmp_path)
    with pytest.raises(UserError, match="has 6 frames but one clip spans 15"):
        source.splits(15)


def test_images_of_two_sizes_are_refused(tmp_path):
    write(tmp_path, "qbert", 1, 4)
    write_image(image("qbert", 1, 3, (8, 8)), tmp_path / "screens" / "qbert" / "1" / "3.png")
    with pytest.raises(UserError, match=r"3\.png is 8x8 but 0.png of the same video is 10x14"):
        open_path(tmp_path).clip(0, 0, 4)


def test_other_folders_named_screens_are_plain_images(tmp_path):
    for name in ("a", "b"):
        for i in range(3):
            write_image(image(name, 0, i), tmp_path / "screens" / name / f"shot{i}.png")
    assert find_root(tmp_path) is None
    assert type(open_path(tmp_path)).__name__ == "Frames"


def test_columns_in_any_order(tmp_path):
    (tmp_path / "1.txt").write_text("made by hand\naction, frame,terminal,score,reward\n3,0,0,5,1\n4,1,1,6,2\n")
    table = read_trajectory(tmp_path / "1.txt")
    assert {name: values.tolist() for name, values in table.items()} == {
        **{"frame": [0, 1], "reward": [1, 2], "score": [5, 6], "terminal": [0, 1], "action": [3, 4]},
    }
