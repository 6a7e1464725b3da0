"""Links from pages to files outside docs/: they work in the repository; the built site shows their text."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!docs/)[^)]+\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace links out of docs/ by their text (a hook of mkdocs)."""
    depth = page.file.src_uri.count("/")  # pages in a folder may go up as often as that without leaving docs/

    def replace(match: re.Match[str]) -> str:
        leaves = match[0].partition("](")[2].count("../") > depth
        return match[1] if leaves else match[0]

    return _OUTSIDE.sub(replace, markdown)
