"""Parquet tables of LeRobot datasets: reading of columns, and their values as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError, imported


def column_values(table: Any, key: str, file: Path) -> np.ndarray:
    """Values of a numeric column, (rows, …); vectors are stored as lists, floats become float32.

    Args:
        table: Table of a data file.
        key: Name of the column.
        file: The file, for the message.

    Raises:
        UserError: Cells are empty, or lists differ in length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table[key].combine_chunks()
    shape: list[int] = []
    while (
        pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type)
    ):
        if column.null_count or len(pc.unique(pc.list_value_length(column))) > 1:
            raise UserError(f"{file}: feature {key!r} has rows of different lengths; give each frame the same")
        inner = column.flatten()
        shape.append(len(inner) // max(1, len(column)))
        column = inner
    if column.null_count:
        raise UserError(f"{file}: feature {key!r} has empty cells; give each frame a value")
    found: np.ndarray = np.asarray(column.to_numpy(zero_copy_only=False)).reshape(len(table), *shape)
    return found.astype(np.float32) if found.dtype.kind == "f" else found


def read_parquet(file: Path, columns: list[str], root: Path) -> Any:
    """Columns of a Parquet file, those that are there, as a table.

    Args:
        file: The file.
        columns: Names of columns.
        root: Folder of the dataset, for the message.

    Raises:
        UserError: pyarrow is not installed, or the file is missing or damaged.
    """
    missing = f"{root} is a LeRobot dataset; install its reader: pip install 'framecast[lerobot]'"
    pa, pq = imported("pyarrow", missing), imported("pyarrow.parquet", missing)
    if not file.is_file():
        raise UserError(f"{file} is missing; download the dataset again")
    try:
        parquet = pq.ParquetFile(file)
        there = set(parquet.schema_arrow.names)
        return parquet.read(columns=[name for name in columns if name in there])
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is damaged ({str(error).splitlines()[0]}); download it again") from error
