"""Who may import whom, read from the source: every arrow points down, and nothing heavy is paid for in advance."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import process_settings

from framecast.data import SOURCES
from framecast.models import MODELS
from framecast.models.base import Predictor

PACKAGE = Path(importlib.import_module("framecast").__file__).parent

#: Floors, lowest first. A room may import its own floor and those below; `__init__` lists the public names of all.
FLOORS = [
    {"types"},
    {"config", "nn", "media"},
    {"models", "data", "metrics"},
    {"engine", "motion", "rollout"},
    {"run"},
    {"compare", "comparison", "contenders", "evaluate", "exchange", "findings", "held_out", "table"},
    {
        "compare_page",
        "export",
        "figure",
        "latents",
        "latents_motion",
        "latents_measured",
        "page",
        "predict",
        "presets",
        "report",
        "report_charts",
        "web",
    },
    {"argv", "catalog", "flags", "train"},
    {"benchmark", "benchmark_page", "benchmark_plan", "benchmark_table", "demo", "trial"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
#: The command line is one room in several files.
COMMAND_LINE = {"download_command", "latents_command"}
FLOOR |= dict.fromkeys(COMMAND_LINE, FLOOR["cli"])

#: Neighbours without a door, and ground rooms that stand alone.
APART = ("models", "data", "metrics", "nn", "media", "config")


def modules():
    """Dotted name below the package -> syntax tree, for every file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree):
    """Dotted names a file imports, wherever in it; `from a import b` counts as a and as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = modules()
#: What each file imports; walking a hundred trees takes seconds, so it is done once.
IMPORTS = {name: list(imports(tree)) for name, tree in MODULES.items()}


def arrows():
    """(from, to) as dotted names below the package, `to` being a file or folder of it."""
    for name, targets in IMPORTS.items():
        for target in targets:
            below = target.removeprefix("framecast.")
            if target.startswith("framecast.") and (below in MODULES or below.split(".")[0] in FLOOR):
                yield name, below


def room(name):
    return name.split(".")[0]


def test_every_room_has_a_floor():
    assert {room(name) for name in MODULES} - {"__init__"} <= set(FLOOR)
    assert not {name for name in FLOOR if not any(room(m) == name for m in MODULES)} - COMMAND_LINE


def test_no_arrow_points_up():
    assert ("train", "engine.step") in set(arrows()), "the reader of imports sees them"
    up = {f"{a} -> {b}" for a, b in arrows() if a != "__init__" and FLOOR[room(a)] < FLOOR[room(b)]}
    assert not up


@pytest.mark.parametrize("apart", APART)
def test_neighbours_have_no_door(apart):
    beside = FLOORS[FLOOR[apart]] - {apart}
    assert not {f"{a} -> {b}" for a, b in arrows() if room(a) == apart and room(b) in beside}


def test_types_import_nothing_of_the_house():
    assert not {b for a, b in arrows() if a == "types"}


def test_engine_and_rollout_know_no_model_and_no_source():
    concrete = {m.removeprefix("framecast.") for m, _ in (*MODELS.values(), *SOURCES.values())}
    readers = {"data.videos", "data.frames", "data.arrays", "data.open", "data.store", "data.writer"}
    known = {b for a, b in arrows() if room(a) in ("engine", "rollout") and room(b) in ("models", "data")}
    files = {b for b in known if b in MODULES} - {"models", "data"}
    assert files <= {"models.base", "data.base"}
    assert not files & (concrete | readers)


def test_models_and_sources_are_named_in_their_tables_only():
    """`run` turns names into objects; `presets` may ask a model's file for its profiles."""
    models = {m.removeprefix("framecast.") for m, _ in MODELS.values()}
    sources = {m.removeprefix("framecast.") for m, _ in SOURCES.values()}
    for a, b in arrows():
        if b in MODULES and b in models | sources:
            assert (a, b in models) == ("presets", True), f"{a} -> {b}"
    profiles = [
        alias.name
        for node in ast.walk(MODULES["presets"])
        if isinstance(node, ast.ImportFrom) and node.module.removeprefix("framecast.") in models
        for alias in node.names
    ]
    assert set(profiles) <= {"PROFILES"}


def files_of(folder):
    return {f"framecast.{name}" for name in MODULES if name.startswith(f"{folder}.")}


def test_every_model_is_in_its_table():
    found = {}
    for module in files_of("models") - {"framecast.models.base"}:
        for name, value in vars(importlib.import_module(module)).items():
            if isinstance(value, type) and issubclass(value, Predictor) and value.__module__ == module:
                found[module, name] = value
    assert set(found) == set(MODELS.values())
    assert all(value.__mro__[1] is Predictor for value in found.values()), "one base class, one level"


def test_every_source_is_in_its_table():
    found = set()
    for module in files_of("data"):
        for name, value in vars(importlib.import_module(module)).items():
            maker = isinstance(value, type) and hasattr(value, "prepare") and hasattr(value, "Config")
            if maker and value.__module__ == module:
                found.add((module, name))
    assert found == set(SOURCES.values())


def test_no_attic():
    assert not [name for name in MODULES if {"utils", "util", "helpers", "misc", "common"} & set(name.split("."))]


def test_no_torchvision_and_no_emulator_in_the_core():
    for name, targets in IMPORTS.items():
        outside = {target.split(".")[0] for target in targets}
        assert "torchvision" not in outside, name
        assert "ale_py" not in outside or name == "data.atari", name
        assert not outside & {"pickle", "shelve", "marshal"}, name


def test_a_file_is_no_longer_than_one_can_read():
    lengths = {p.relative_to(PACKAGE): len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert not {str(p): n for p, n in lengths.items() if n > 700}


@pytest.mark.parametrize(
    "code",
    [
        "import framecast",
        "import framecast.cli; framecast.cli.run(['--help'])",
        "import framecast.cli; framecast.cli.run(['--version'])",
        "import framecast.types, framecast.config",
        "import framecast; dir(framecast); framecast.__all__",
    ],
)
def test_nothing_heavy_is_imported_until_it_is_used(code):
    heavy = ("torch", "numpy", "av", "PIL", "matplotlib", "tyro", "rich", "yaml", "lightning_fabric", "ale_py")
    show = f"{code}\nimport sys\nprint('HEAVY', *(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", show], **process_settings(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_public_names_are_where_the_list_says():
    framecast = importlib.import_module("framecast")
    assert all(getattr(framecast, name) is not None for name in framecast.__all__)
    assert set(framecast.__all__) <= set(dir(framecast))
    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        framecast.tarin  # noqa: B018
    importlib.import_module("framecast.train")
    assert callable(framecast.train)
