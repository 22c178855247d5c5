"""Pages of results: made from the files beside them and from nothing else; figures of what was run, as it was run."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from framecast import DatasetWriter
from framecast.core.config import to_dict
from framecast.core.flags import parse
from framecast.data.store import Store
from framecast.models.autoencoders.config import PROFILES
from framecast.models.autoencoders.predictor import Autoencoder
from framecast.models.hierarchical.predictor import Hierarchical
from framecast.models.registry import find_model
from framecast.training.chain import link_configs
from framecast.training.flags import train_config, train_flags
from framecast.training.presets import chains, preset, profiles

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def script(monkeypatch):
    """A script of benchmarks/ by its name; they are no part of the installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module


@pytest.mark.parametrize(
    ("file", "writer"),
    [
        ("generative-autoencoders", "reproduction.autoencoders_page"),
        ("benchmark", "reproduction.benchmark_page"),
        ("hierarchical", "reproduction.hierarchical_page"),
    ],
)
def test_page_matches_its_result_file(script, file, writer):
    path = RESULTS / f"{file}.json"
    if not path.is_file():
        pytest.skip("not run yet")
    results = json.loads(path.read_text(encoding="utf-8"))
    results = results["results"] if writer == "reproduction.benchmark_page" else results
    made = script(writer).page(results, RESULTS)
    assert made == path.with_suffix(".md").read_text(encoding="utf-8"), f"write it again: python -m {writer}"


def test_readme_leads_with_the_table_of_the_file(script):
    pages = script("reproduction.benchmark_page")
    path = next(p for n in ("benchmark-leaders", "benchmark") if (p := RESULTS / f"{n}.json").is_file())
    text = pages.README.read_text(encoding="utf-8")
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert pages.with_table(text, results) == text, "write it again: python -m reproduction.benchmark_page"


def interval(mean, half=0.5):
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": [mean]}


METRICS = ("psnr", "moving_psnr", "ssim", "sharpness_ratio")


def series(mean, half=0.5, frames=64):
    """A curve that falls by a thousandth a frame."""
    means = [mean - k / 1000 for k in range(frames)]
    lows, highs = [m - half for m in means], [m + half for m in means]
    return {"mean": means, "low": lows, "high": highs, "n": [9] * frames, "skipped": [0] * frames}


def table(levels):
    """A benchmark's table on one game, from the level of every row, best first; all metrics alike."""
    names = list(levels)
    ours = [n for n in names if n not in ("copy-last", "temporal-mean")]
    base = levels["copy-last"]
    rows = []
    for place, name in enumerate(names):
        gain = {m: interval(levels[name] - base) for m in METRICS}
        curves = {m: series(levels[name] - base) for m in METRICS} if name != "copy-last" else {}
        rows.append(
            {
                **{
                    "rank": place + 1,
                    "name": name,
                    "model": name.partition(":")[0],
                    "seeds": [0] if name in ours else [],
                    "tied": False,
                },
                "figures": {m: interval(levels[name]) for m in METRICS},
                "to_copy_last": None if name == "copy-last" else gain,
                "to_copy_last_by_frame": curves,
                "by_frame": {m: series(levels[name]) for m in METRICS},
            }
        )
    apart = {a: {b: interval(levels[a] - levels[b]) for b in names[i + 1 :]} for i, a in enumerate(names[:-1])}
    machine = {"cpu": "a processor", "cores": 1, "device": "cpu"}
    run = {"steps": 10, "seconds": 240.0, "hardware": machine, "versions": {"torch": "2"}, "date": "2026-01-01"}
    protocol = {"clips": 9, "videos": 3, "horizon": 64, "height": 84, "width": 64, "fps": 60.0, "split_rule": "Whole"}
    return {
        "version": "0",
        "settings": {"models": ours, "budget": "4m", "steps": None, "seeds": [0]},
        "data": {
            "ms_pacman": {
                "protocol": {**protocol, "metrics": {"ms_ssim": "scales"}},
                "rank_by": "moving_psnr",
                "failed": {"another": "the loss became infinite"},
                "rows": rows,
                "differences": dict.fromkeys(METRICS, apart),
                "objects": None,
            }
        },
        "costs": {"ms_pacman": {n: {"steps": 10.0, "parameters": 7, "training_seconds": 240.0} for n in ours}},
        "runs": {"ms_pacman": {n: {**run, "command": f"framecast train {n}"} for n in ours}},
    }


