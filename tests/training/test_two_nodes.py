"""examples/two_nodes.sh as two nodes on this machine: a preempted job resumes exactly."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_models import Plain, same_run, small_config, torchrun, write_store
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.launcher.api import elastic_launch
from torch.distributed.run import config_from_args, parse_args

from framecast import cli
from framecast.training.checkpoint import load_checkpoint
from framecast.training.trainer import Trainer

SCRIPT = Path(__file__).parents[2] / "examples" / "two_nodes.sh"

pytestmark = [
    pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs processes of a Unix system"),
]


def launched(folder, words, **variables):
    """Arguments of every torchrun that the script starts, and its exit code."""
    stub, calls = folder / "torchrun", folder / "calls"
    stub.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" > {calls}-$$\nexit ${{CODE:-0}}\n')
    stub.chmod(0o755)
    environment = {**os.environ, "TORCHRUN": str(stub), "HOST": "127.0.0.1", **variables}
    code = subprocess.run(["bash", SCRIPT, *words], env=environment, check=False).returncode
    found = [path.read_text().splitlines() for path in folder.glob("calls-*")]
    for path in folder.glob("calls-*"):
        path.unlink()
    return found, code


def test_script_starts_one_node_or_two_and_passes_the_exit_code_on(tmp_path):
    words = ["direct", "--data", "a b"]
    (one,), code = launched(tmp_path, words, PROCESSES="8", PORT="1234", CODE="143")
    assert code == 143
    assert one[-6:] == ["-m", "framecast", "train", *words]
    assert "127.0.0.1:1234" in one
    assert one[one.index("--nproc-per-node") + 1] == "8"
    both, code = launched(tmp_path, words, LOCAL="1", CODE="3")
    assert (len(both), code) == (2, 3)
    assert all("--local-addr" in arguments for arguments in both)
    missing = {**os.environ, "HOST": ""}
    found = subprocess.run(["bash", SCRIPT], env=missing, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "name of the first machine" in found.stderr


def work(words, held):
    """Exit code of one process of a node; where `held`, it waits at step 15 until it is asked to stop."""
    if held is not None:
        original = Trainer._log_step

        def wait(self, *arguments):
            if self.state.step == 15:
                (held / os.environ["RANK"]).touch()
                while not self.signals.number:
                    time.sleep(0.01)
            return original(self, *arguments)

        Trainer._log_step = wait
    code = cli.run(words)
    if code:  # a function that returns would wait for the agent, which waits for the end of this process
        sys.exit(code)
    return code


def node(arguments, held):
    """Exit code of one torchrun of the script, with processes that are forked."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "300"
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    args = parse_args(arguments)
    config, _, _ = config_from_args(args)
    config.start_method, config.monitor_interval = "fork", 0.05
    try:
        codes = elastic_launch(config, work)(args.training_script_args, held)
    except SignalException:
        sys.exit(143)
    sys.exit(max(codes.values()))


def started(arguments, held=None):
    """A node as a process that may have processes of its own."""
    process = multiprocessing.get_context("fork").Process(target=node, args=(arguments, held))
    process.start()
    return process


def ended(processes):
    """Exit codes of nodes; one that does not end is killed, or it would keep these tests from ending."""
    for process in processes:
        process.join(timeout=120)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def test_preempted_job_of_two_nodes_equals_an_unbroken_one(tmp_path):
    data, out = write_store(tmp_path / "data").folder, tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def words(folder):
        model = small_config(Plain).name
        flags = ("--device", "cpu", "--precision", "fp32", "--train.stats-every", "1", "--train.no-tensorboard")
        return [model, "--data", str(data), "--out", str(folder), "--quiet", "--steps", "24", *flags]

    nodes, _ = launched(tmp_path, words(out), LOCAL="1", PORT=port)
    held = tmp_path / "held"
    held.mkdir()
    first = [started(arguments, held) for arguments in nodes]
    while all(process.is_alive() for process in first) and len(list(held.iterdir())) < 2:
        time.sleep(0.05)
    for process in first:  # as Slurm does before it takes the machines away
        process.terminate()
    assert ended(first) == [143, 143]
    assert load_checkpoint(out)["step"] == 20  # processes agree at every tenth step
    again = [started(arguments) for arguments in nodes]
    assert ended(again) == [0, 0]
    assert torchrun(work, ["train", *words(tmp_path / "whole")], None) == {0: 0, 1: 0}
    same_run(tmp_path / "whole", out)
