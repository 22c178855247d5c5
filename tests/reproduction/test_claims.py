"""Claims: a status follows from figures alone, and the page reports what the results hold."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def claims(monkeypatch):
    """The script, which is no part of the installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("reproduction.claims")


@pytest.fixture
def checks(claims):
    return importlib.import_module("reproduction.claim_checks")


def seeds(a, b):
    return {"multiscale-gan": {"claims": {"table": {"a": {"x": {"runs": a}}, "b": {"x": {"runs": b}}}}}}


def status(claims, check, results):
    return (
        importlib.import_module("reproduction.claim_checks")
        .Claim(name="n", statement="s", source="o", run="r", check=check)
        .judged(results)["status"]
    )


def test_a_difference_is_confirmed_by_its_interval_not_by_its_mean(claims, checks):
    sure, doubtful = seeds([3.0, 3.1, 2.9], [1.0, 1.2, 0.8]), seeds([3.0, 1.0, 2.0], [2.0, 1.9, 0.3])
    for results, above, alike in ((sure, "confirmed", "not seen"), (doubtful, "not seen", "confirmed")):
        assert status(claims, checks.loss_gap("a", "b", "x"), results) == above
        assert status(claims, checks.no_gap("a", "b", "x"), results) == alike
    assert status(claims, checks.loss_gap("b", "a", "x"), sure) == "not seen"
    assert status(claims, checks.loss_gap("a", "b", "x"), seeds([3.0], [1.0])) == "not seen"  # one seed shows nothing


def test_missing_results_are_not_yet_run(claims, checks):
    for results in ({}, {"multiscale-gan": {}}, seeds([1.0], [1.0])):
        assert status(claims, checks.loss_gap("a", "b", "y"), results) == "not yet run"
    assert status(claims, checks.within("dreams/rows/3", 0, 1, "x"), {"dreams": {"rows": [1]}}) == "not yet run"
    assert status(claims, None, {}) == "not testable here"


def test_a_claim_about_several_figures_needs_all(claims, checks):
    check = checks.both(checks.within("f/a", 0, 1, "a"), checks.within("f/b", 0, 1, "b"))
    assert status(claims, check, {"f": {"a": 0.5, "b": 0.5}}) == "confirmed"
    assert status(claims, check, {"f": {"a": 0.5, "b": 2.0}}) == "not seen"
    assert status(claims, check, {"f": {"a": 0.5, "b": None}}) == "not seen"
    assert status(claims, check, {"f": {"a": 0.5}}) == "not yet run"


def test_tables_of_benchmarks_are_read_from_both_sides(claims, checks):
    gap = {"mean": 1.0, "low": 0.5, "high": 1.5, "seeds": [1.0]}
    results = {"file": {"data": {"d": {"differences": {"psnr": {"a": {"b": gap}}}}}}}
    assert status(claims, checks.table_gap("file", "a", "b", "psnr"), results) == "confirmed"
    assert status(claims, checks.table_gap("file", "b", "a", "psnr"), results) == "not seen"
    assert "−1.00 (−1.50 to −0.50)".replace("−", "-") in checks.table_gap("file", "b", "a", "psnr")(results)[1]


def test_significant_gain_needs_interval_above_zero(claims, checks):
    rows = {"sure": {"mean": 1.0, "low": 0.5, "high": 1.5}, "open": {"mean": 1.0, "low": -0.5, "high": 2.5}}
    for name, above, otherwise in (("sure", "confirmed", "not seen"), ("open", "not seen", "confirmed")):
        assert status(claims, checks.significant(f"f/{name}", "x"), {"f": rows}) == above
        assert status(claims, checks.significant(f"f/{name}", "x", otherwise=True), {"f": rows}) == otherwise
    assert checks.significant("f/sure", "x")({"f": rows})[1] == "x: +1.00 dB (+0.50 to +1.50)"


def test_present_person_must_be_drawn(claims, checks):
    def found(late, drawn):
        row = {"present": {"32": 0.9, "127": late}, "mask_area": {"127": drawn}}
        return {"hierarchical": {"walking": {"table": {"epva": row}}}}

    assert status(claims, checks.no_worse("epva"), found(0.9, 1.2)) == "confirmed"
    assert status(claims, checks.no_worse("epva"), found(0.8, 1.2)) == "not seen"
    assert status(claims, checks.no_worse("epva"), found(0.9, 0.0)) == "not seen"  # the first frame shines through


def test_rules_open_on_one_side_are_refused(checks):
    for low, high in ((0, float("inf")), (float("-inf"), 1), (1, 1)):
        with pytest.raises(ValueError, match="needs a bound on either side"):
            checks.within("f/a", low, high, "a")
        with pytest.raises(ValueError, match="needs a bound on either side"):
            checks.motions("kl", low, high, "a")


def test_a_code_without_any_used_number_is_no_minority(claims, checks):
    for active, expected in ((0, "not seen"), (3, "confirmed"), (60, "not seen")):
        results = {"visual-dynamics": {"shapes": {"dims": {"active": active, "size": 100}}}}
        assert status(claims, checks.fewer_than_half, results) == expected


def test_every_claim_has_a_run_or_a_reason(claims):
    every = [c for rows in claims.PUBLICATIONS.values() for c in rows]
    assert len(claims.PUBLICATIONS) == 5
    assert len({c.name for c in every}) == len(every)
    for claim in every:
        assert bool(claim.check and claim.run) != bool(claim.why_not), claim.name
        assert claim.judged({})["status"] in ("not yet run", "not testable here"), claim.name


def test_page_matches_results(claims):
    made = claims.page(claims.judge(claims.read()))
    assert made == claims.PAGE.read_text(encoding="utf-8"), "write it again: python -m reproduction.claims"
    assert all(f"{word}" in made for word in claims.STATUSES)


def test_a_figure_is_found_by_its_path_also_where_its_name_holds_a_slash(checks):
    results = {"family": {"losses": {"val/l2": 0.25, "val": {"l2": 1.0}}, "rows": [{"x": 2}, {"x": 3}]}}
    assert checks.at(results, "family/losses/val/l2") == 0.25
    assert checks.at(results, "family/rows/1/x") == 3
    for missing in ("family/losses/val/l1", "family/rows/2/x", "family/losses/val/l2/x"):
        with pytest.raises(KeyError):
            checks.at(results, missing)


def test_about_twice_is_checked_on_both_sides_and_every_check_has_its_rule(claims, checks):
    def took(ratio):
        runs = {"l1-gdl": 1.0, "adversarial-gdl": ratio}
        return {"multiscale-gan": {f"claim-{n}-0": {"training_seconds": t, "steps": 1} for n, t in runs.items()}}

    expected = {1.36: "not seen", 1.59: "not seen", 1.7: "confirmed", 2.2: "confirmed", 2.6: "not seen"}
    assert {r: status(claims, checks.step_ratio, took(r)) for r in expected} == expected
    for rows in claims.judge({}).values():
        assert all(bool(row["rule"]) == (row["status"] != "not testable here") for row in rows)
    both = checks.both(checks.within("f/a", 0, 0.8, "a"), checks.loss_gap("l1", "l2", "x"))
    assert checks.rule_of(both) == "0 to 0.8; l1 − l2 above 0, 95 % interval over seeds"
