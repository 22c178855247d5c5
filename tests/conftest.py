"""Settings of every test: one torch thread, a temporary cache, no network beyond this machine."""

# ruff: noqa: E402 - the environment has to be set before NumPy and torch are imported

from __future__ import annotations

import os

# Two threads next to another busy process can be a hundred times slower. Subprocesses of tests inherit this.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import gc
import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Temporary cache for decoded videos, independent of the user's cache."""
    folder = tmp_path_factory.mktemp("framecast-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMECAST_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refusal of connections to other machines."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(real: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(str(address[0])):
                raise ConnectionRefusedError(f"tests stay on this machine: connection to {address} refused")
            return real(self, address)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        yield


def is_loopback(host: str) -> bool:
    """Whether an address names this machine."""
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", "")


@pytest.fixture(scope="module", autouse=True)
def charts_without_layout(request: pytest.FixtureRequest) -> Iterator[None]:
    """Charts are drawn everywhere; the layout of their labels, half of that work, is made in tests of pages only."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "reporting":
            patch.setattr("framecast.reporting.charts._arrange", lambda figure: None)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One thread of torch, and no tests marked gpu on machines without CUDA."""
    import torch  # not above: pytest-xdist's own process, which starts the workers, would need two seconds for it

    torch.set_num_threads(1)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    """Keep the million objects of imports and collected tests out of each later search for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 30)
