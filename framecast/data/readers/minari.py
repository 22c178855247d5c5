"""Reader of Minari datasets in Arrow layout; those in HDF5 are read by `readers/hdf5.py`.

data/metadata.json         data_format, observation_space and others
data/0/part-0.arrow        one episode: a row per step, observations flattened, a last row after the last action
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from framecast.core.errors import UserError, imported
from framecast.core.io import parse_json, read_json
from framecast.data.options import AS_STORED, ReadOptions
from framecast.data.readers.episodes import Recording, Recordings, axes_of, matched_rows, row_name


class Minari(Recordings):
    """A Minari dataset in Arrow layout as a source: every image of its observations is a camera.

    Args:
        path: Folder that holds `data/metadata.json`, or that `data` folder.
        options: Size and fit of frames, and fps, which Minari does not store; skip_bad leaves out damaged episodes.

    Raises:
        UserError: pyarrow is not installed, a file is damaged, or observations hold no images.
    """

    def __init__(self, path: str | os.PathLike[str], options: ReadOptions = AS_STORED) -> None:
        path = Path(path)
        data = minari_folder(path)
        if data is None:
            raise UserError(f"{path} holds no data/metadata.json of Minari; give the folder of a dataset")
        space = _space(data / "metadata.json")
        recordings: list[Recording] = []
        skipped: list[str] = []
        for folder in (f for f in data.iterdir() if f.name.isdecimal() and f.is_dir()):
            try:
                recordings += _episode(folder, space)
            except UserError:
                if not options.skip_bad:
                    raise
                skipped.append(folder.name)
        if not recordings and not skipped:
            raise UserError(f"{path}: its observations hold no images; give a dataset that was rendered to pixels")
        super().__init__(path, recordings, options, skipped=skipped)


def minari_folder(path: Path) -> Path | None:
    """The data folder of a Minari dataset in Arrow layout, or None."""
    for data in (path / "data", path):
        if (data / "metadata.json").is_file() and any(data.glob("[0-9]*/*.arrow")):
            return data
    return None


def _space(file: Path) -> Mapping[str, Any]:
    space = read_json(file).get("observation_space")
    space = parse_json(space, file) if isinstance(space, str) else space
    if not isinstance(space, dict):
        raise UserError(f"{file} is damaged: it holds no observation space; download the dataset again")
    return space


def _boxes(space: Mapping[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """(path, array) of every numeric part of the observations."""
    parts = space.get("subspaces")
    if isinstance(parts, list):
        parts = {str(i): part for i, part in enumerate(parts)}
    if isinstance(parts, dict):
        for name, part in parts.items():
            yield from _boxes(part, values.field(name), f"{path}/{name}".strip("/"))
    elif space.get("type") == "Box":
        flat = values.flatten().to_numpy(zero_copy_only=False)
        yield path, flat.reshape(len(values), *space["shape"])
    elif space.get("type") == "Discrete":
        yield path, values.to_numpy(zero_copy_only=False)


def _episode(folder: Path, space: Mapping[str, Any]) -> list[Recording]:
    install = "install its reader: pip install 'framecast[lerobot]'"
    pa = imported("pyarrow", f"{folder} is a Minari dataset in Arrow layout; {install}")
    file = next(iter(sorted(folder.glob("*.arrow"))), folder / "part-0.arrow")
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all().combine_chunks()
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        columns = {k: v.chunk(0) if isinstance(v, pa.ChunkedArray) else v for k, v in columns.items()}
        observed = dict(_boxes(space, columns["observations"]))
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); download the dataset again") from error
    steps = len(table) - 1  # the last row holds the last observation only
    values = {}
    for name in ("actions", "rewards", "terminations", "truncations"):
        column = columns.get(name)
        if column is not None and not pa.types.is_struct(column.type):
            flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
            found = flat.to_numpy(zero_copy_only=False).reshape(len(table), -1)
            values[name] = (found if found.shape[1] > 1 or name == "actions" else found[:, 0])[:steps]
    images = {p: v for p, v in observed.items() if v.dtype == np.uint8 and v.ndim in (3, 4)}
    values |= {row_name(path or "states"): rows for path, rows in observed.items() if path not in images}
    rows = matched_rows(values, len(table), str(file))
    return [
        Recording(
            file,
            f"episode_{folder.name}",
            path.replace("/", "-") or "main",
            frames,
            axes_of(frames.shape, str(file)),
            rows,
        )
        for path, frames in images.items()
    ]
