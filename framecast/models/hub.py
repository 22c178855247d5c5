"""Weights of every predictor by name, with the methods of huggingface_hub's `PyTorchModelHubMixin`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import framecast


class HubMethods:
    """`from_pretrained`, `save_pretrained` and `push_to_hub` of a model class, by the functions of the package."""

    @classmethod
    def from_pretrained(cls: Any, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Predictor of this class with weights of a folder, packaged weights or organisation/name on the Hub.

        Args:
            pretrained_model_name_or_path: folder or name.
            options: device, revision, token, cache_dir, local_files_only, force_download.

        Raises:
            UserError: it does not exist, is damaged, or is of another class.
        """
        return framecast.from_pretrained(pretrained_model_name_or_path, model=cls, **options)

    def save_pretrained(self: Any, save_directory: str | Path, **options: Any) -> Path:
        """Folder with config, weights and model card, which `from_pretrained` opens.

        Args:
            save_directory: new or empty folder.
            options: further arguments of `framecast.save_pretrained`.
        """
        return framecast.save_pretrained(self, save_directory, **options)

    def push_to_hub(self: Any, repo_id: str, **options: Any) -> str:
        """Address of the commit that uploads the weights and their card to organisation/name on the Hub.

        Args:
            repo_id: organisation/name; it is created if missing.
            options: commit_message and arguments of `framecast.push_to_hub`, such as private, token and revision.

        Raises:
            UserError: without a token, or if the Hub refuses or cannot be reached.
        """
        if "commit_message" in options:
            options["message"] = options.pop("commit_message")
        return framecast.push_to_hub(self, repo_id, dry_run=False, **options).address
