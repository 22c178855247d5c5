"""Figures of `make fuzz` and `make torture`: docs/results/reliability.json and a table in docs/reliability.md."""

from reproduction.results import ROOT, Results, circumstances, stored

RESULTS = Results("reliability", str)
PAGE = ROOT / "docs" / "reliability.md"
START, END = "<!-- measured: start -->\n", "<!-- measured: end -->"


def table(results):
    """The measured figures as a table: program -> its figures, command, commit and date."""
    if not results:
        return "No long run is recorded yet.\n"
    lines = ["| run | commit, date | figure | value |", "|---|---|---|---|"]
    for found in results.values():
        head = f"`{found['command']}` | {found['commit']}, {found['date']}"
        for text, value in found["figures"].items():
            lines.append(f"| {head} | {text} | {value} |")
            head = " | "
    return "\n".join(lines) + "\n"


def with_table(page, results):
    """The text of the page with the table between its two marks."""
    before, _, rest = page.partition(START)
    return before + START + table(results) + END + rest.partition(END)[2]


def report(figures, faults):
    """Print the figures, text -> value; the exit code, 1 unless the texts of `faults` count 0."""
    width = max(map(len, figures))
    print("\n".join(f"{text:{width}}  {value}" for text, value in figures.items()), flush=True)
    return int(any(figures[text] for text in faults))


def record(name, command, figures):
    """Write the figures of a program into the results, and the table into the page."""
    done = RESULTS.load()
    done["results"][name] = {"command": command, "figures": figures, **circumstances()}
    PAGE.write_text(with_table(PAGE.read_text(), stored(RESULTS.file, done)["results"]))
