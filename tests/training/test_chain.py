"""Chains of trainings: lengths, settings, and what is left when they are stopped anywhere."""

import json
import shutil
from dataclasses import replace

import pytest
from small_models import CPU, Plain, rows_of, same, same_run, small_config, write_store

from framecast.core.config import overlay
from framecast.core.errors import UserError
from framecast.inference.check import check_folder
from framecast.models.chain import Chain, Link
from framecast.models.hierarchical import config as hierarchical
from framecast.models.hierarchical.predictor import Hierarchical
from framecast.models.visual_dynamics.predictor import VisualDynamics
from framecast.reporting.report import links_of
from framecast.training import chain as chain_module
from framecast.training import train as train_module
from framecast.training import trainer as trainer_module
from framecast.training.chain import link_configs, with_schedules
from framecast.training.checkpoint import load_checkpoint
from framecast.training.presets import chains, preset, profiles
from framecast.training.run_folder import earlier_links, open_run
from framecast.training.train import train

#: Of hierarchical prediction, at the size of tests.
SHORT = Chain(
    base="tiny",
    unit="steps",
    links=(
        Link(name="drawn", length=3, model={"mode": "epva", "future": 3}),
        Link(
            name="rolled",
            length=2,
            model={"mode": "predictor", "future": 3, "optim.predictor_lr": 1e-2},
            train={"batch_size": 2},
        ),
    ),
)
#: Of a model with one convolution.
THREE = Chain(
    base="default",
    unit="steps",
    links=(
        Link(name="drawn", length=5, model={"lr": 0.1}, train={"save_every": 2}),
        Link(name="rolled", length=4, model={"lr": 0.01}, train={"save_every": 2, "batch_size": 2}),
        Link(name="far", length=3, model={"lr": 0.03}, train={"save_every": 2}),
    ),
)
FOLDERS = ("chain/1-drawn", "chain/2-rolled", "")


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "grey")


@pytest.fixture(scope="module")
def go(data):
    """(out, settings) -> folder of the chain `THREE`, trained from scratch or resumed."""
    base = replace(small_config(Plain, steps=12), profile="short")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "chains", lambda name: {"short": THREE})
        patch.setattr(chain_module, "preset", lambda name, profile: base)

        def run(out, source=data, profile="short", overwrite=False, **settings):
            config = replace(base, profile=profile)
            return train(Plain, source, out=out, config=config, overwrite=overwrite, quiet=True, **settings)

        yield run


@pytest.fixture(scope="module")
def whole(go, tmp_path_factory):
    """An unbroken chain; tests read it only."""
    return go(tmp_path_factory.mktemp("runs") / "whole")


