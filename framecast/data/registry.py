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
    """The class of a source.

    Raises:
        UserError: Unknown name.
    """
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
    """The opened store of a generated source.

    Args:
        name: Name in `SOURCES`.
        folder: Folder of the store.
        settings: Fields of the source's config.
        progress: Called with parts done and the total.

    Raises:
        UserError: Unknown source or setting, or the store cannot be written.
    """
    from framecast.data.store import Store

    maker = find_source(name)
    config = from_dict(maker.Config, settings or {}, f"source {name}")
    maker(config).prepare(folder, progress=progress)
    return Store(folder)


def replay(source: Source, video: int, frame: int) -> World | None:
    """The scene of a generated video restored at `frame`, to be continued under other actions.

    Returns:
        None where the generator cannot restore scenes, or the restored frame differs from the recorded one (for
        example with another version of an emulator).
    """
    meta = source.meta()
    name = str(meta.get("generator"))
    restore = getattr(find_source(name), "replay", None) if name in SOURCES else None
    if source.spec.actions is None or restore is None:
        return None
    clip = source.clip(video, 0, frame + 1)
    recorded = clip.frames[frame]

    def same(world: World) -> bool:
        return bool((fitted(world, recorded.shape, meta) == recorded).all())

    try:
        world: World = restore(meta, source.names[video], clip.arrays["actions"][:frame].tolist())
        if same(world):
            return world
    except UserError:  # the emulator is not installed, or the video is cut from a recording
        pass
    at_state = getattr(find_source(name), "at_state", None)
    if at_state is None or "states" not in clip.arrays:
        return None
    world = at_state(clip.arrays["states"][frame])
    return world if same(world) else None


def fitted(world: World, shape: Sequence[int], meta: Mapping[str, Any]) -> Any:
    """The current frame of a world, uint8 (c, h, w), resized as in packing.

    Args:
        world: A restored scene.
        shape: (c, h, w) of the store's frames.
        meta: Meta of the store.
    """
    from framecast.media.resize import Fit, resize_frames

    packed = meta.get("packed")
    fit: Fit = "crop"
    if isinstance(packed, Mapping) and packed.get("fit") in ("squash", "pad"):
        fit = packed["fit"]
    return resize_frames(world.frame()[None], (int(shape[1]), int(shape[2])), fit)[0]
