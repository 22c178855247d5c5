"""Import rules of the package, read from its source: imports point downwards, heavy packages load on first use."""

import ast
import functools
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

#: Packages by level, lowest first. A package may import itself and those of lower levels.
LEVELS = [
    {"core"},
    {"nn", "media"},
    {"data", "metrics", "models"},
    {"training"},
    {"inference", "evaluation"},
    {"reporting"},
    {"web", "benchmark"},
    {"cli"},
    {"__main__"},
]
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}

#: Packages that import none of the others on their level.
INDEPENDENT = ("data", "metrics", "models", "nn", "media", "web")


@functools.cache
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
            assert node.level == 0, "relative import: use the full dotted name"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def imports_of_modules():
    """Dotted name below the package -> what the file imports."""
    return {name: list(imports(tree)) for name, tree in modules().items()}


@functools.cache
def edges():
    """(from, to) as dotted names below the package, `to` being a file or folder of it."""
    found = []
    for name, targets in imports_of_modules().items():
        for target in targets:
            below = target.removeprefix("framecast.")
            if target.startswith("framecast.") and (below in modules() or below.split(".")[0] in LEVEL):
                found.append((name, below))
    return found


def package_of(name):
    return name.split(".")[0]


def test_every_package_has_a_level():
    assert {package_of(name) for name in modules()} - {"__init__"} == set(LEVEL)
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_imports_point_to_lower_levels():
    assert ("training.trainer", "training.step") in set(edges()), "imports(tree) finds no imports"
    up = {f"{a} -> {b}" for a, b in edges() if a != "__init__" and LEVEL[package_of(a)] < LEVEL[package_of(b)]}
    assert not up


@pytest.mark.parametrize("package", INDEPENDENT)
def test_independent_packages_do_not_import_each_other(package):
    others = LEVELS[LEVEL[package]] - {package}
    assert not {f"{a} -> {b}" for a, b in edges() if package_of(a) == package and package_of(b) in others}


def test_training_imports_no_concrete_model_and_no_source():
    concrete = {m.removeprefix("framecast.") for m, _ in (*MODELS.values(), *SOURCES.values())}
    known = {b for a, b in edges() if package_of(a) == "training" and a != "training.presets"}
    assert not known & concrete


def test_models_and_sources_are_imported_by_their_registries_only():
    """Registries turn names into classes; `training/presets.py` may ask a family for its profiles."""
    models = {m.removeprefix("framecast.") for m, _ in MODELS.values()}
    sources = {m.removeprefix("framecast.") for m, _ in SOURCES.values()}
    for a, b in edges():
        if b in modules() and b in models | sources:
            assert a.split(".")[:-1] == b.split(".")[:-1] or (a, b in models) == ("training.presets", True), (
                f"{a} -> {b}"
            )
    profiles = [
        alias.name
        for node in ast.walk(modules()["training.presets"])
        if isinstance(node, ast.ImportFrom) and node.module.removeprefix("framecast.") in models
        for alias in node.names
    ]
    assert set(profiles) <= {"PROFILES"}


def files_of(folder):
    return {f"framecast.{name}" for name in modules() if name.startswith(f"{folder}.")}


def test_every_model_is_registered():
    found = {}
    for module in files_of("models") - {"framecast.models.base"}:
        for name, value in vars(importlib.import_module(module)).items():
            if isinstance(value, type) and issubclass(value, Predictor) and value.__module__ == module:
                found[module, name] = value
    assert set(found) == set(MODELS.values())
    assert all(value.__mro__[1] is Predictor for value in found.values()), "one base class, one level"


def test_every_source_is_registered():
    found = set()
    for module in files_of("data"):
        for name, value in vars(importlib.import_module(module)).items():
            maker = isinstance(value, type) and hasattr(value, "prepare") and hasattr(value, "Config")
            if maker and value.__module__ == module:
                found.add((module, name))
    assert found == set(SOURCES.values())


def test_no_module_is_named_utils():
    assert not [name for name in modules() if {"utils", "util", "helpers", "misc", "common"} & set(name.split("."))]


def test_no_torchvision_no_pickle_and_the_emulator_in_one_file():
    for name, targets in imports_of_modules().items():
        outside = {target.split(".")[0] for target in targets}
        assert "torchvision" not in outside, name
        assert "ale_py" not in outside or name == "data.synthetic.atari", name
        assert not outside & {"pickle", "shelve", "marshal"}, name


#: Lines of a file, and of the statements of a function (without signature and docstring), at most.
FILE_LINES, FUNCTION_LINES = 500, 70


def test_files_have_at_most_500_lines():
    lengths = {p.relative_to(PACKAGE): len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert not {str(p): n for p, n in lengths.items() if n > FILE_LINES}


def statements(function):
    """The statements of a function, without its docstring where something follows."""
    return function.body[1:] if ast.get_docstring(function) is not None and len(function.body) > 1 else function.body


def test_functions_have_at_most_70_lines():
    lengths = {
        f"{module}.{node.name}": node.end_lineno - statements(node)[0].lineno + 1
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert max(lengths.values()) > 40, "the lengths are measured"
    assert not {name: n for name, n in lengths.items() if n > FUNCTION_LINES}


@pytest.mark.parametrize(
    "code",
    [
        "import framecast",
        "import framecast.cli; framecast.cli.run(['--help'])",
        "import framecast.cli; framecast.cli.run(['--version'])",
        "import framecast.core.types, framecast.core.config",
        "import framecast; dir(framecast); framecast.__all__",
    ],
)
def test_heavy_packages_are_imported_on_first_use(code):
    heavy = ("torch", "numpy", "av", "PIL", "matplotlib", "tyro", "rich", "yaml", "lightning_fabric", "ale_py")
    show = f"{code}\nimport sys\nprint('HEAVY', *(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", show], **process_settings(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY"
