"""The links of the built site: whatever leads to another place of it must be there."""

from __future__ import annotations

import posixpath
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ATTRIBUTES = ("href", "src")


class _Page(HTMLParser):
    """What a page links, and the names that links can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {"", "#"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and names of a tag."""
        for name, value in attrs:
            if value and name in ATTRIBUTES:
                self.targets.append(value)
            elif value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)


def read(file: Path) -> _Page:
    """Return the links and names of a page."""
    page = _Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def broken(folder: Path) -> list[str]:
    """Return the links of a site that lead to no file or name of it, and outside ones that are no https addresses."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.html"))}
    pages = {
        place: read(file) for place, file in files.items() if not place.startswith("_static/")
    }  # a theme's templates
    found = []
    for place, page in pages.items():
        for target in page.targets:
            link = urlsplit(target)
            if link.scheme or link.netloc:
                if link.scheme not in ("https", "mailto", "data") or (
                    link.scheme == "https" and "." not in link.netloc
                ):
                    found.append(f"{place}: {target} is no https address")
                continue
            path = unquote(link.path)
            to = posixpath.normpath(posixpath.join(posixpath.dirname(place), path)) if path else place
            if not (folder / to).is_file():
                found.append(f"{place}: {target} leads to no file")
            elif to in pages and unquote(link.fragment) not in pages[to].anchors:
                found.append(f"{place}: {target} leads to no heading")
    return found
