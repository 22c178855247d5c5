"""Tables of any language's spreadsheet are read with the same numbers, or refused."""

import pytest

from framecast.core.errors import UserError
from framecast.core.tables import read_table


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        ("a,b\n0.5,1\n2,3\n", ["a", "b"], [["0.5", "1"], ["2", "3"]]),
        ("a;b\n0,5;1\n2;3,25\n", ["a", "b"], [["0.5", "1"], ["2", "3.25"]]),
        ("0,5;-1,5e-3\n", [], [["0.5", "-1.5e-3"]]),
        ("a\tb\n0,5\t1\n", ["a", "b"], [["0.5", "1"]]),
        ('x,y\n"0,5","1,5"\n', ["x", "y"], [["0.5", "1.5"]]),
        ("UP\nDOWN\n", [], [["UP"], ["DOWN"]]),
        ("1\n\n2\n", [], [["1"], ["2"]]),
    ],
)
def test_separators_and_decimal_commas(text, header, rows):
    assert read_table(text, "t.csv") == (header, rows)


def test_decimal_commas_between_commas_are_refused():
    with pytest.raises(UserError, match=r"t\.csv: its header names 1 columns but a row has 2; with decimal commas"):
        read_table("force\n0,5\n0,7\n", "t.csv")
