"""Devices, precision, seeds, and what two real processes agree on."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import two_ranks
from safetensors.torch import load_file
from small_models import forked, torchrun, write_store

from framecast import cli
from framecast.core.errors import UserError
from framecast.core.random import seed_for
from framecast.nn.precision import autocast, resolve_precision
from framecast.training.checkpoint import load_checkpoint
from framecast.training.device import Device, deterministic, fast_kernels, make_device, pick_device
from framecast.training.log import read_metrics

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found, see two_ranks.py."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(two_ranks.main, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def test_processes_know_their_numbers(ranks):
    assert [found["device"] for found in ranks] == [(0, 0, 2), (1, 1, 2)]


def test_gradients_are_averaged_missing_ones_as_zeros_and_none_stays_none(ranks):
    for found in ranks:
        for first, second, third, fault, sound in found["gradients"]:  # in one bucket, and in one of each parameter
            assert fault
            assert not sound
            assert torch.equal(first, torch.full((2, 3), 2.0))
            assert torch.equal(second, torch.arange(4.0) / 2)
            assert third is None


def test_sums_of_gradients_start_while_the_backward_pass_runs(ranks):
    for found in ranks:
        started, gradients = found["overlap"]
        assert started == [2]  # those of the last two layers, before the gradient of the first
        # layer by layer, 1.5 is the mean of the two inputs
        for gradient, value in zip(gradients, (1.5 * 2.25, 1.5 * 1.5 * 1.5, 1.5 * 2.25), strict=True):
            torch.testing.assert_close(gradient, torch.full((3, 3), value))


def test_numbers_are_averaged_and_any_flag_counts(ranks):
    for found in ranks:
        assert found["numbers"] == ({"a": 2.0, "b": 1.5}, True, False, -3.0)


def test_smallest_values_are_found_element_by_element(ranks):
    assert [found["least"] for found in ranks] == [[2, 4]] * 2


def test_values_are_gathered_in_the_order_of_ranks(ranks):
    for found in ranks:
        assert [value["rank"] for value in found["values"]] == [0, 1]
        assert [value["tensor"].tolist() for value in found["values"]] == [[0, 0], [1, 1]]


def test_main_process_runs_first(ranks):
    assert [found["order_of_main_first"] for found in ranks] == [[], ["first-0"]]


def test_one_process_of_every_machine_runs_first(ranks):
    assert [found["one_machine"] for found in ranks] == [[], ["local-0"]]
    assert [found["two_machines"] for found in ranks] == [True, True]


def test_failure_of_the_main_process_releases_the_others(ranks):
    assert [found["failure_of_main"] for found in ranks] == ["no such file"] * 2


def test_the_others_wait_longer_for_work_of_the_main_process_than_for_a_step(ranks):
    assert [found["long_work"] for found in ranks] == [True, True]


def test_samples_of_two_processes_equal_those_of_one(ranks):
    assert [found["samples"] for found in ranks] == [(True, True)] * 2


def test_latents_are_encoded_by_all_processes_and_equal_those_of_one(ranks):
    assert [found["shared_latents"][0] for found in ranks] == [2, 1]
    for _, two, one in (found["shared_latents"] for found in ranks):
        assert [v.shape for v in two] == [(11, 6)] * 3
        assert all(np.array_equal(a, b) for a, b in zip(two, one, strict=True))


def test_a_full_disk_of_one_process_stops_all_with_the_same_sentence(ranks):
    for found in ranks:
        assert "latents could not be written (No space left on device)" in found["failure_of_latents"]


@pytest.mark.parametrize("name", ["Dropped", "Summed", "Plain"])
def test_two_processes_equal_one_for_noise_dropout_and_sums(ranks, name):
    for found in ranks:
        two, one, logs = found["joint_steps"][name]
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-6, atol=1e-7)
        assert logs[0] == pytest.approx(logs[1], rel=1e-6)


def test_two_processes_equal_one_for_a_stochastic_model_in_stages(ranks):
    one, two = (load_file(Path(ranks[0]["stochastic_run"][name]) / "model.safetensors") for name in ("one", "two"))
    a, b = (torch.cat([saved[name].double().flatten() for name in sorted(saved)]) for saved in (one, two))
    # 1e-6 on most processors; algorithms of convolutions differ between batches of one and of two clips
    assert (b - a).norm() / a.norm() < 3e-6


def test_batch_norm_statistics_are_those_of_all_processes(ranks):
    (mine, joint, variance), (other, *_) = (found["statistics"] for found in ranks)
    torch.testing.assert_close(mine, joint, rtol=1e-5, atol=1e-7)
    assert torch.equal(mine, other)
    assert all(torch.equal(variance, found["statistics"][2]) for found in ranks)


def test_different_weights_of_two_processes_stop_both(ranks):
    for found in ranks:
        assert found["divergence"][0] == ""
        assert "weights 'net.weight' differ between processes after step 0" in found["divergence"][1]


def test_fault_of_one_process_stops_both_and_names_phase_part_and_step(ranks):
    for found in ranks:
        sentence, unmoved = found["fault_of_one"]
        assert "loss is not finite at step 1: phase 'main', part mse" in sentence
        assert unmoved


def as_rank(rank, port, words):
    """Exit code of a command as one of two processes of a job, as torchrun starts them."""
    job = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    job |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": 0, "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {name: str(value) for name, value in job.items()}
    return cli.run(words)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_ends_the_job_in_one_sentence_and_the_same_command_resumes(tmp_path, capfd):
    data, run = write_store(tmp_path / "data", side=40, channels=3).folder, tmp_path / "run"
    words = ["train", "multiscale-gan", "--profile", "tiny", "--data", data, "--out", run, "--device", "cpu"]
    words += ["--quiet", "--train.no-tensorboard", "--train.stats-every", 1, "--train.save-every", 2, "--steps"]

    def start(steps):
        port = free_port()
        return [forked(as_rank, rank, port, list(map(str, [*words, steps]))) for rank in (0, 1)]

    main, other = start(100_000)
    while main.is_alive() and other.is_alive() and not any(row["step"] >= 4 for row in read_metrics(run)):
        time.sleep(0.05)
    other.kill()
    main.join(timeout=300)
    assert (main.exitcode, other.exitcode) == (2, -signal.SIGKILL)
    errors = capfd.readouterr().err
    assert "process 0 of 2: another process ended or closed its connection (" in errors
    assert "run the same command again: a training resumes from its last checkpoint" in errors
    assert "Traceback" not in errors
    saved = load_checkpoint(run)["step"]
    assert saved >= 2
    again = start(saved + 2)
    for process in again:
        process.join(timeout=300)
    assert [process.exitcode for process in again] == [0, 0]
    assert load_checkpoint(run)["step"] == saved + 2


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP on this system")
def test_a_frozen_process_ends_the_job_in_one_sentence(tmp_path, capfd):
    data, run = write_store(tmp_path / "data", side=40, channels=3).folder, tmp_path / "run"
    port = free_port()
    words = ["train", "multiscale-gan", "--profile", "tiny", "--data", data, "--out", run, "--steps", 100_000]
    words += ["--quiet", "--device", "cpu", "--timeout", "5s", "--train.no-tensorboard"]
    words += ["--train.stats-every", 1, "--train.save-every", 2]
    main, other = (forked(as_rank, rank, port, list(map(str, words))) for rank in (0, 1))
    while main.is_alive() and other.is_alive() and not any(row["step"] >= 4 for row in read_metrics(run)):
        time.sleep(0.05)
    os.kill(main.pid, signal.SIGSTOP)
    try:
        other.join(timeout=300)
    finally:
        os.kill(main.pid, signal.SIGCONT)
    main.join(timeout=300)  # it continues, and finds the job ended
    assert (main.exitcode, other.exitcode) == (2, 2)
    errors = capfd.readouterr().err
    assert "process 1 of 2: another process did not answer within 5 s; run the same command again" in errors
    # what the continued process notices first depends on when it was stopped
    noticed = "ended or closed its connection \\(|did not answer within 5 s"
    assert re.search(f"process 0 of 2: another process ({noticed})", errors)
    assert "Traceback" not in errors
    assert load_checkpoint(run)["step"] >= 2


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_algorithms_are_asked_for_within_the_run_only(wanted):
    with deterministic(wanted):
        assert torch.are_deterministic_algorithms_enabled() is wanted
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match="something else"), deterministic(wanted):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("name", "precision", "repeatable", "during"),
    [
        ("cuda", "bf16", False, (True, True, True)),
        ("cuda", "fp32", False, (False, False, True)),
        ("cuda", "bf16", True, (False, False, False)),
        ("cpu", "bf16", False, None),
    ],
)
def test_tf32_and_trials_of_algorithms_follow_precision_and_determinism(name, precision, repeatable, during):
    def flags():
        return (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = flags()
    with fast_kernels(Device(torch.device(name), precision), repeatable):
        assert flags() == (during or before)
    assert flags() == before


def test_operation_without_a_deterministic_algorithm_is_one_sentence():
    sentence = "--deterministic: put_ has no deterministic algorithm on this device"
    with pytest.raises(UserError, match=sentence), deterministic(True):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_one_process_exchanges_nothing():
    device = Device(CPU)
    device.barrier()
    assert device.is_main
    assert device.average({"a": 1.0}) == {"a": 1.0}
    assert not device.any(False)
    assert device.maximum(-2.0) == -2.0


def test_seeds_depend_on_every_part_and_not_on_the_machine():
    assert seed_for(0, "weights") == seed_for(0, "weights") == 8730110008906084551
    seeds = {seed_for(*parts) for parts in ((0, 1, 2), (0, 1, 3), (1, 1, 2), (0, 12), ("0", 1, 2))}
    assert len(seeds) == 5
    assert all(0 <= s < 2**63 for s in seeds)


def test_precision_and_device_are_selected_by_name():
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    assert pick_device("cpu") == CPU
    with pytest.raises(UserError, match="precision 'fp16' is unknown; use auto, fp32 or bf16"):
        resolve_precision("fp16", CPU)
    with pytest.raises(UserError, match="device 'gpu' is not known"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch finds no CUDA device; use --device cpu"):
            pick_device("cuda")


def test_one_process_needs_no_launcher():
    device = make_device("cpu", precision="fp32")
    assert (device.device, device.precision, device.rank, device.world, device.fabric) == (CPU, "fp32", 0, 1, None)
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        make_device("cpu", devices=0)
    assert not dist.is_initialized()


def test_autocast_is_active_only_for_bf16():
    x = torch.ones(4, 4)
    with autocast(CPU, "bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (x @ x).dtype == torch.float32
