"""Tables of worlds: figures are found by their path, also where a name holds a point."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def worlds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("reproduction.worlds")


def test_a_figure_is_found_by_its_path(worlds):
    found = {"shown": {"Ms. Pac-Man": 0.98765, "Ms": {"other": 1.0}}, "dead": 0, "none": None}
    assert worlds.at(found, "shown.Ms. Pac-Man") == 0.98765
    assert worlds.cell(found, "shown.Ms. Pac-Man") == "0.988"
    assert worlds.cell(found, "shown.Ms.other") == "1"
    assert worlds.cell(found, "dead") == "0"
    for path in ("", "none", "shown.Blinky", "dead.more"):
        assert worlds.cell(found, path) == "–"
    assert worlds.at(found, "shown.Ms") == {"other": 1.0}