def same_chain(one, other):
    for name in FOLDERS:
        same_run(one / name, other / name)
        steps = [sorted(p.parent.name for p in (run / name).glob("weights/*/config.json")) for run in (one, other)]
        assert steps[0] == steps[1]
    weights = [run / "weights" / "step-3" / "model.safetensors" for run in (one, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def kill(patch, module, name, at):
    """Raise in the `at`-th call of a function, counted from 1."""
    real, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        if len(calls) == at:
            raise Killed
        return real(*args, **kwargs)

    patch.setattr(module, name, counted)


# ------------------------------------------------------------------------------------------------ settings and lengths


def test_every_chain_has_links_that_its_config_accepts():
    for name, model_class in (("hierarchical", Hierarchical), ("visual-dynamics", VisualDynamics)):
        for profile, chain in chains(name).items():
            assert profile in profiles(name)
            config = preset(name, profile)
            made = link_configs(chain, config, model_class)
            assert [getattr(c.train, chain.unit) for c in made] == [link.length for link in chain.links]
            assert len(set(chain.folders)) == len(chain.links)
            assert {(c.name, c.profile) for c in made} == {(name, profile)}


def test_steps_epochs_and_budget_are_shared_by_the_links():
    chain = chains("hierarchical")["bouncing"]
    assert chain.lengths("steps", 38250) == [2000, 2950, 1500, 1800, 8000, 12000, 5000, 5000]
    assert sum(chain.lengths("steps", 1001)) == 1001
    assert chain.lengths("steps", 3) == [1, 1, 1, 1, 1, 1, 1, 1]
    assert chain.lengths("epochs", 3.825)[:2] == pytest.approx([0.2, 0.295])
    budget = chain.lengths("budget", 4568)
    assert budget == pytest.approx([648, 222, 115, 180, 774, 1199, 720, 710])  # measured, not in proportion to steps
    config = preset("hierarchical", "bouncing")
    config = replace(config, train=replace(config.train, steps=None, budget="4568s"))
    assert link_configs(chain, config, Hierarchical)[0].train.budget == "648.000s"


def test_settings_of_the_user_apply_where_a_link_sets_none():
    config = overlay(
        preset("hierarchical", "bouncing"), {"model": {"van_width": 4, "alpha": 0.5}, "train": {"seed": 3}}
    )
    made = link_configs(chains("hierarchical")["bouncing"], config, Hierarchical)
    assert {c.model.van_width for c in made} == {4}
    assert {c.train.seed for c in made} == {3}
    assert [c.model.alpha for c in made[:2]] == [0.003, 0.5]


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"model": {"future": 9}}, "--model.future"),
        ({"train": {"batch_size": 3}}, "--batch-size"),
        ({"model": {"mode": "e2e"}}, "--model.mode"),
    ],
)
def test_settings_that_every_link_sets_are_refused(given, flag):
    config = overlay(preset("hierarchical", "bouncing"), given)
    with pytest.raises(UserError, match=f"{flag} has no effect: every link of profile bouncing sets it"):
        link_configs(chains("hierarchical")["bouncing"], config, Hierarchical)


def test_schedules_in_epochs_follow_the_length(data):
    chain, base = chains("visual-dynamics")["staged"], preset("visual-dynamics", "staged")
    tenth = replace(base, train=replace(base.train, epochs=base.train.epochs / 10))
    first, second = link_configs(chain, tenth, VisualDynamics)[:2]
    assert [p for point in first.model.kl_weights for p in point] == pytest.approx(
        [0, 0.01, 0.05, 0.05, 0.15, 0.2, 0.3, 0.6, 0.45, 1]
    )
    assert (first.train.epochs, first.model.optim.decay_epochs) == pytest.approx((0.5, 0.5))
    assert second.model.optim.decay_epochs == pytest.approx(0.24)
    # of the link's five epochs two steps are half an epoch, and so are three seconds at 1.5 s per step
    declared = replace(first.model, kl_weights=chain.links[0].model["kl_weights"])
    for length in ({"steps": 2}, {"budget": "3s"}):
        settings = {**{"epochs": None, "steps_per_epoch": 4}, **length}
        config = replace(first, model=declared, train=replace(first.train, **settings))
        made = with_schedules(chain, 0, config, data, VisualDynamics, CPU, {"1-places": 1.5})
        assert made.model.kl_weights == first.model.kl_weights


# ---------------------------------------------------------------------------------------------------------- the runs


def test_a_chain_equals_its_trainings_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setitem(hierarchical.CHAINS, "short", SHORT)
    source = write_store(tmp_path / "colour", channels=3, side=16)
    quick = {"tensorboard": False, "save_every": 10}
    run = train("hierarchical", source, out=tmp_path / "run", profile="short", quiet=True, **quick)
    base, before = preset("hierarchical", "tiny"), None
    for link, folder in zip(SHORT.links, ("chain/1-drawn", ""), strict=True):
        settings = {**link.train, "steps": link.length, **quick}
        config = replace(base, model=link.apply(base.model), train=replace(base.train, **settings))
        out = tmp_path / link.name
        before = train("hierarchical", source, out=out, config=config, init_from=before, quiet=True)
        same(load_checkpoint(before), load_checkpoint(run / folder))
    assert open_run(run).config.profile == "short"


def test_rows_and_report_state_the_link(whole):
    assert {row["link"] for row in rows_of(whole)} == {"3-far"}
    assert [path.name for path in earlier_links(whole)] == ["1-drawn", "2-rolled"]
    assert open_run(whole, Plain).trained[0] == 5 + 4 + 3
    assert [(row["name"], row["steps"]) for row in links_of(whole)] == [
        ("1-drawn", "5"),
        ("2-rolled", "4"),
        ("3-far", "3"),
    ]
    assert links_of(whole / "chain" / "1-drawn") == []


