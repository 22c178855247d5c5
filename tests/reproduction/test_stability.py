"""Page of the stability of recursion: made from its file alone, with an interval beside every figure of a minute."""

import json
import sys
from pathlib import Path

import pytest

from reproduction import stability
from reproduction.stability_clips import HORIZON, clip_section

ROOT = Path(__file__).parents[2]
CIRCUMSTANCES = {
    "versions": {"framecast": "0", "torch": "0"},
    "hardware": {"cpu": "x", "cores": 1, "torch_threads": 1},
    "commit": "abc",
    "date": "2026-11-30",
}


def a_row(gain, **flags):
    curves = {key: {str(k): gain for k in stability.FRAMES} for key in ("sharpness", "recall", "recall_her")}
    for key in ("skill", "gain"):
        for end, shift in (("", 0), ("_low", -1), ("_high", 1)):
            curves[key + end] = {str(k): gain + shift for k in stability.FRAMES}
    return {"command": "framecast train", "steps": 10, "unstable_from": None, "blurred_from": None, **curves, **flags}


def a_clip(name, **flags):
    skill = {"mean": [0.02] * HORIZON, "low": [-0.01] * HORIZON, "high": [0.05] * HORIZON}
    found = {"clip": name, "skill": skill, "command": f"framecast train {name}", "steps": 5, "training_seconds": 60}
    found |= {"protocol": {"clips": 7}, "sentence": "smallest skill"}
    found["flags"] = {"forecast": {"unstable_from": None, **flags}, "copy-last": {"unstable_from": 1}}
    return {**found, **CIRCUMSTANCES}


def test_page_matches_its_file():
    path = ROOT / "docs" / "results" / "stability.json"
    written = stability.page(json.loads(path.read_text(encoding="utf-8")))
    assert written == path.with_suffix(".md").read_text(encoding="utf-8"), "write it again: python -m reproduction"


def test_minute_has_intervals_flags_and_the_mean_of_its_seeds():
    rows = {"seed 0": a_row(4.0), "seed 1": a_row(5.0, unstable_from=33)}
    rows["copy-last"] = {key: value for key, value in a_row(0.0).items() if key not in ("command", "steps")}
    found = {"rows": rows, "protocol": {"clips": 20, "videos": 6}, "film": "film.webp", **CIRCUMSTANCES}
    page = stability.page({"results": {"minute": found}})
    assert "| seed 0 | 4.00 (3.00 to 5.00) | 4.00 (3.00 to 5.00) | 4.00 (3.00 to 5.00) | none | none |" in page
    assert "| seed 1 | 5.00 (4.00 to 6.00) | 5.00 (4.00 to 6.00) | 5.00 (4.00 to 6.00) | frame 33 | none |" in page
    assert "| mean | 4.50 | 4.50 | 4.50 |" in page
    assert "![truth, seed 0, copy-last](film.webp)" in page


def test_filmed_clips_have_every_frame_with_its_interval():
    assert clip_section({}) == []
    page = "\n".join(clip_section({"clip-a": a_clip("a"), "clip-b": a_clip("b", blurred_from=9)}))
    assert page.count("+0.020 (-0.010 to +0.050) | +0.020 (-0.010 to +0.050)") == HORIZON
    assert "- a: 5 steps in 60 s; smallest skill; forecast: no flag; copy-last: unstable from frame 1." in page
    assert (
        "- b: 5 steps in 60 s; smallest skill; forecast: blurred from frame 9; copy-last: unstable from frame 1."
        in page
    )


def test_part_of_filmed_clips_needs_a_clip(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stability", "--only", "clips"])
    with pytest.raises(SystemExit) as stopped:
        stability.main()
    assert stopped.value.code == 2
    assert "--only clips needs --clip FILE, one or more" in capsys.readouterr().err
