"""Words that tests/vocabulary.toml lists appear nowhere in the package, the documentation or the names of tests."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = tomllib.loads((ROOT / "tests" / "vocabulary.toml").read_text(encoding="utf-8"))["banned"]

#: Name of a part of the repository -> globs of its files. `reproduction` writes the pages of results and claims.
PARTS = {
    **{
        f"framecast/{folder.name}": [f"framecast/{folder.name}/**/*{kind}" for kind in (".py", ".j2", ".html", ".js")]
        for folder in sorted((ROOT / "framecast").iterdir())
        if (folder / "__init__.py").exists()
    },
    "framecast": ["framecast/*.py"],
    "docs": ["docs/[!c]*.md", "docs/compare.md", "docs/models/*.md", "docs/decisions/*.md"],
    "docs/results": ["docs/results/*.md", "docs/claims.md"],
    "root": ["*.md"],
    "examples": ["examples/*.py", "examples/*.ipynb", "examples/*.md"],
    "reproduction": ["reproduction/*.py", "reproduction/*.toml"],
    "benchmarks": ["benchmarks/*.py"],
    "names of tests": ["tests/**/*.py"],
}

#: A table that a program copies from a result page.
GENERATED = re.compile(r"<!-- table: .*?<!-- end of table -->", re.DOTALL)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of a file; of a test file the names of its functions only, of a notebook its cells."""
    text = path.read_text(encoding="utf-8")
    if path.is_relative_to(ROOT / "tests"):
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.match(r"\s*(?:async )?def (test_\w+)", line):
                yield number, found[1]
    elif path.suffix == ".ipynb":
        for cell in json.loads(text)["cells"]:
            yield from enumerate("".join(cell["source"]).splitlines(), 1)
    else:
        yield from enumerate(GENERATED.sub(lambda found: "\n" * found[0].count("\n"), text).splitlines(), 1)


def findings(path: Path) -> Iterator[str]:
    """One sentence for each banned word of a file."""
    name = path.relative_to(ROOT).as_posix()
    searched = list(lines(path))
    whole = "\n".join(line for _, line in searched)
    words = whole.replace("_", " ")
    rules = [
        rule
        for rule in BANNED
        # few are searched line by line
        if re.search(rule["pattern"], whole if "_" in rule["pattern"] else words, re.IGNORECASE | re.MULTILINE)
        and not any(fnmatch(name, glob) for glob in rule.get("files", ()))
    ]
    for number, line in searched if rules else ():
        for rule in rules:
            kept = line
            for legitimate in rule.get("allow", ()):
                kept = re.sub(legitimate, "", kept, flags=re.IGNORECASE)
            # names are searched as words too: `what_was_told`
            for text in (kept, kept.replace("_", " ")):
                if found := re.search(rule["pattern"], text, re.IGNORECASE):
                    yield f"{name}:{number}: {found[0]!r}; use: {rule['use']}"
                    break


@pytest.mark.parametrize("part", PARTS)
def test_banned_words_appear_nowhere(part: str) -> None:
    files = sorted({path for glob in PARTS[part] for path in ROOT.glob(glob)})
    assert files, f"{part}: no files"
    found = [line for path in files for line in findings(path)]
    assert not found, f"{len(found)} in {part}:\n" + "\n".join(found)


@pytest.mark.parametrize("rule", BANNED, ids=lambda rule: rule["pattern"])
def test_every_rule_names_a_replacement(rule: dict[str, object]) -> None:
    assert rule["use"]
    assert set(rule) <= {"pattern", "use", "allow", "files"}
    assert isinstance(rule["pattern"], str)
    re.compile(rule["pattern"])
