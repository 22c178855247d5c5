"""Source names to classes; generating a data set, and restoring a generated scene."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from framecast.core.config import from_dict, suggest
from framecast.core.errors import UserError
from framecast.data import SOURCES
from framecast.data.base import Source, World


def find_source(name: str) -> Any:
    """The class behind a source's name."""
    if name not in SOURCES:
        raise UserError(f"unknown source {name!r}; {suggest(name, SOURCES)}")
    module, attribute = SOURCES[name]
    return getattr(importlib.import_module(module), attribute)


def make_source(
    name: str,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Generate source `name` into `folder` and open it. progress: called with parts done and in all."""
    from framecast.data.store import Store

    maker = find_source(name)
    config = from_dict(maker.Config, settings or {}, f"source {name}")
    maker(config).prepare(folder, progress=progress)
    return Store(folder)


def replay(source: Source, video: int, frame: int) -> World | None:
    """The scene of a generated video as it stood at `frame`, to go on with under other actions.

    None where the source's generator cannot bring it back, or what it shows then is not the recorded frame (another
    version of an emulator, say).
    """
    meta = source.meta()
    name = str(meta.get("generator"))
    bring_back = getattr(find_source(name), "replay", None) if name in SOURCES else None
    if source.spec.actions is None or bring_back is None:
        return None
    clip = source.clip(video, 0, frame + 1)
    try:
        world: World = bring_back(meta, source.names[video], clip.arrays["actions"][:frame].tolist())
    except UserError:  # the emulator is not installed here: there is the recording, and no more
        return None
    recorded = clip.frames[frame]
    return world if bool((fitted(world, recorded.shape, meta) == recorded).all()) else None


def fitted(world: World, shape: Sequence[int], meta: Mapping[str, Any]) -> Any:
    """What a world shows, uint8, at the size (c, h, w) of a store's frames, as packing brings it there.

    meta: the store's.
    """
    from framecast.media.resize import Fit, resize_frames

    packed = meta.get("packed")
    fit: Fit = "crop"
    if isinstance(packed, Mapping) and packed.get("fit") in ("squash", "pad"):
        fit = packed["fit"]
    return resize_frames(world.frame()[None], (int(shape[1]), int(shape[2])), fit)[0]
