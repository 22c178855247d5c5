"""Files of onnxruntime-web, which run ONNX graphs in a browser: an npm package, kept in the cache, checked by SHA-256.

python -m framecast.web.runtime fetches them beforehand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from framecast.core.commit import replaced_folder
from framecast.core.errors import UserError
from framecast.data.cache import cache_folder
from framecast.data.download import file_hash

VERSION = "1.30.0"
#: Files of the package's folder `dist` with their SHA-256. Its licence is MIT.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}

_PACKAGE = f"onnxruntime-web@{VERSION}"
_SECONDS = 300  # longest download


def runtime_folder(given: Path | None = None) -> Path:
    """Folder with FILES: the given one, else that of the cache, which is filled by npm if they are missing.

    Args:
        given: the unpacked npm package, or its folder `dist`.

    Raises:
        UserError: the files are missing or differ from the expected ones, or cannot be fetched.
    """
    if given is not None:
        folder = given / "dist" if (given / "dist").is_dir() else given
        if not is_complete(folder):
            raise UserError(f"{given}: is not the npm package {_PACKAGE}; unpack that version")
        return folder
    folder = cached_folder()
    if not is_complete(folder):
        _fetch(folder)
    return folder


def cached_folder() -> Path:
    """Place of the files in the cache."""
    return cache_folder() / f"onnxruntime-web-{VERSION}"


def is_complete(folder: Path) -> bool:
    """Whether a folder has all files with the expected contents."""
    return all((folder / name).is_file() and file_hash(folder / name) == value for name, value in FILES.items())


def _fetch(folder: Path) -> None:
    """Fill a folder from the npm registry that npm is configured for."""
    remedy = f"unpack the npm package {_PACKAGE} and give its folder with --runtime"
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"the page needs {_PACKAGE}, and npm, which fetches it, is not installed; install npm, or {remedy}"
        )
    with tempfile.TemporaryDirectory(prefix="framecast-npm-") as place, replaced_folder(folder) as part:
        command = [npm, "pack", _PACKAGE, "--silent", "--pack-destination", place]
        try:
            subprocess.run(command, cwd=place, capture_output=True, check=True, timeout=_SECONDS)
            archive = next(Path(place).glob("*.tgz"))
        except (OSError, subprocess.SubprocessError, StopIteration) as error:
            raise UserError(f"npm could not fetch {_PACKAGE}; check the network, or {remedy}") from error
        with tarfile.open(archive) as packed:
            for name in FILES:
                source = packed.extractfile(f"package/dist/{name}")
                if source is not None:
                    (part / name).write_bytes(source.read())
        if not is_complete(part):
            raise UserError(f"the fetched {_PACKAGE} has other contents than expected; {remedy}")


if __name__ == "__main__":
    try:
        print(f"onnxruntime-web {VERSION}: {runtime_folder()}")
    except UserError as error:
        sys.exit(f"framecast: {error}")
