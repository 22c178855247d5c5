"""Hooks of the documentation site: links to files outside docs/ are shown as text, since a site does not hold them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", re.S | re.M)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with links to files of the repository outside docs/ as plain text.

    Raises:
        FileNotFoundError: for a link to a file that does not exist.
    """
    root, here = Path(config["docs_dir"]), Path(config["docs_dir"], page.file.src_uri).parent

    def replace(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path = (here / target.partition("#")[0]).resolve()
        if re.match(r"https?:|mailto:|#", target) or (path.is_relative_to(root) and path.is_file()):
            return found[0]
        if not path.exists():
            raise FileNotFoundError(f"{page.file.src_uri}: {target} does not exist")
        return text if text.startswith("`") else f"{text} (`{target.removeprefix('../').removeprefix('../')}`)"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(replace, part) for part in parts)
