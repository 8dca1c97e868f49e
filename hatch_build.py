"""The package's description: the README without links into the repository, which lead nowhere from a package index."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def description(readme: str) -> str:
    """Return a page in which a link to a file of the repository is its text, and the file's name if that differs."""

    def plain(match: re.Match[str]) -> str:
        text, target = match[1], match[2].partition("#")[0]
        return text if text.strip("`") == target or text == Path(target).name else f"{text} (`{target}`)"

    page = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|mailto:)([^)\s]+)\)", plain, readme)
    page = re.sub(r"!\[([^\]]*)\]\((?!https?:)[^)\s]+\)", r"\1", page)
    return re.sub(r"<!-- .*? -->\n", "", page)


class ReadmeHook(MetadataHookInterface):
    """Gives the metadata of the wheel its description."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": description(text)}
