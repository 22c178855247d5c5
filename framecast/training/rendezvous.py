"""Process group under torchrun, also after its agent restarted the processes.

The agent keeps one store for all attempts, and with it the addresses of the processes of an attempt that failed. A
process that reads one of them before its successor has written its own waits for a process that no longer exists.
Therefore the processes of an attempt first agree on a name that no earlier attempt used, and keep all under it. The
agent's count of restarts is no such name: it differs between machines, where only one of them counts a failure.
"""

from __future__ import annotations

import atexit
import os
import secrets
import time
from datetime import timedelta
from typing import Any

#: Longest wait for the other processes of an attempt: they start together, and import and open the same.
START_TIMEOUT = timedelta(minutes=30)
#: Seconds between two looks into the store.
LOOK = 0.05


def connect(backend: str) -> None:
    """Initialise the process group of this attempt, if the store is that of torchrun's agent.

    Args:
        backend: gloo or nccl.

    Raises:
        TimeoutError: the other processes did not come.
    """
    import torch.distributed as dist

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or dist.is_initialized():
        return
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, world, is_master=False, timeout=START_TIMEOUT
    )
    name = agree(store, rank, world)
    prefixed = dist.PrefixStore(name, store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=prefixed, rank=rank, world_size=world)
    if backend == "nccl":
        atexit.register(_leave)


def agree(store: Any, rank: int, world: int, timeout: timedelta = START_TIMEOUT) -> str:
    """A name that all processes of this attempt have in common, and none of an earlier attempt with the same store.

    The first process offers a new name to whichever process greets it, until all have confirmed this name. Greetings
    of earlier attempts are answered too, but nobody confirms these answers.

    Args:
        store: of all processes; what earlier attempts wrote may still be there.
        rank: number of the process.
        world: number of processes.
        timeout: longest wait.

    Raises:
        TimeoutError: the other processes did not come.
    """
    own = secrets.token_hex(8)
    until = time.monotonic() + timeout.total_seconds()
    others = set(range(1, world))
    if rank:
        store.set(f"framecast/greeting/{rank}", own)
        _wait(store, f"framecast/answer/{own}", until)
        name: str = store.get(f"framecast/answer/{own}").decode()
        store.set(f"framecast/confirmed/{name}/{rank}", "")
        return name
    answered: dict[int, bytes] = {}
    while others:
        for other in sorted(others):
            if store.check([f"framecast/confirmed/{own}/{other}"]):
                others.discard(other)
                continue
            if not store.check([f"framecast/greeting/{other}"]):
                continue
            greeting = store.get(f"framecast/greeting/{other}")
            if answered.get(other) != greeting:
                answered[other] = greeting
                store.set(f"framecast/answer/{greeting.decode()}", own)
        if others:
            _pause(until)
    return own


def _wait(store: Any, key: str, until: float) -> None:
    while not store.check([key]):
        _pause(until)


def _pause(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError("the other processes of the job did not start; run the same command again")
    time.sleep(LOOK)


def _leave() -> None:
    """Close the process group at the end of the process, as lightning-fabric does for a group of its own."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