def test_the_check_of_a_chain_includes_the_earlier_links(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    counts = [check_folder(run / name)["verified"] for name in FOLDERS]
    assert counts[2] > counts[0] + counts[1] > 0
    weights = run / "chain" / "1-drawn" / "weights" / "step-5" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert check_folder(run)["damaged"] == [f"{weights}: its checksum is wrong"]
    for path in run.glob("*"):
        if path.name not in ("chain", "chain.json"):  # stopped before the last link
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert check_folder(run)["verified"] == counts[0] + counts[1] - 1


@pytest.mark.parametrize(
    ("module", "name", "at"),
    [
        (trainer_module, "train_step", 4),  # in the first link, after a checkpoint
        (trainer_module, "write_finished", 1),  # at the end of the first
        (chain_module, "fit", 2),  # between both
        (trainer_module, "train_step", 7),  # in the second, before its first checkpoint
        (trainer_module, "train_step", 11),  # in the last
    ],
)
def test_a_chain_killed_anywhere_equals_an_unbroken_one(go, whole, tmp_path, module, name, at):
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, module, name, at)
        with pytest.raises(Killed):
            go(tmp_path / "killed")
    same_chain(go(tmp_path / "killed"), whole)


def test_links_that_ended_are_not_trained_again(go, whole, tmp_path, monkeypatch):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "chain")  # their weights are no longer needed
    kill(monkeypatch, trainer_module, "train_step", 1)
    assert go(run) == run
    assert open_run(run, Plain).trained[0] == 3


def test_overwrite_begins_with_the_first_link_even_if_it_was_killed(go, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, chain_module.shutil, "rmtree", 1)
        with pytest.raises(Killed):
            go(run, overwrite=True, seed=1)
    assert json.loads((run / "chain.json").read_text())["clearing"] is True
    go(run, seed=1)
    assert not (run / "report.html").exists()
    assert [open_run(run / name, Plain).config.train.seed for name in FOLDERS] == [1, 1, 1]
    assert json.loads((run / "chain.json").read_text())["clearing"] is False


def test_what_does_not_suit_a_chain_is_refused(go, data, whole, tmp_path):
    for settings, text in (
        ({"steps": 20}, r"another length \(\{'steps': 12\}, now \{'steps': 20\}\)"),
        ({"seed": 2}, r"chain/1-drawn: holds a run with other settings \(train.seed was 0 and is now 2\)"),
    ):
        with pytest.raises(UserError, match=text):
            go(whole, **settings)
    single = go(tmp_path / "single", profile="other", steps=1)
    with pytest.raises(UserError, match="holds a single run, no chain"):
        go(single)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, trainer_module, "train_step", 7)
        with pytest.raises(Killed):
            go(tmp_path / "half")
    with pytest.raises(UserError, match=r"has not reached its last link, the newest link is .*2-rolled"):
        open_run(tmp_path / "half", Plain)
    with pytest.raises(UserError, match="holds a chain of trainings"):
        go(tmp_path / "half", profile="other", steps=1)
    go(tmp_path / "half", profile="other", steps=1, overwrite=True)
    assert not (tmp_path / "half" / "chain").exists()
    (tmp_path / "other" / "chain").mkdir(parents=True)
    with pytest.raises(UserError, match="is not empty and has no run"):
        go(tmp_path / "other", overwrite=True)


def test_links_are_checked_before_the_first_is_trained(go, tmp_path):
    with pytest.raises(UserError, match="--grad-accum-steps 4 must divide the 2 clips"):  # of the second link
        go(tmp_path / "run", grad_accum_steps=4)
    assert not (tmp_path / "run").exists()


def test_damaged_chain_files_are_refused(go, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    content = json.loads((run / "chain.json").read_text())
    for change in ({"links": ["../x"]}, {"links": []}, {"links": 3}, {"format": 9}):
        (run / "chain.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=r"chain\.json"):
            earlier_links(run)
    go(run, overwrite=True)
    assert len(earlier_links(run)) == 2
