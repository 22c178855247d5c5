"""Tables in text files: separators, decimal commas and headers of CSV as spreadsheets of any language write it."""

from __future__ import annotations

import csv
import re

from framecast.core.errors import UserError

_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*")


def read_table(text: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Header (empty without one) and rows of a table, with decimal points instead of decimal commas.

    Cells are separated by semicolons if there are any, else by tabs, else by commas. The first row is a header if its
    first cell is not a number.

    Args:
        text: content of the file.
        name: file, for the message.

    Raises:
        UserError: rows and header differ in length, as where commas are both decimal and separator.
    """
    separator = next((sign for sign in ";\t" if sign in text), ",")
    rows = [row for row in csv.reader(text.splitlines(), delimiter=separator) if any(cell.strip() for cell in row)]
    rows = [[_with_point(cell) for cell in row] for row in rows]
    header = rows.pop(0) if len(rows) > 1 and not is_number(rows[0][0]) and is_number(rows[1][0]) else []
    if header and any(len(row) != len(header) for row in rows):
        row = next(row for row in rows if len(row) != len(header))
        raise UserError(
            f"{name}: its header names {len(header)} columns but a row has {len(row)}; with decimal commas, separate "
            "columns by semicolons"
        )
    return header, rows


def is_number(cell: str) -> bool:
    """Whether a cell is a number or empty."""
    try:
        float(cell.strip() or "nan")
    except ValueError:
        return False
    return True


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell
