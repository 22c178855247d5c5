"""Writes docs/claims.md: what the five publications state, the run that tests it, and what that run found.

    python -m reproduction.claims              write the page from docs/results/*.json
    python -m reproduction.claims --json       print it as JSON instead

A status is computed from result files and is never written by hand: confirmed, not seen, not yet run (the file or the
part of it is not there), or not testable here (with the reason). A comparison is confirmed when its 95 % interval lies
on the claimed side of 0; a claim about several figures when all of them hold.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any, cast

from reproduction import claim_checks
from reproduction.claim_checks import Check, Claim, Results

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "claims.md"
#: On pages whose tables were made before skill was the headline.
OLDER_HEADLINE = (
    "Made under the older headline, PSNR in the moving area, which does not count what a forecast invents where the",
    "truth stands still. By [skill](../scores.md) over the whole frame the order may differ.",
    "",
)
STATUSES = ("confirmed", "not seen", "not yet run", "not testable here")


def check_of(written: str | list[Any]) -> Check:
    """A function of `claim_checks` by name, or what one returns for arguments, of which those of `both` are checks."""
    if isinstance(written, str):
        return cast(Check, getattr(claim_checks, written))
    name, *arguments = written
    return cast(Check, getattr(claim_checks, name)(*(map(check_of, arguments) if name == "both" else arguments)))


def publications() -> dict[str, tuple[Claim, ...]]:
    """Title of a publication -> its claims, from publications.toml."""
    written = tomllib.loads(Path(__file__).with_name("publications.toml").read_text(encoding="utf-8"))
    return {
        one["title"]: tuple(
            Claim(
                **{**row, "run": written["runs"][row["run"]], "check": check_of(row["check"])} if "run" in row else row
            )
            for row in one["claims"]
        )
        for one in written["publications"]
    }


PUBLICATIONS = publications()


# --------------------------------------------------------------------------------------------------------------- page


def read(folder: Path = RESULTS) -> Results:
    """Every result file by its name without ending."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = stored.get("results", stored)
    return found


def judge(results: Results) -> dict[str, list[dict[str, str]]]:
    """Publication -> its claims with status."""
    return {name: [claim.judged(results) for claim in claims] for name, claims in PUBLICATIONS.items()}


def page(judged: dict[str, list[dict[str, str]]]) -> str:
    """The page's text."""
    counts = {s: sum(row["status"] == s for rows in judged.values() for row in rows) for s in STATUSES}
    lines = [
        "# Claims",
        "",
        "What the five publications state, in our words, the run that tests it, and what it found. Written by",
        "`python -m reproduction.claims` from `docs/results/*.json`; a status is computed, never written by hand. A",
        "comparison is confirmed when its 95 % interval lies on the claimed side of 0. “Not seen” reports what was",
        "found here, at the size and length of these runs, and no more. The rule is what the result is compared with.",
        "",
        "; ".join(f"{counts[s]} {s}" for s in STATUSES) + ".",
        "",
    ]
    for name, rows in judged.items():
        lines += [f"## {name}", "", "| claim | status | found | rule | source |", "|---|---|---|---|---|"]
        lines += [
            "| " + " | ".join(_cell(r[key] or "–") for key in ("statement", "status", "found", "rule", "source")) + " |"
            for r in rows
        ]
        commands = list(dict.fromkeys(line for r in rows for line in r["run"].split(" && ") if line))
        lines += ["", "Runs:", "", "```", *commands, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write() -> None:
    """Write the page from the results that are there."""
    PAGE.write_text(page(judge(read())), encoding="utf-8")


def main() -> None:
    """Write or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print as JSON instead")
    given = parser.parse_args()
    judged = judge(read())
    if given.json:
        print(json.dumps(judged, indent=1, ensure_ascii=False))
        return
    write()
    print(f"claims: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
