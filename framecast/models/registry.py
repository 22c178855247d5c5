"""Model names to classes, those of the package and those of a file of the user."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path

from framecast.core.config import suggest
from framecast.core.errors import UserError
from framecast.models import MODELS
from framecast.models.base import Predictor


def find_model(name: str) -> type[Predictor]:
    """The class behind a model's name, or behind "path/to/mine.py:Mine"."""
    if ".py:" in name:
        return _outside_model(*name.rsplit(":", 1))
    name = ALIASES.get(name, name)
    if name not in MODELS:
        raise UserError(unknown_model(name))
    module, attribute = MODELS[name]
    found: type[Predictor] = getattr(importlib.import_module(module), attribute)
    return found


#: Second names of models.
ALIASES: dict[str, str] = {"vae-mdn-rnn": "dreams"}


def unknown_model(name: str) -> str:
    """Error message for an unknown model name."""
    if name.endswith(".py"):
        return f"{name}: add the name of the class, e.g. {name}:Mine"
    return f"unknown model {name!r}; {suggest(name, MODELS)}"


def _outside_model(path: str, attribute: str) -> type[Predictor]:
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no such file; expected path/to/mine.py:Mine for a model outside the package")
    spec = importlib.util.spec_from_file_location(f"framecast_outside_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses need their module here
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may fail in any way
        del sys.modules[spec.name]
        raise UserError(f"{path}: cannot be imported ({type(error).__name__}: {error}); fix it") from error
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Predictor)):
        names = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Predictor)]
        raise UserError(f"{path}: has no Predictor named {attribute!r}; {suggest(attribute, names)}")
    if not dataclasses.is_dataclass(getattr(found, "Config", None)):
        raise UserError(f"{path}: {attribute} needs a class attribute Config, a frozen dataclass of its settings")
    return found
