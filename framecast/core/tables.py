"""Tables in text files: separators, decimal commas and headers of CSV as spreadsheets of any language write it."""

from __future__ import annotations

import csv
import re

from framecast.core.errors import UserError

_SEPARATOR_LINE = re.compile(r"sep=([;,\t|])[;,]*\r?\n")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*")


def read_table(text: str, name: str) -> tuple[list[str], list[list[str]]]:
    """Header (empty without one) and rows of a table, with decimal points instead of decimal commas.

    Cells are separated as a first line `sep=…` states, else by semicolons if there are any, else by tabs, else by
    commas. The first row is a header if none of its cells is a number and all of the second row are. Left out are an
    empty last column and, as tables of pandas begin with one, a first column without a name that counts the rows.

    Args:
        text: content of the file.
        name: file, for the message.

    Raises:
        UserError: rows and header differ in length, as where commas are both decimal and separator.
    """
    separator = next((sign for sign in ";\t" if sign in text), ",")
    if stated := _SEPARATOR_LINE.match(text):
        separator, text = stated[1], text[stated.end() :]
    rows = [row for row in csv.reader(text.splitlines(), delimiter=separator) if any(cell.strip() for cell in row)]
    rows = [[_with_point(cell) for cell in row] for row in rows]
    if (
        rows
        and all(len(row) == len(rows[0]) > 1 and not row[-1].strip() for row in rows)
        and any(row[-2].strip() for row in rows)
    ):
        rows = [row[:-1] for row in rows]
    header = []
    named = [cell for cell in rows[0] if cell.strip()] if rows else []
    if len(rows) > 1 and named and not any(map(is_number, named)) and all(map(is_number, rows[1])):
        header = rows.pop(0)
    if header and any(len(row) != len(header) for row in rows):
        row = next(row for row in rows if len(row) != len(header))
        raise UserError(
            f"{name}: its header names {len(header)} columns but a row has {len(row)}; with decimal commas, separate "
            "columns by semicolons"
        )
    if len(header) > 1 and not header[0].strip() and [row[0] for row in rows] == list(map(str, range(len(rows)))):
        header, rows = header[1:], [row[1:] for row in rows]
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
