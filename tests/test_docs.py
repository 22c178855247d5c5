"""Facts of the documentation: link targets, commands, flags and Python names exist."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import framecast
from framecast.cli import COMMANDS, run
from framecast.cli.latents import VERBS
from framecast.data import SOURCES
from framecast.models import MODELS
from framecast.training.presets import PRESETS, profiles

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
#: Folder that the programs in `reproduction` fill.
GENERATED = {"docs/results"}

FLAG = re.compile(r"--[a-z][a-z0-9.-]*[a-z0-9]")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def fenced(text: str, language: str = "") -> Iterator[str]:
    """Blocks of code in a language, without the fences."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", text_of(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


# -------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_link_targets_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_relative_to(ROOT), f"{name_of(page)}: {target} leaves the repository"
        if place.relative_to(ROOT).as_posix() in GENERATED:
            continue
        assert place.exists(), f"{name_of(page)}: {target} does not exist"
        if anchor:
            assert anchor in anchors(place), f"{name_of(page)}: {target}: no such heading"


def test_every_page_is_linked_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    found, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for target in re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", text_of(page)):
            place = (page.parent / target).resolve()
            if place.is_file() and place not in found:
                found.add(place)
                waiting.append(place)
    missing = [
        name_of(p) for p in PAGES if p.is_relative_to(ROOT / "docs") and p not in found and "results" not in p.parts
    ]
    assert not missing, f"docs/README.md does not lead to {missing}"


# ----------------------------------------------------------------------------------------------------------- commands


def commands(text: str) -> Iterator[str]:
    """Every `framecast …` of a page: lines of code blocks, and code within sentences."""
    for block in fenced(text, "[a-z]*"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("framecast "):
                yield line.split(" # ")[0].strip()
    spans = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for span in re.findall(r"`(framecast [^`]+)`", spans):
        yield " ".join(span.replace("\\|", "|").split())


@cache
def flags_of(*words: str) -> frozenset[str]:
    """The flags that the help of a command names."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("COLUMNS", "200")
        assert run([*words, "--help"]) == 0, f"framecast {' '.join(words)} --help failed"
    found = frozenset(FLAG.findall(printed.getvalue()))
    assert found, f"framecast {' '.join(words)} --help names no flag"
    return found


def known_flags(words: list[str]) -> frozenset[str]:
    """Flags of the command that `words` begin with."""
    if words[0] == "train":
        return flags_of("train", words[1] if words[1:] and words[1] in PRESETS else "multiscale-gan")
    if words[0] == "data" and words[1:] and words[1] == "make":
        return flags_of("data", "make", words[2] if words[2:] and words[2] in SOURCES else "atari")
    if words[0] == "data" and words[1:] and words[1] in ("clips", "download", "import", "inspect", "push", "records"):
        return flags_of(*words[:2])
    if words[0] == "latents" and words[1:] and words[1] in VERBS:
        return flags_of(*words[:2])
    return flags_of(words[0])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_flags_exist(page: Path) -> None:
    for line in commands(text_of(page)):
        words = shlex.split(line)[1:]
        if words[0] in ("--help", "--version") or words[0] in ANNOUNCED:
            continue
        assert words[0] in COMMANDS, f"{name_of(page)}: {line}: no such command"
        known = known_flags(words) | {"--help", "--json"}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{name_of(page)}: {line}: {word} is not a flag"


#: Commands that README announces for a later version.
ANNOUNCED: tuple[str, ...] = ()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_model_flags_exist(page: Path) -> None:
    one_of_a_class = {MODELS[name]: name for name in PRESETS}.values()  # variants of a class have the same flags
    known = frozenset().union(*(flags_of("train", name) for name in one_of_a_class))
    for flag in re.findall(r"`?(--(?:model|optim|train)\.[a-z][a-z0-9-]*)", text_of(page)):
        assert flag in known, f"{name_of(page)}: {flag} is not a flag"


@cache
def planned(words: tuple[str, ...]) -> str:
    """Name of the model that `framecast train` would train, or its error."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        code = run([*words, "--dry-run"])
    return json.loads(out.getvalue())["name"] if code == 0 else errors.getvalue()


def alike(words: list[str]) -> tuple[str, ...]:
    """The command with one path and one seed in place of all: pages have many that differ in nothing else."""
    single = {"--data": "data", "--out": "run"}
    found = list(words)
    for i, flag in enumerate(words[:-1], start=1):
        if flag in single:
            found[i] = single[flag]
        elif flag == "--seed" and words[i].isdigit():
            found[i] = "0"
    return tuple(found)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_training_commands_parse(page: Path) -> None:
    for line in commands(text_of(page)):
        words = shlex.split(line)[1:]
        if words[0] != "train" or len(words) < 4 or words[1] not in PRESETS or "--data" not in words:
            continue
        assert planned(alike(words)) == words[1], f"{name_of(page)}: {line}"


def test_readme_lists_all_models_profiles_sources_and_commands() -> None:
    text = text_of(ROOT / "README.md")
    for name in PRESETS:
        assert f"`{name}`" in text, f"README does not name the model {name}"
    for profile in profiles("multiscale-gan"):
        assert f"`{profile}`" in text, f"README does not name the profile {profile}"
    for name in SOURCES:
        assert f"`{name}`" in text, f"README does not name the source {name}"
    for name in COMMANDS:
        assert f"`framecast {name}`" in text, f"README does not name the command {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", text_of(ROOT / "Makefile"), flags=re.M))
    for block in [*fenced(text_of(page), "[a-z]*"), *re.findall(r"`(make [^`]+)`", text_of(page))]:
        for target in re.findall(r"^make ([a-z][a-z-]*)", block, flags=re.M):
            assert target in targets, f"{name_of(page)}: make {target}: no such target"