@pytest.mark.parametrize(("kind", "flags"), [("cpu", ("--clock", "cpu")), ("cuda", ()), ("mps", ())])
def test_benchmark_counts_processor_time_only_where_it_trains_on_a_cpu(script, monkeypatch, kind, flags):
    module = script("reproduction.benchmark")
    monkeypatch.setattr(module, "pick_device", lambda: torch.device(kind))
    assert module.clock() == flags


def test_benchmark_page_reports_gains_with_intervals(script):
    results = script("reproduction.benchmark").brief(table({"good": 22.0, "copy-last": 20.0, "poor": 19.0}))
    first = results["data"]["ms_pacman"]["rows"][0]["by_frame"]["psnr"]
    assert first["5"] == [21.996, 21.496, 22.496]
    assert set(first) == {str(k) for k in script("reproduction.benchmark").REPORTED}
    results["data"]["ms_pacman"]["training"] = {"poor": {"half": 4.0, "end": 3.0}}
    results["data"]["ms_pacman"]["first_frame"] = {"poor": {"1": {"copy-last": 20.0, "through its own code": 18.5}}}
    text = script("reproduction.benchmark_page").page(results, Path("nowhere"))
    assert "| 1 | `good` | 22.00 ± 0.50 | +2.00 ± 0.50 | +2.00 ± 0.50 | +2.00 ± 0.50 |" in text
    assert "1 core of a processor" in text
    assert "`another` failed: the loss became infinite." in text
    assert "| `poor` | −1.00 ± 0.50 | – | +25% |" in text, "not above copy-last, and still learning"
    assert "| `poor` | 19.00 | 20.00 | 18.50 |" in text, "its own code stands in its way"
    assert "| `good` | +" not in text.partition("Not above copy-last")[2]


def test_readmes_table_has_a_row_of_every_family(script):
    pages = script("reproduction.benchmark_page")
    levels = {"fc-ae": 23.0, "dreams": 22.0, "c-ae": 21.5, "c-gia-ae": 21.0, "copy-last": 20.0, "multiscale-gan": 19.0}
    results = script("reproduction.benchmark").brief(by_skill(table(levels)))
    chosen = pages.family_rows(results["data"]["ms_pacman"])
    assert set(chosen) == {"fc-ae", "dreams", "c-gia-ae", "copy-last", "multiscale-gan"}, "the best, and one called so"
    text = pages.with_table(f"before\n{pages.BEGIN}\nrow\n{pages.END}\nafter\n", results)
    assert text.startswith(f"before\n{pages.BEGIN}\n![ms_pacman")
    assert text.endswith(f"{pages.END}\nafter\n")
    assert "\nrow\n" not in text
    assert "| `fc-ae` | autoencoders | +0.25 ± 0.12 | 64 / 12 | +23.00 | +22.94 | +3.0 ± 0.5 |" in text
    assert "`c-ae`" not in text
    assert pages.with_table(text, results) == text


def by_skill(results):
    """The table ranked by skill, with useful horizons of two seeds where a row has them."""
    found = results["data"]["ms_pacman"]
    found["rank_by"] = "skill"
    for row in found["rows"]:
        horizons = [] if row["name"] == "copy-last" else [64, 12]
        for metric in ("skill", "skill_best"):
            row["figures"][metric] = interval(0.25, 0.125)
            row["by_frame"][metric] = row["by_frame"]["psnr"]
        row["guards"] = {"useful_horizon": horizons, "unstable_from": [None, 9][: len(horizons)]}
    return results


