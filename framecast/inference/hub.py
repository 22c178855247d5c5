"""Upload of runs and stores to the Hugging Face Hub, and loading of a model class from it.

A dry run is the default: it lists what would be uploaded and needs neither a token nor a network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from framecast.core.commit import own_files
from framecast.core.errors import UserError
from framecast.core.remote import hub_errors
from framecast.data.inspect import inspect
from framecast.data.store import Store
from framecast.inference.export import card_header, export, save_pretrained
from framecast.models import MODELS
from framecast.models.base import Predictor
from framecast.training.run_folder import Run, download_run, open_run

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Upload:
    """Files of an upload.

    Attributes:
        repository: organisation/name.
        kind: "model" or "dataset".
        files: size in bytes by the name in the repository.
        address: page of the commit; empty for a dry run.
    """

    repository: str
    kind: Kind
    files: Mapping[str, int]
    address: str = ""


def push_to_hub(
    model: Predictor | Run | str | Path,
    repository: str,
    *,
    dry_run: bool = True,
    license: str | None = None,
    private: bool = False,
    half: bool = False,
    inference_only: bool = False,
    revision: str | None = None,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    model_class: type[Predictor] | None = None,
) -> Upload:
    """Upload of exported weights with their model card.

    Args:
        model: run (folder, packaged weights or hf:// name), whose EMA weights are uploaded, or a Predictor.
        repository: organisation/name; it is created if missing.
        dry_run: only list the files.
        license: identifier of the Hub such as apache-2.0; None is that of packaged weights, else "other".
        private: create a private repository.
        half: store floats as float16.
        inference_only: omit parameters that only training needs.
        revision: branch, which must exist; None is the main one.
        message: of the commit.
        token: of the Hub; None is that of `hf auth login` or $HF_TOKEN.
        endpoint: address of another Hub; None is $HF_ENDPOINT or the public one.
        model_class: class of the model, for a model outside the package.

    Raises:
        UserError: without a token, or if the Hub refuses or cannot be reached.
    """
    _check_name(repository)
    with tempfile.TemporaryDirectory(prefix="framecast-push-") as place:
        folder = Path(place) / "weights"
        if isinstance(model, Predictor):
            save_pretrained(model, folder, half=half, inference_only=inference_only, license=license)
        else:
            run = model if isinstance(model, Run) else open_run(model, model_class)
            export(run, folder, half, inference_only, license=license, repository=repository)
        files = {path.name: path for path in own_files(folder)}
        return _upload(
            repository, "model", files, dry_run, private, revision, message or "Weights", token=token, endpoint=endpoint
        )


def push_store(
    folder: str | Path,
    repository: str,
    *,
    dry_run: bool = True,
    license: str | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Upload:
    """Upload of a packed store as a data set, with a card.

    Args:
        folder: the store.
        repository: organisation/name; it is created if missing.
        dry_run: only list the files.
        license: identifier of the Hub such as cc-by-4.0; None is "other".
        private: create a private repository.
        revision: branch, which must exist; None is the main one.
        message: of the commit.
        token: of the Hub; None is that of `hf auth login` or $HF_TOKEN.
        endpoint: address of another Hub; None is $HF_ENDPOINT or the public one.

    Raises:
        UserError: for a folder that is no store, without a token, or if the Hub refuses or cannot be reached.
    """
    _check_name(repository)
    store = Store(Path(folder))
    files = {str(p.relative_to(folder)): p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name[0] != "."}
    with tempfile.TemporaryDirectory(prefix="framecast-push-") as place:
        card = Path(place) / "README.md"
        card.write_text(_store_card(store, repository, license), encoding="utf-8")
        return _upload(
            repository,
            "dataset",
            {**files, "README.md": card},
            dry_run,
            private,
            revision,
            message or "Packed store",
            token=token,
            endpoint=endpoint,
        )


def load_class(
    model_class: type[Predictor],
    name: str | Path,
    *,
    device: str = "cpu",
    revision: str | None = None,
    **download: Any,
) -> Predictor:
    """Predictor of a class from a folder, packaged weights or a repository of the Hub, in eval mode.

    Args:
        model_class: expected class; one outside the package is also the class that is built.
        name: folder, name of packaged weights, or organisation/name, with or without hf://.
        device: torch device.
        revision: branch, tag or commit of the repository.
        download: arguments of `huggingface_hub.snapshot_download`, such as token, cache_dir and local_files_only.

    Raises:
        UserError: it does not exist, is damaged, or is of another class.
    """
    plain = str(name).removeprefix("hf://")
    known = (model_class.__module__, model_class.__name__) in MODELS.values() or model_class is Predictor
    if not Path(name).exists() and plain.count("/") == 1:
        run = open_run(download_run(plain, revision, **download), None if known else model_class)
    else:
        run = open_run(name, None if known else model_class)
    if not issubclass(run.model_class, model_class):
        raise UserError(
            f"{name}: holds a {run.model_class.__name__}, expected a {model_class.__name__}; use framecast.load"
        )
    return run.model(device)


def _check_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        repository = ""
    if repository.count("/") != 1:
        raise UserError("the repository must be organisation/name, of letters, digits, -, _ and .")


def _upload(
    repository: str,
    kind: Kind,
    files: Mapping[str, Path],
    dry_run: bool,
    private: bool,
    revision: str | None,
    message: str,
    token: str | None,
    endpoint: str | None,
) -> Upload:
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    plan = Upload(repository, kind, {name: path.stat().st_size for name, path in files.items()})
    if dry_run:
        return plan
    if token is None and get_token() is None:
        raise UserError("no token of the Hugging Face Hub: run hf auth login, or set HF_TOKEN")
    api = HfApi(endpoint=endpoint, token=token)
    operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    try:
        api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        made = api.create_commit(repository, operations, commit_message=message, repo_type=kind, revision=revision)
    except hub_errors() as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{repository}: could not be uploaded ({type(error).__name__}: {reason}); check token, name and network"
        ) from error
    return Upload(repository, kind, plan.files, str(made.commit_url))


def _store_card(store: Store, repository: str, license: str | None) -> str:
    """Card of a data set: header for the Hub, numbers of the store, and how to use it."""
    about = inspect(store, None)
    spec, name = store.spec, repository.rpartition("/")[2]
    made = store.meta().get("generator")
    return "\n".join(
        [
            *card_header({"license": license or "other", "tags": ["framecast", "video"], "pretty_name": name}),
            f"# {name}",
            "",
            f"{about['videos']} videos, {about['frames']} frames of {spec.height}x{spec.width}, {spec.channels} "
            f"channels, {spec.fps:g} frames per second, as a packed store of framecast."
            + (f" Made by the source `{made}`." if made else ""),
            "",
            "```",
            f"hf download {repository} --repo-type dataset --local-dir {name}",
            f"framecast data inspect {name}",
            f"framecast train --data {name}",
            "```",
            "",
        ]
    )
