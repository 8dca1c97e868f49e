"""The pages of the site: Markdown files of the repository, each at its place, with links that lead to that place."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Section:
    """A part of the site: an entry of the bar at the top, a page that lists its pages, and these."""

    folder: str
    title: str
    about: str
    pages: tuple[str, ...]
    """Files of the repository, in the order of reading."""


SECTIONS = (
    Section(
        "tutorials",
        "Tutorials",
        "Each runs from its first line to its last, on data of its own, in seconds, and prints what you see.",
        (
            "docs/tutorials/first-model.md",
            "docs/shop.md",
            "docs/tutorials/comparing.md",
            "docs/tutorials/nightly.md",
            "docs/new-items.md",
            "docs/new-users.md",
            "docs/rules.md",
            "docs/tutorials/scaling-out.md",
            "docs/tutorials/own-model.md",
        ),
    ),
    Section(
        "guides",
        "Guides",
        "What to choose and how it works, by subject.",
        (
            "docs/coming-from.md",
            "docs/questions.md",
            "docs/data.md",
            "docs/models.md",
            "docs/metrics.md",
            "docs/configuration.md",
            "docs/commands.md",
            "docs/analysis.md",
            "docs/serving.md",
            "docs/scale.md",
        ),
    ),
    Section(
        "project",
        "Project",
        "What was measured, how the package is built, and how to add to it.",
        (
            "README.md",
            "docs/results.md",
            "docs/benchmarks.md",
            "data/README.md",
            "CONTRIBUTING.md",
            "docs/design.md",
            "CHANGELOG.md",
        ),
    ),
)
FRONT = "docs/README.md"
NAMES = {"README.md": "overview", "data/README.md": "data-sets"}
"""Files whose name alone would not tell one page of the site from another."""
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^ *```")


def place(section: Section, file: str) -> str:
    """Return where a file of the repository is on the site."""
    return f"{section.folder}/{NAMES.get(file, Path(file).stem.lower())}.md"


def places() -> dict[str, str]:
    """Return the place of every page by its file."""
    return {FRONT: "index.md"} | {file: place(section, file) for section in SECTIONS for file in section.pages}


def moved(text: str, file: str, placed: dict[str, str]) -> str:
    """Return a page's text with its links to other files leading to their places on the site.

    Raises:
        ValueError: a link leads to something that has no place there.
    """

    def there(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), link[1]))
        if target not in placed:
            raise ValueError(f"{file} links {link[1]}, which is not on the site; name the file in code instead")
        return posixpath.relpath(placed[target], posixpath.dirname(placed[file])) + (link[2] or "")

    lines, fenced = [], False
    for line in text.split("\n"):
        fenced ^= bool(FENCE.match(line))
        lines.append(line if fenced else LINK.sub(there, line))
    return "\n".join(lines)


def images() -> dict[str, str]:
    """Return the place of every image that pages show."""
    section = next(section for section in SECTIONS if section.folder == "guides")
    return {f"docs/{path.name}": f"{section.folder}/{path.name}" for path in (ROOT / "docs").glob("*.svg")}


def tree(entries: list[str], *, hidden: bool = False) -> str:
    """Return a table of contents of pages, by their place without suffix."""
    options = ":hidden:\n" if hidden else ":maxdepth: 1\n"
    return "\n".join(["", "```{toctree}", options + "", *entries, "```", ""])


def written(folder: Path) -> None:
    """Write the pages and their tables of contents below a folder."""
    placed = places() | images()
    for file, target in placed.items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.endswith(".md"):
            text = moved((ROOT / file).read_text(encoding="utf-8"), file, placed)
            if file == FRONT:
                text += tree([f"{section.folder}/index" for section in SECTIONS[:2]] + ["reference/index"], hidden=True)
                text += tree([f"{section.folder}/index" for section in SECTIONS[2:]], hidden=True)
            path.write_text(text, encoding="utf-8")
        else:
            path.write_bytes((ROOT / file).read_bytes())
    for section in SECTIONS:
        entries = [Path(place(section, file)).stem for file in section.pages]
        index = f"# {section.title}\n\n{section.about}\n{tree(entries)}"
        (folder / section.folder / "index.md").write_text(index, encoding="utf-8")
