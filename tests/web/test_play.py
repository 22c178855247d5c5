"""`framecast play`: what is checked before anything is served, and the command as people type it."""

import json
import os
import signal
import socket
import time
import urllib.request

import pytest
from small_models import forked, write_store

from framecast.cli import run as command
from framecast.core.errors import UserError
from framecast.data.options import DataConfig
from framecast.data.store import Store
from framecast.models.baselines import CopyLastConfig
from framecast.models.multiscale_gan.config import tiny
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.training.checkpoint import write_weights
from framecast.training.config import RunConfig, write_config
from framecast.training.run_folder import Run, open_run
from framecast.web import play
from framecast.web.play import prepare


@pytest.fixture
def run(tmp_path):
    """A copy-last run on a small store."""
    write_store(tmp_path / "data", videos=3, frames=30)
    config = RunConfig(
        name="copy-last",
        profile="tiny",
        model=CopyLastConfig(),
        data=DataConfig(path=str(tmp_path / "data")),
        spec=Store(tmp_path / "data").spec,
    )
    (tmp_path / "run").mkdir()
    write_config(tmp_path / "run", config)
    return open_run(tmp_path / "run")


def test_loopback_url_has_no_token(run):
    ready = prepare(run, port=0)
    assert ready.url == f"http://127.0.0.1:{ready.port}/"


def test_url_outside_loopback_has_a_fresh_token(run):
    first, second = (prepare(run, host="0.0.0.0", port=0) for _ in range(2))
    name = socket.gethostname()
    for ready in (first, second):
        assert ready.url.startswith(f"http://{name}:{ready.port}/?token=")
    assert first.url.rsplit("=")[-1] != second.url.rsplit("=")[-1]
    assert len(first.url.rsplit("=")[-1]) >= 20


def test_invalid_input_fails_before_serving(run, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port}: cannot be listened on .*; give another --port"):
            prepare(run, port=port)
    with pytest.raises(UserError, match=r"no\.such\.host:0: cannot be listened on"):
        prepare(run, host="no.such.host", port=0)
    with pytest.raises(UserError, match="--port 70000: must be in 0…65535"):
        prepare(run, port=70000)
    with pytest.raises(UserError, match="--sessions must be at least 1, got 0"):
        prepare(run, port=0, sessions=0)
    with pytest.raises(UserError, match="is neither a file or folder nor the name of a source"):
        prepare(run, "nowhere", port=0)
    monkeypatch.setattr(play.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'play needs fastapi, uvicorn, websockets; .*pip install "framecast\[web\]"'):
        prepare(run, port=0)


def test_unsuitable_frames_fail_before_serving(tmp_path):
    write_store(tmp_path / "data", videos=3, frames=30, channels=3)
    spec = Store(tmp_path / "data").spec
    config = RunConfig(name="multiscale-gan", model=tiny(), data=DataConfig(path=str(tmp_path / "data")), spec=spec)
    (tmp_path / "run" / "weights" / "step-1").mkdir(parents=True)
    write_weights(tmp_path / "run" / "weights" / "step-1", MultiscaleGAN(config.model, spec), config.to_json())
    run = Run(tmp_path / "run", config, MultiscaleGAN)
    assert prepare(run, port=0).port
    write_store(tmp_path / "dots", videos=3, frames=30, side=5, channels=3)
    with pytest.raises(UserError, match="frames of 1x1 are too small"):
        prepare(run, str(tmp_path / "dots"), port=0, size="1x1")


def test_the_command_serves_until_it_is_stopped(run, tmp_path, capfd):
    result = tmp_path / "result.json"
    process = forked(command, ["play", str(run.folder), "--port", "0", "--json", str(result)])
    end = time.monotonic() + 120
    while not result.is_file() and process.is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    url = json.loads(result.read_text())["url"]
    with urllib.request.urlopen(url, timeout=120) as page:
        assert b"framecast play" in page.read()
    os.kill(process.pid, signal.SIGINT)
    process.join(120)
    assert process.exitcode == 130
    out, err = capfd.readouterr()
    assert out.startswith(f"playing {run.folder}: {url}")
    assert url.startswith("http://127.0.0.1:")
    assert err == "framecast: stopped\n"
