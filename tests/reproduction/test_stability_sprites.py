"""Sprites of plain and adversarial networks: figures by clip, their means, and intervals over seeds and clips."""

import numpy as np
import pytest
import torch

from reproduction.claim_checks import over_seeds_and_episodes, sprites_gap, sprites_kept
from reproduction.sprites import THINGS
from reproduction.stability_sprites import AT, COMPARED, CURVES, ROWS, means, measured, section


def a_clip(frames=6):
    """A ghost that moves to the right by 4 px a frame, uint8 (1, 4 + frames, 3, 210, 160), and a console's memory."""
    clip = torch.tensor((0, 28, 136), dtype=torch.uint8).view(1, 1, 3, 1, 1).repeat(1, 4 + frames, 1, 210, 160)
    for t in range(4 + frames):
        left = 20 + 4 * t
        clip[0, t, :, 60:70, left : left + 8] = torch.tensor((200, 72, 72), dtype=torch.uint8).view(3, 1, 1)
    ram = torch.zeros(1, 4 + frames, 128, dtype=torch.uint8)
    track = next(thing.track for thing in THINGS.things if thing.name == "Blinky")
    for t in range(4 + frames):
        for axis, place in ((track.x, 20 + 4 * t + 3.5), (track.y, 64.5)):
            ram[0, t, axis[0]] = round((place - axis[2]) / axis[1])
    return {"context": clip[:, :4], "future": clip[:, 4:], "ram": ram[:, 4:], "videos": ["a"]}


def test_truth_has_everything_and_the_last_frame_repeated_moves_nothing():
    clips = a_clip()
    copied = clips["context"][:, -1:].expand_as(clips["future"])
    values = {"truth": measured(clips["future"], clips), "copy-last": measured(copied, clips)}
    found = {name: {key: means(row, values, key) for key in CURVES} for name, row in values.items()}
    assert found["truth"]["any"] == found["truth"]["share"] == found["truth"]["recall"] == [1.0] * 6
    assert found["truth"]["moving"] == [None] * 4 + [1.0] * 2
    assert found["truth"]["skill"] == [1.0] * 6
    assert found["truth"]["sharpness"] == pytest.approx([1.0] * 6)
    assert found["copy-last"]["any"] == [1.0] * 6
    assert found["copy-last"]["moving"][4:] == [0.0] * 2
    assert found["copy-last"]["skill"] == [0.0] * 6
    assert found["copy-last"]["recall_any"] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]  # 4 and 8 px off, then further


def test_interval_of_a_difference_is_over_seeds_and_episodes():
    generator = np.random.default_rng(1)
    a = generator.normal(size=(3, 12))
    assert over_seeds_and_episodes(a, a) == (0.0, 0.0, 0.0)
    mean, low, high = over_seeds_and_episodes(a + 1, a)
    assert (mean, low, high) == pytest.approx((1.0, 1.0, 1.0))
    mean, low, high = over_seeds_and_episodes(a, np.zeros_like(a))
    assert low < mean < high
    seeds = np.array([[1.0] * 12, [0.0] * 12, [0.0] * 12])
    assert over_seeds_and_episodes(seeds, np.zeros_like(seeds))[1:] == (
        0.0,
        1.0,
    )  # three seeds that differ leave a wide interval


def test_page_shows_every_curve_beside_truth_and_the_last_frame_repeated():
    seed = {
        "clips": 2,
        "episodes": 2,
        "runs": {name: {"command": f"framecast train {name}", "steps": 10} for name in ("one", "plain")},
        "rows": {name: {key: [0.5] * 64 for key in CURVES} for name in ROWS},
        "by_episode": {name: {key: {str(k): [0.5, 1.0] for k in AT} for key in COMPARED} for name in ROWS},
        "film": "film.webp",
        "versions": {"framecast": "0", "torch": "0"},
        "hardware": {"cpu": "x", "cores": 1, "torch_threads": 1},
        "commit": "abc",
        "date": "2026-11-30",
    }
    page = "\n".join(section([seed, seed]))
    assert all(label in page for label in CURVES.values())
    assert page.count("| truth |") == page.count("| copy-last |") == len(CURVES)
    assert "+0.00 (+0.00 to +0.00)" in page


def test_claims_of_sprites_follow_from_every_seed_and_from_intervals():
    def results(any_at_64, plain, adversarial, moving=0.5):
        rows = {"adversarial": {"any": [1.0] * 63 + [any_at_64], "moving": [float("nan")] * 4 + [moving] * 60}}
        by_episode = {"plain": {"share": {"64": plain}}, "adversarial": {"share": {"64": adversarial}}}
        return {
            "stability": {
                f"sprites-{k}": {"rows": rows, "by_episode": by_episode, "film": f"{k}.webp"} for k in range(3)
            }
        }

    holds, shown = sprites_kept("adversarial", 0.5, 0.3)(results(0.3, [], []))
    assert holds
    assert shown.endswith("films: [0](results/0.webp), [1](results/1.webp), [2](results/2.webp)")
    assert not sprites_kept("adversarial", 0.5, 0.3)(results(0.2, [], []))[0]
    assert not sprites_kept("adversarial", 0.5, 0.3)(results(0.3, [], [], moving=0.0))[0]
    assert sprites_gap("share")(results(1, [0.5, 0.6, None], [0.7, 0.8, 0.1]))[0]
    assert not sprites_gap("share")(results(1, [0.5, 0.6, 0.2], [0.7, 0.4, 0.1]))[0]
    for check in (sprites_kept("adversarial", 0.5, 0.3), sprites_gap("share")):
        with pytest.raises(KeyError):  # not yet run
            check({"stability": {"cells-0": {}}})
