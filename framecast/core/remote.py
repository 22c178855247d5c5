"""Files at an address, such as s3://bucket/store, read and written through fsspec (extra `remote`)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framecast.core.errors import UserError
from framecast.core.io import MAX_TEXT, parse_json

_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/{1,2}")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
#: Names of errors of storage clients that mean missing or refused credentials, and words of their messages.
_REFUSED = ("Credential", "Forbidden", "Unauthorized", "AccessDenied", "GatedRepo", "TokenNotFound", "RefreshError")
_REFUSED_WORDS = re.compile(
    r"credential|access denied|accessdenied|forbidden|unauthori[sz]ed|\b40[13]\b", re.IGNORECASE
)


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address such as https://…, also after its slashes were collapsed."""
    return _ADDRESS.match(os.fspath(path)) is not None


def parse_bytes(text: str, what: str = "size") -> int:
    """Bytes in "20GB", "512MiB", "1.5 TB" or a plain number.

    Args:
        text: The number with its unit.
        what: Flag or variable that it was given to, for the message.

    Raises:
        UserError: Another text, or less than one byte.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if not match or match[2] not in _UNITS or float(match[1]) * _UNITS[match[2]] < 1:
        raise UserError(f"{what} {text!r}: expected bytes such as 512MiB, 20GB or 1TB")
    return int(float(match[1]) * _UNITS[match[2]])


class RemoteFolder:
    """A folder at an address.

    Args:
        address: Such as s3://bucket/store, gs://…, hf://datasets/org/name, https://… or memory://….

    Raises:
        UserError: The package for this kind of address is missing, or none reads it.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        import fsspec

        text = os.fspath(address)
        self.address = _ADDRESS.sub(r"\1://", text, count=1).rstrip("/")
        protocol = self.address.partition(":")[0]
        try:
            self.files: Any
            self.files, self.root = fsspec.core.url_to_fs(self.address)
        except ImportError as error:
            raise UserError(
                f"{self.address}: {protocol}:// needs a package that is missing ({error}); "
                'install framecast[remote]: pip install "framecast[remote]"'
            ) from error
        except ValueError as error:
            raise UserError(
                f"{self.address}: {protocol}:// is not supported ({error}); use s3://, gs://, hf:// or https://"
            ) from error
        except Exception as error:  # clients of storage services raise types of their own
            raise self.failure("", error) from error

    def __str__(self) -> str:
        return self.address

    def place(self, name: str) -> str:
        """Address of a file, for messages."""
        return f"{self.address}/{name}" if name else self.address

    def failure(self, name: str, error: Exception) -> UserError:
        """The sentence for an error of a storage client."""
        if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            # the client of https:// reports every failure as a missing file, with the reason as its cause
            error = error.__cause__
        where, detail = self.place(name), (str(error).splitlines() or [""])[0][:200]
        kind = type(error).__name__
        if isinstance(error, UserError):
            return error
        if isinstance(error, ImportError):
            return UserError(f"{where}: a package is missing ({detail}); install framecast[remote]")
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            return UserError(f"{where} does not exist; check the address")
        if (
            isinstance(error, PermissionError)
            or any(word in kind for word in _REFUSED)
            or _REFUSED_WORDS.search(f"{detail} {getattr(error, 'status', '')}")
        ):
            return UserError(
                f"{where}: access was refused or credentials are missing ({kind}: {detail}); log in or set the "
                "credentials of this storage"
            )
        return UserError(f"{where} cannot be reached ({kind}: {detail}); check the connection, then repeat the command")

    @contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # clients of storage services raise types of their own
            raise self.failure(name, error) from error

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        with self._reported(name):
            return bool(self.files.exists(self._path(name)))

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Bytes start…stop - 1 of a file, or all of it.

        Raises:
            UserError: It is missing, may not be read, cannot be reached or is shorter.
        """
        with self._reported(name):
            data: bytes = self.files.cat_file(self._path(name), start=start, end=stop)
        if start is not None and stop is not None and len(data) != stop - start:
            raise UserError(
                f"{self.place(name)}: got {len(data)} of {stop - start} bytes from {start}; it is cut short, or this "
                "server does not serve parts of files, so copy the store again or download it"
            )
        return data

    def json(self, name: str) -> tuple[dict[str, Any], bytes]:
        """The mapping in a JSON file, and its text.

        Raises:
            UserError: It is missing, too large or no mapping.
        """
        with self._reported(name):
            size = self.files.size(self._path(name))
        if size is not None and size > MAX_TEXT:
            raise UserError(f"{self.place(name)}: has {size >> 20} MB, more than the {MAX_TEXT >> 20} read")
        text = self.read(name)
        data = parse_json(text, self.place(name))
        if not isinstance(data, dict):
            raise UserError(f"{self.place(name)}: expected a mapping of names to values")
        return data, text

    def names(self) -> list[str]:
        """Names of the files below the folder; empty if there is none."""
        with self._reported(""):
            try:
                found = self.files.find(self.root)
            except FileNotFoundError:
                return []
        cut = len(self.root.rstrip("/")) + 1
        return sorted(path[cut:] for path in found if len(path) > cut)

    def upload(self, path: Path, name: str) -> None:
        """Write a local file to the folder."""
        self._written(name, lambda place: self.files.put_file(str(path), place))

    def write(self, name: str, data: bytes) -> None:
        """Write bytes to a file."""
        self._written(name, lambda place: self.files.pipe_file(place, data))

    def _written(self, name: str, write: Callable[[str], Any]) -> None:
        """Write a file; its folder is made where the storage has folders and this one is missing."""
        place = self._path(name)
        with self._reported(name):
            if "/" in name:
                self.files.makedirs(place.rpartition("/")[0], exist_ok=True)
            try:
                write(place)
            except FileNotFoundError:
                self.files.makedirs(place.rpartition("/")[0], exist_ok=True)
                write(place)

    def download(self, name: str, path: Path) -> None:
        """Read a file into a local one."""
        with self._reported(name):
            self.files.get_file(self._path(name), str(path))

    def remove(self, name: str) -> None:
        """Delete a file."""
        with self._reported(name):
            self.files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"


def hub_errors() -> tuple[type[Exception], ...]:
    """Exceptions of a repository of the Hugging Face Hub that refuses, is missing or cannot be reached.

    Besides those of huggingface_hub itself they are those of its HTTP library, which differs between its releases and
    whose errors of a missing network are no OSError in all of them.
    """
    from huggingface_hub import get_session
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    modules = (sys.modules.get(kind.__module__.partition(".")[0]) for kind in type(get_session()).__mro__)
    library = {found for module in modules if (found := getattr(module, "HTTPError", None)) is not None}
    return (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError, *library)
