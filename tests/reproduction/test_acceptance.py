"""What all acceptance runs share: results that are kept one by one, with their page."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    "multiscale-gan": "reproduction.multiscale_gan",
    "generative-autoencoders": "reproduction.autoencoders",
    "compare": "reproduction.compare",
    "dreams": "reproduction.dreams",
    "visual-dynamics": "reproduction.visual_dynamics",
}


@pytest.fixture
def load(monkeypatch):
    """Imports a script with the modules beside it."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module


@pytest.fixture
def results(load, monkeypatch, tmp_path):
    """An empty file of results in a folder that is not there yet; claims are left alone."""
    acceptance = load("reproduction.results")
    monkeypatch.setattr(acceptance, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(acceptance.claims, "write", lambda: None)
    return acceptance.Results("family", lambda done: " ".join(done["results"]))


def test_a_result_is_kept_with_its_page_and_not_made_twice(results, capsys):
    results.part("one", lambda: {"figure": 1 / 3, "sentence": "a third"}, again=False)
    kept = json.loads(results.file.read_text(encoding="utf-8"))
    assert (kept["format"], kept["family"]) == (1, "family")
    assert kept["results"]["one"]["figure"] == 0.333333
    assert {"versions", "hardware", "commit", "date"} <= kept["results"]["one"].keys()
    assert results.file.with_suffix(".md").read_text(encoding="utf-8") == "one"
    results.part("one", lambda: pytest.fail("made twice"), again=False)
    assert capsys.readouterr().out == "one …\none: a third\none: done before\n"
    results.part("one", lambda: {"figure": 2}, again=True)
    assert results.load()["results"]["one"]["figure"] == 2


def test_a_result_made_meanwhile_stays(results):
    def slow():
        results.part("fast", lambda: {"figure": 1}, again=False)
        return {"figure": 2}

    results.part("slow", slow, again=False)
    assert {k: v["figure"] for k, v in results.load()["results"].items()} == {"fast": 1, "slow": 2}


@pytest.mark.parametrize("family", PAGES)
def test_the_page_in_the_docs_is_that_of_its_results(load, family):
    module = load(PAGES[family])
    written = ROOT / "docs" / "results" / f"{family}.md"
    done = load("reproduction.results").Results(family, str).load()
    made = (
        module.page(done, written.parent)
        if family in ("multiscale-gan", "generative-autoencoders")
        else module.page(done)
    )
    assert made == written.read_text(encoding="utf-8")