def test_a_table_ranked_by_skill_shows_skill_and_its_guards(script):
    pages = script("reproduction.benchmark_page")
    results = script("reproduction.benchmark").brief(by_skill(table({"direct": 22.0, "copy-last": 20.0})))
    text = pages.page(results, Path("nowhere"), "benchmark-leaders")
    assert "| 1 | `direct` | +0.250 ± 0.125 | +0.250 ± 0.125 | 64 / 12 |" in text
    assert "| – / 9 |" in text
    assert pages.OLDER_HEADLINE[0] not in text
    assert "| `direct` | direct multi-horizon | +0.25 ± 0.12 | 64 / 12 |" in "\n".join(pages.lead(results))


def test_the_fourteens_part_is_taken_from_the_benchmark(script):
    names = ["c-lstm-vae", "c-gia-ae", "c-ae", "multiscale-gan", "copy-last", "fc-ae", "temporal-mean", "dreams"]
    labels = [name if name in ("copy-last", "temporal-mean") else f"{name}:small" for name in names]
    made = table({label: 25.0 - k for k, label in enumerate(labels)})
    parts = script("reproduction.autoencoders")
    found = parts.extract(made, "ms_pacman", [f"{name}:small" for name in (*parts.VARIANTS, parts.GAN)])
    assert [row["name"] for row in found["ranking"]] == names[:-1], "the fourteen, the network beside them, baselines"
    assert found["models"]["c-ae"]["commands"] == ["framecast train c-ae:small"]
    assert found["gains"]["c-ae"]["psnr"]["1"] == [2.0, 1.5, 2.5]
    assert parts.difference(made, "psnr", "c-ae", "fc-ae") == {"mean": 3.0, "low": 2.5, "high": 3.5}
    assert parts.difference(made, "psnr", "fc-ae", "c-ae") == {"mean": -3.0, "low": -3.5, "high": -2.5}
    assert len(parts.conv_above_dense()) == 5
    assert len(parts.best_above_rest()) == 2 * 12


def test_hierarchical_page_reports_every_part(script, tmp_path):
    run = {"command": "framecast train hierarchical", "steps": 1500, "training_seconds": 600}
    about = {"commit": "abc", "date": "2026-11-21", "versions": {"framecast": "0", "torch": "2"}}
    about |= {"hardware": {"cpu": "one", "cores": 1, "torch_threads": 1}, "training": {"drawn": run}}
    shares = {"correct": [0.97] * 16, "wrong": [0.02] * 16, "gone": [0.01] * 16, "away_px": [1.5] * 15 + [None]}
    far = {"trials": 32, "frames": [1, 1000], **{k: v[:2] for k, v in shares.items()}}
    curve = {"1": 0.9, "32": 0.8, "127": 0.7}
    seen = {name: curve for name in ("present", "in_place", "area", "iou", "psnr", "sharpness", "person_sharpness")}
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75}
    probe = {"encodings": 0.1, "random projection": 0.2, "mean joint": 0.3}
    parts = {
        "eight": {},
        "bouncing": {"context": 2, "short": {"trials": 1000, **shares}, "reconstruction": shares, "long": far},
        "delay": {"table": {"schedule": {"steps": [50, 100], "spread": [1.0, 0.5], "van_on_enc": [0.01, 0.02]}}},
        "pushing": {
            "table": {"test/novel": {"shuffled": [20.0] * 18}},
            "gain_over_first_frame": {"novel": interval},
            "recorded_minus": {"novel": {"shuffled": interval}},
        },
        "walking": {
            "table": {
                "copy the first frame": seen,
                "epva": {**seen, "mask_iou": curve, "mask_area": curve, "probe": probe},
            },
            "ten_minus_five": interval,
        },
    }
    results = {name: {"sentence": f"what {name} found", **about, **part} for name, part in parts.items()}
    text = script("reproduction.hierarchical_page").page({"results": results}, tmp_path)
    for line in (
        "What eight found.",
        "What walking found.",
        "| 16 | 97.0 % | 2.0 % | 1.0 % |  |",
        "| 1,000 | 97.0 % | 2.0 % | 1.0 % | 1.5 px |",
        "| 100 | 0.5 | 0.02 |",
        "| novel | shuffled | 20.00 |",
        "| novel | +0.50 dB (+0.25 to +0.75) | +0.50 (+0.25 to +0.75) |",
        "| IoU of the mask | frame 1 | frame 32 | frame 127 |",
        "| `epva` | 0.1000 | 0.2000 | 0.3000 |",
        "+0.50 dB (+0.25 to +0.75), an interval over takes.",
        "`drawn` 1,500 steps in 10 minutes.",
    ):
        assert line in text, line
    # measured since, and shown where a result has them
    shares["kept"] = [0.8] * 16
    far = {"trials": 32, "frames": [1, 1000], **{k: v[:2] for k, v in shares.items()}}
    results["bouncing"] |= {"short": {"trials": 1000, **shares}, "reconstruction": shares, "long": far}
    results["walking"]["table"]["epva"]["probe"]["second encoder"] = 0.15
    text = script("reproduction.hierarchical_page").page({"results": results}, tmp_path)
    assert "| 16 | 97.0 % | 2.0 % | 1.0 % | 80.0 % |  |" in text
    assert "| `epva` | 0.1000 | 0.1500 | 0.2000 | 0.3000 |" in text