def test_make_help_names_every_target() -> None:
    text = text_of(ROOT / "Makefile")
    phony = re.search(r"^\.PHONY: (.+)$", text, flags=re.M)
    assert phony
    described = set(re.findall(r'@echo "make ([a-z-]+)', text))
    assert set(phony[1].split()) - described <= {"help", "lint", "types"}


# -------------------------------------------------------------------------------------------------- files and functions

#: Lines of the five files that README recommends to read first, together, at most.
READING_LINES = 1200


def defined(path: Path) -> set[str]:
    """Names of the functions, methods, classes and constants of a file."""
    tree = ast.parse(text_of(path))
    assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return assigned | {n.name for n in ast.walk(tree) if isinstance(n, kinds)}


def test_where_is_what_names_existing_files_and_functions() -> None:
    section = text_of(ROOT / "docs" / "architecture.md").partition("## Where is what")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|") and "`framecast/" in line]
    assert len(rows) >= 14
    for row in rows:
        found: set[str] = set()
        for name in re.findall(r"`([^`]+)`", row):
            if name.startswith("framecast/"):
                assert (ROOT / name).is_file(), f"architecture.md: {name} does not exist"
                found = defined(ROOT / name)
            else:
                assert name in found, f"architecture.md: {row.strip()}: {name} is not defined there"


def test_reading_path_of_the_readme_is_short() -> None:
    section = text_of(ROOT / "README.md").partition("## Read these five files first")[2].partition("\n## ")[0]
    files = re.findall(r"^\d\. \[.*?\]\(([\w/]+\.py)\)", section, flags=re.M)
    assert len(files) == 5
    assert sum(len(text_of(ROOT / name).splitlines()) for name in files) <= READING_LINES


# ------------------------------------------------------------------------------------------------------------- Python


def test_snippets_use_existing_names() -> None:
    seen = 0
    for page in PAGES:
        for block in fenced(text_of(page), "python"):
            for node in ast.walk(ast.parse(block)):
                if (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "framecast"
                ):
                    seen += 1
                    assert hasattr(framecast, node.attr), f"{name_of(page)}: framecast.{node.attr} does not exist"
    assert seen >= 5


# --------------------------------------------------------------------------------------------------------- cleanliness


def published() -> list[Path]:
    """Published text files."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split() if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in PAGES]
    kinds = (".py", ".md", ".toml", ".cff", ".ipynb", ".j2", ".txt", "Makefile", "Dockerfile", "run")
    return [ROOT / n for n in names if n.endswith(kinds) and not n.startswith("tests/") and (ROOT / n).is_file()]


def test_extras_that_pages_install_exist_and_need_no_clone() -> None:
    """A page of docs is also read by those who installed the wheel: they have no constraints.txt and no folder `.`."""
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    installs = 0
    for page in PAGES:
        lines = [line for line in text_of(page).splitlines() if "pip install" in line]
        if page.parent != ROOT and page.name != "log.md":
            assert not any("constraints.txt" in line or re.search(r"pip install.* -e ", line) for line in lines), page
        for names in re.findall(r"pip install[^`\n]*\[([a-z0-9,]+)\]\"", "\n".join(lines)):
            assert set(names.split(",")) <= set(extras), f"{name_of(page)}: {names}"
            installs += 1
    assert installs > 5


def test_no_file_contains_a_machine_specific_path() -> None:
    pattern = re.compile(r"(?<![\w.:/])/(?:home|root|Users|tmp|mnt|work)/\w+")
    for path in published():
        found = pattern.search(text_of(path))
        assert not found, f"{name_of(path)}: {found[0]} is a path of one machine"


def test_no_file_contains_todo_or_advertising() -> None:
    words = r"\b(TODO|FIXME|XXX|raise NotImplementedError"
    words += r"|state[- ]of[- ]the[- ]art|cutting[- ]edge|blazing\w*|seamless\w*)\b"
    for path in published():
        found = re.search(words, text_of(path), flags=re.I)
        assert not found, f"{name_of(path)}: {found[0]!r}"


def test_decision_records_have_context_choice_and_price() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    index = text_of(ROOT / "docs" / "decisions" / "README.md")
    assert [r.name[:4] for r in records] == [f"{i:04d}" for i in range(1, len(records) + 1)]
    for record in records:
        text = text_of(record)
        assert record.name in index, f"{record.name} is not in the index"
        assert text.startswith(f"# {record.name[:4]}: ")
        for part in ("**Context.**", "**Choice.**", "**Price.**"):
            assert part in text, f"{record.name} has no {part}"


def test_citation_and_version_agree() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    citation = text_of(ROOT / "CITATION.cff")
    assert project["version"] == framecast.__version__
    assert f"version: {framecast.__version__}\n" in citation
    assert f"## {framecast.__version__}" in text_of(ROOT / "CHANGELOG.md")
