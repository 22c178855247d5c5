"""Report page: complete, offline, with escaped names."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from cli_support import asks_nobody  # noqa: F401 - a fixture

from framecast.core.errors import UserError
from framecast.data.options import DataConfig
from framecast.evaluation.scorer import KeptClip
from framecast.metrics.averages import Series
from framecast.metrics.clips import MetricSettings
from framecast.metrics.scores import Protocol, Scores
from framecast.metrics.summary import Summary
from framecast.reporting.charts import _limits, horizon_chart, lines, training_charts
from framecast.reporting.report import report_run, write_report
from framecast.training.config import RunConfig
from framecast.training.run_folder import Run

HORIZON, EVIL = 10, "<img onerror=alert(1)>"


def series(start: float, slope: float = -0.5, skipped: int = 0) -> Series:
    mean = tuple(start + slope * k for k in range(HORIZON))
    low, high = (tuple(m + d for m in mean) for d in (-0.25, 0.25))
    return Series(mean, low, high, (12 - skipped,) * HORIZON, (skipped,) * HORIZON)


def scores(model: str = "mine", names: tuple[str, ...] = ("moving_psnr", "psnr", "mse"), **changes) -> Scores:
    protocol = Protocol(
        data=changes.pop("data", "bouncing"),
        data_digest="0f3a",
        split="test",
        split_rule="by video",
        clips=12,
        videos=3,
        context=4,
        horizon=HORIZON,
        stride=1,
        samples=4 if "samples" in changes else 1,
        height=16,
        width=20,
        channels=3,
        fps=15.0,
        metrics=MetricSettings(names=names).describe(),
        seed=0,
        code_version="0.1.0",
        device="cpu",
        precision="fp32",
    )
    start = {model: 30.0, "copy-last": 24.0, "temporal-mean": 23.0}
    rows = {name: {m: series(value, skipped=2 * (m == "moving_psnr")) for m in names} for name, value in start.items()}
    skills = {model: 0.6, "copy-last": 0.0, "temporal-mean": -0.1}
    rows = {
        n: {"skill": series(skills[n], -0.1), "skill_best": series(skills[n], -0.1), **row} for n, row in rows.items()
    }
    found = {"mean": 0.15, "low": -0.1, "high": 0.4, "n": 12}
    summary = Summary(
        skill=found,
        skill_best=found,
        frames=tuple(range(1, HORIZON + 1)),
        ranges=((1, 4),),
        useful_horizon=4,
        false_motion=0.25,
        false_motion_mae=0.0123,
        sharpness_by_frame=(0.9,) * HORIZON,
        blurred_from=changes.pop("blurred_from", None),
    )
    versus = {name: {m: series(value - 24) for m in names} for name, value in start.items() if name != "copy-last"}
    return Scores(protocol=protocol, predictors=rows, versus=versus, summaries={model: summary}, **changes)


def kept(name: str = "episode-3", model: str = "mine", channels: int = 3, size=(16, 20)) -> KeptClip:
    g = torch.Generator().manual_seed(0)
    truth = torch.rand(HORIZON, channels, *size, generator=g)
    return KeptClip(
        role="median",
        index=3,
        name=name,
        metric="moving_psnr",
        value=21.5,
        context=torch.rand(4, channels, *size, generator=g),
        truth=truth,
        predictions={model: truth * 0.9, "copy-last": truth * 0.5, "temporal-mean": truth * 0.4},
    )


ROWS = [
    {"step": s, "stage": "main", "generator/total": 2.0 / (s + 1), "generator/l1": 1.0 / (s + 1), "val/l1": 0.1}
    | ({"train/psnr": 20.0 + s, "val/psnr": 19.0 + s, "val/loss": None} if s % 2 == 0 else {})
    for s in range(10)
]


class Page(HTMLParser):
    """Tags, text and every attribute of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [v for t, n, v in self.attributes if (t, n) == (tag, name)]


