"""Losses of 50 steps of every family at one seed, against those of an earlier commit: a refactor must not move them.

    python -m reproduction.fixed_seed                     train, print, compare with docs/results/fixed-seed.json
    python -m reproduction.fixed_seed --profiles tiny     the tiny profiles only, in two minutes of one core
    python -m reproduction.fixed_seed --write             store what was found, with commit, versions and hardware
    python -m reproduction.fixed_seed --models direct --write    add a new model to what is stored

Data, seed and precision are fixed: twenty videos of `bouncing`, seed 5, fp32, one torch thread. Runs that are already
in the work folder are read, not trained again. The exit status is 1 where a loss or a weight differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
STORED = ROOT / "docs" / "results" / "fixed-seed.json"
WORK = ROOT / "runs" / "fixed-seed"

MODELS = (
    *("multiscale-gan", "visual-dynamics", "dreams", "hierarchical", "c-ae", "c-vae", "fc-ae", "fc-vae", "c-ga-ae"),
    *("fc-ga-ae", "c-gia-ae", "fc-gia-ae", "c-ia-ae", "fc-ia-ae", "c-lstm-ae", "c-lstm-vae", "c-td-ae", "c-td-vae"),
    "direct",
    "categorical",
)
PROFILES = ("tiny", "small")
STEPS, SEED, DATA_SEED = 50, 5, 3

#: Phases that were renamed after the first file was stored; runs of older commits are read under the present names.
RENAMED = {"fool": "generator", "judge": "discriminator"}


def train(model: str, profile: str, data: Path, out: Path) -> None:
    """Train one profile for 50 steps into `out`; a finished run is kept.

    Args:
        model: name of the model.
        profile: "tiny" or "small".
        data: packed store of bouncing shapes.
        out: run folder.
    """
    if (out / "weights" / f"step-{STEPS}").is_dir():
        return
    command = [*(sys.executable, "-m", "framecast", "train", model, "--profile", profile, "--data", data, "--out", out)]
    command += ["--steps", STEPS, "--seed", SEED, "--precision", "fp32", "--device", "cpu", "--overwrite"]
    command += ["--train.stats-every", 1, "--train.validate-every", 25, "--train.save-every", STEPS]
    command += ["--train.preview-every", 1000]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env=settings, capture_output=True)


def summary(run: Path) -> dict[str, Any]:
    """The losses and weights of one run.

    Args:
        run: run folder of 50 steps.

    Returns:
        "last": phase -> total loss at the last step; "losses": SHA-256 of every logged value of all 50 steps and
        validations; "weights": SHA-256 of the final EMA weights, in the order of their names.
    """
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{_present(k): v for k, v in json.loads(line).items() if k not in ("seconds", "stage")} for line in lines]
    last = [row for row in rows if any(k.endswith("/total") for k in row)][-1]
    text = json.dumps(rows, sort_keys=True).encode()
    tensors = load_file(run / "weights" / f"step-{STEPS}" / "model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes() if tensors[name].ndim else b"")
    return {
        "last": {k.removesuffix("/total"): v for k, v in sorted(last.items()) if k.endswith("/total")},
        "losses": hashlib.sha256(text).hexdigest()[:16],
        "weights": digest.hexdigest()[:16],
    }


def _present(key: str) -> str:
    phase, slash, part = key.partition("/")
    for old, new in RENAMED.items():
        if part.endswith(f"_{old}"):
            part = part.removesuffix(old) + new
    return f"{RENAMED.get(phase, phase)}{slash}{part}"


def differences(found: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Names of runs whose losses or weights differ from the stored ones.

    Args:
        found: run -> what `summary` gave.
        stored: the same, of an earlier commit.
    """
    return [name for name, run in found.items() if run != stored.get(name)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare, print. Returns 0 where everything equals the stored figures, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=PROFILES, help="profiles to train")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="models to train")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of data and runs")
    parser.add_argument("--write", action="store_true", help="store the figures")
    parser.add_argument("--commit", help="commit the runs in the work folder were made at, where it is not this one")
    given = parser.parse_args(arguments)
    data = given.work / "data"
    if not (data / "index.json").is_file():
        make = [sys.executable, "-m", "framecast", "data", "make", "bouncing", "--videos", "20", "--frames", "64"]
        make += ["--seed", str(DATA_SEED), "--out", str(data)]
        subprocess.run(make, check=True, cwd=ROOT, capture_output=True)
    found: dict[str, Any] = {}
    for profile in given.profiles:
        for model in given.models:
            out = given.work / f"{model}-{profile}"
            train(model, profile, data, out)
            found[f"{model}:{profile}"] = run = summary(out)
            print(f"{model}:{profile}", *(f"{k} {v:.7g}" for k, v in run["last"].items()), flush=True)
    if given.write:
        commit = given.commit or _git("rev-parse", "--short", "HEAD")
        protocol = {"data": f"bouncing, 20 videos of 64 frames, seed {DATA_SEED}", "steps": STEPS, "seed": SEED}
        machine = {"versions": {"torch": torch.__version__, "python": platform.python_version()}}
        machine["hardware"] = {"machine": platform.machine(), "threads": 1}
        record = {"format": 1, "command": "python -m reproduction.fixed_seed --write", "commit": commit}
        record |= {"protocol": {**protocol, "precision": "fp32"}, **machine, "runs": found}
        if given.models != MODELS:  # the others stay as they were stored, at their own commit
            before = json.loads(STORED.read_text(encoding="utf-8"))
            added = {**before.get("added", {}), **dict.fromkeys(given.models, commit)}
            record = {**before, "added": added, "runs": {**before["runs"], **found}}
        STORED.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"stored: {STORED.relative_to(ROOT)}")
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    wrong = differences(found, stored["runs"])
    print(f"{len(found) - len(wrong)} of {len(found)} runs equal those of commit {stored['commit']}")
    for name in wrong:
        print(f"differs: {name}", file=sys.stderr)
    return 1 if wrong else 0


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