def test_first_frame_limits_are_scored_on_the_scale_of_scores(script, tmp_path):
    """Frames that need no foresight lie on the scale of the table beside them, copy-last among them."""
    config = PROFILES["tiny"]("c-ae")
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "d", fps=10) as writer:
        for i in range(24):
            frames = np.full((20, 3, 12, 8), 128, np.uint8)
            frames[:, :, 4:8, 2:6] += rng.integers(0, 64, (20, 1, 1, 1)).astype(np.uint8)  # a square that flickers
            writer.add(frames, name=f"v{i}")
    source = Store(tmp_path / "d")
    model = Autoencoder(config, source.spec)
    run = SimpleNamespace(model=lambda: model, config=SimpleNamespace(model=config))
    results = script("reproduction.first_frame").obstacles({"c-ae": run}, source, 6)["c-ae"]
    assert set(results) == {"1", "5"}
    for row in results.values():
        assert 10 < row["copy-last"] < 40


@pytest.mark.parametrize(
    ("name", "profile", "part"), [("hierarchical", "bouncing", "bouncing"), ("visual-dynamics", "staged", "shapes")]
)
def test_links_have_the_settings_of_the_recorded_trainings(name, profile, part):
    """The figures are of single commands; the chain that replaces them trains the same."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["results"][part]
    lines = found["command"].splitlines() if "command" in found else [r["command"] for r in found["training"].values()]
    made = link_configs(chains(name)[profile], preset(name, profile), find_model(name))
    base = preset(name, chains(name)[profile].base)
    for line, config in zip(lines, made, strict=True):
        words = line.split()[3:]
        recorded = train_config(base, parse(train_flags(base, profiles(name)), words, f"train {name}"))
        own, other = to_dict(recorded), to_dict(config)
        assert (own["model"], own["train"]) == (other["model"], other["train"]), line


def test_second_encoder_is_frozen_and_as_wide_as_the_first(script):
    module = script("reproduction.hierarchical")
    model = Hierarchical(preset("hierarchical", "tiny").model, preset("hierarchical", "tiny").spec)
    frames = torch.rand(3, 3, 16, 16)
    found = module.SecondEncoder(model)(frames)
    assert found.shape == (3, model.config.encoding_size)
    assert torch.equal(found, module.SecondEncoder(model)(frames))
    assert float(found.std(0).min()) > 0