def test_report_contains_scores_and_protocol(tmp_path):
    path = write_report(
        tmp_path / "run",
        scores(blurred_from=7, missing={"linear-flow": "not installed"}),
        [kept()],
        title="mine on bouncing",
        loss_history=ROWS,
        config={"model": {"width": 8}},
    )
    assert path == tmp_path / "run" / "report.html"
    assert os.listdir(path.parent) == ["report.html"]
    page = Page(path)
    for text in (
        "mine on bouncing",
        "Better than the best baseline for 4 frames (0.27 s), then not significantly better; at frame 10 its squared "
        "error is 1.3 times that of the last frame repeated. Skill over persistence 0.150 over "
        "10 frames (95 % interval -0.100 to 0.400), blurred from frame 7 "
        "(sharpness ratio in the moving area below 0.7); 12 held-out clips of 3 videos.",
        "mine: false motion 25% of the squared error, mean absolute error of it 0.0123; sharpness ratio in the moving "
        "area 0.90 at frame 1, 0.90 at frame 10.",
        "+0.15",
        "linear-flow: not installed",
        "Student's t of the log ratio: indicative only",
        "Median · episode-3",
        "PSNR, moving area 21.50 dB",
        "± 0.25",
        "4 and 10 frames, stride 1",
        "PSNR, moving area up to 2 of 12",
        "largest channel change since the last context frame above 0.02, dilated by 3 px",
        '"width": 8',
        "Losses of generator",
    ):
        assert text in page.text, text
    # 3 metrics, the losses of one phase, PSNR; a validation loss that was never finite has no curve.
    assert page.tags.count("svg") == 5 + 2
    # Truth, prediction and copy-last, each with the last frame seen and frames 1, 2, 4, 8.
    sources = page.values("img", "src")
    assert len(sources) == 1 + 3 * 5
    assert sum(s.startswith("data:image/webp;base64,") for s in sources) == 1
    assert sum(s.startswith("data:image/png;base64,") for s in sources) == 15


def test_report_of_a_run_has_its_curves_and_no_local_path(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    config = RunConfig(name="mine", profile="small", data=DataConfig(path="/home/somebody/clips"))
    page = Page(report_run(Run(tmp_path, config, None), scores(), []))
    assert "mine (small) on bouncing" in page.text
    assert "Losses of generator" in page.text
    assert '"path": "clips"' in page.text
    assert "somebody" not in page.raw
    elsewhere = report_run(Run(tmp_path, config, None), scores(), [], folder=tmp_path / "other")
    assert elsewhere == tmp_path / "other" / "report.html"


def test_best_of_each_column_is_bold(tmp_path):
    text = write_report(tmp_path, scores(), [], title="t").read_text(encoding="utf-8")
    bold = re.findall(r'<td class="best">([-\d.]+)<', text)
    assert bold[:4] == ["0.600", "0.500", "0.300", "-0.100"]  # skill is the first table
    assert bold[8:12] == ["30.00", "29.50", "28.50", "26.50"]
    assert bold[16:18] == ["23.000000", "22.500000"]  # of an error the smallest: temporal-mean's
    assert len(bold) == 5 * 4


def test_report_has_no_address_no_script_and_a_strict_policy(tmp_path):
    page = Page(write_report(tmp_path, scores(), [kept()], title="t", loss_history=ROWS))
    policy = page.values("meta", "content")[0]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", re.sub(r"base64,[\w+/=]+", "", page.raw))
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("data:", "#")), (tag, name, value)


def test_names_are_escaped(tmp_path):
    page = Page(
        write_report(
            tmp_path,
            scores(model=EVIL, data=EVIL),
            [kept(EVIL, model=EVIL)],
            title=EVIL,
            loss_history=[{**row, f"{EVIL}/{EVIL} $x_": row["step"] + 1} for row in ROWS],
            config={EVIL: EVIL, "end": "</pre><script>"},
            films={EVIL: torch.zeros(2, 3, 8, 8)},
        )
    )
    assert EVIL not in page.raw
    assert f"Median · {EVIL}" in page.text
    assert page.text.count(EVIL) >= 8
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert all(source.startswith("data:image/") for source in page.values("img", "src"))
    assert "script" not in page.tags


