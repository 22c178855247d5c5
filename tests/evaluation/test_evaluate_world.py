"""A run measured as a world: which figures a game gets, and the table of them."""

from framecast.evaluation.atari_worlds import object_figures, pong_figures
from framecast.evaluation.evaluate_world import figure_lines, game_figures
from framecast.evaluation.world_figures import maze_figures


class Recordings:
    """A source of which only the meta is read."""

    def __init__(self, **meta):
        self.values = meta

    def meta(self):
        return self.values


def test_figures_are_those_of_the_game_and_of_any_game_for_others():
    assert game_figures(Recordings(generator="maze", parameters={"seed": 0})) is maze_figures
    assert game_figures(Recordings(generator="atari", parameters={"game": "pong"})) is pong_figures
    assert game_figures(Recordings(generator="atari", parameters={"game": "qbert"})) is object_figures
    assert game_figures(Recordings(generator="bouncing", parameters={"game": "pong"})) is object_figures
    assert game_figures(Recordings()) is object_figures


def test_table_has_world_and_true_game_side_by_side_and_leaves_curves_out():
    figures = {
        "free": {
            "world": {"dead": 0, "by_fifth": [1, 2], "shown": {"ball": 0.12345}},
            "true": {"dead": 1, "shown": {"ball": 1.0}},
        },
        "serves": {"world": None, "true": 0.5},
        "obedience": {"obeyed": 0.25},
        "frames_per_second": 60.0,
    }
    rows = [line.split("  ") for line in figure_lines(figures).splitlines()]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["world", "true game"],
        ["free dead", "0", "1"],
        ["free shown ball", "0.1235", "1"],
        ["serves", "-", "0.5"],
        ["obedience obeyed", "0.25"],
        ["frames per second", "60"],
    ]