def test_colours_follow_the_theme():
    chart = horizon_chart(scores(), "psnr")
    assert chart is not None
    assert "var(--accent)" in chart.svg
    assert "#010a" not in chart.svg
    assert chart.svg.startswith("<svg viewBox=")
    assert (chart.label, chart.hint) == ("PSNR [dB]", "higher is better")
    assert [(line.name, line.style) for line in lines(scores())] == [
        ("mine", "solid"),
        ("copy-last", "dashed"),
        ("temporal-mean", "dotted"),
    ]


def test_metric_without_any_number_has_no_curve(tmp_path):
    nothing = Series((None,) * HORIZON, (None,) * HORIZON, (None,) * HORIZON, (0,) * HORIZON, (12,) * HORIZON)
    plain = scores(names=("psnr",))
    rows = {name: {**row, "moving_psnr": nothing} for name, row in plain.predictors.items()}
    empty = Scores(protocol=scores().protocol, predictors=rows)
    assert horizon_chart(empty, "moving_psnr") is None
    page = Page(write_report(tmp_path, empty, [], title="t"))
    assert page.tags.count("svg") == 3  # skill, over both references, and PSNR
    assert "–" in page.text


def test_wide_bands_leave_the_curves_readable():
    assert _limits([10, 12], [9, 13]) == pytest.approx((9 - 0.16, 13 + 0.16))
    low, high = _limits([0.9, 1.0], [-3, 5])
    assert 0.75 < low < 0.9 < 1.0 < high < 1.15
    low, high = _limits([100.0], [100.0])
    assert low < 100 < high


def test_samples_are_separate_rows(tmp_path):
    beside = {"mine": {"psnr": {"mean": series(28), "worst": series(26)}}}
    page = Page(write_report(tmp_path, scores(samples=beside, diversity={"mine": series(0.1)}), [], title="t"))
    assert "mine, worst sample" in page.text
    assert "best of 4 samples per clip" in page.text
    assert "Diversity of samples" in page.text


def test_training_charts_average_long_histories_and_skip_other_values():
    rows = [{"step": s, "main/total": 1.0 + s, "stage": "main", "seconds": 1.0, "lr": 0.1} for s in range(5000)]
    charts = training_charts([*rows, {"main/total": 3.0}, {"step": 5000, "main/total": None}])
    assert [c.label for c in charts] == ["Losses of main"]
    assert len(charts[0].svg) < 40_000
    assert training_charts([{"step": 0, "main/total": 1.0}]) == []
    assert training_charts([]) == []


@pytest.mark.parametrize(("channels", "size"), [(1, (7, 9)), (3, (400, 11)), (4, (12, 12)), (2, (5, 5))])
def test_frames_of_any_dtype_and_channels_are_displayed(tmp_path, channels, size):
    page = Page(write_report(tmp_path, scores(), [kept(channels=channels, size=size)], title="t"))
    width, height = (int(page.values("img", name)[0]) for name in ("width", "height"))
    assert max(width / 3, height) <= 340
    assert page.tags.count("img") == 16


def test_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    path = write_report(tmp_path, scores(), [], title="old")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="cannot be written \\(No space left on device\\)"):
        write_report(tmp_path, scores(), [], title="new")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder"):
        write_report(tmp_path / "file", scores(), [], title="t")


@pytest.mark.system
def test_browser_makes_no_request_and_runs_no_script(asks_nobody, tmp_path):  # noqa: F811
    path = write_report(tmp_path, scores(data=EVIL), [kept(EVIL)], title=EVIL, loss_history=ROWS)
    assert asks_nobody(path) == EVIL


def test_scores_beside_the_page_are_plain_json(tmp_path):
    path = scores().save(tmp_path / "scores.json")
    assert json.loads(path.read_text())["protocol"]["clips"] == 12
