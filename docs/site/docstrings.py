"""Docstrings as this package writes them, in the markup that Sphinx reads."""

from __future__ import annotations

import re

CODE = re.compile(r"(`[^`]+`)")
SPECIAL = re.compile(r"([*|_\\])")
LABEL = re.compile(r"^(Formula|Denominator|Range|Cut-off|Ties|No relevant items|Paper): ")
SECTION = re.compile(r"^(Args|Raises|Returns|Yields|Hyperparameters|Attributes):$")
ARGUMENT = re.compile(r"^(    \w+: )(.*)$")


def marked(line: str) -> str:
    """Return a line of prose: code between two backticks, which end words, and no sign that would be markup."""
    parts = [
        SPECIAL.sub(r"\\\1", part) if at % 2 == 0 else f"``{part[1:-1].strip()}``"
        for at, part in enumerate(CODE.split(line))
    ]
    for at in range(1, len(parts), 2):
        if parts[at - 1].strip() and not parts[at - 1].endswith(" "):
            parts[at - 1] += "\\ "
        if parts[at + 1] and not parts[at + 1].startswith(" "):
            parts[at + 1] = "\\ " + parts[at + 1]
    return "".join(parts)


def indent(line: str) -> int:
    """Return how far a line is indented."""
    return len(line) - len(line.lstrip())


def converted(lines: list[str]) -> list[str]:
    """Return a docstring's lines in reStructuredText.

    Prose keeps its signs. What is indented after an empty line, equations and examples, becomes a literal block, and
    the labeled statements of a metric become a list.
    """
    text = "\n".join(lines)
    text = CODE.sub(lambda code: re.sub(r"\s*\n\s*", " ", code[0]), text)  # or it would be cut in two
    made: list[str] = []
    block: int | None = None
    section = False
    for line in text.split("\n"):
        blank, depth = not line.strip(), indent(line)
        if block is not None and not blank and depth < block:
            block = None
        if block is None and not blank:
            section = (section and depth > 0) or bool(SECTION.match(line))
            starts = len(made) > 1 and not made[-1].strip() and depth >= 4 and not section
            if starts:
                block = depth
                made += [".. code-block:: text" if not looks_like_code(line) else ".. code-block:: python", ""]
        if block is not None or SECTION.match(line):
            made.append(line)
        elif section and (argument := ARGUMENT.match(line)):
            made.append(argument[1] + marked(argument[2]))
        elif LABEL.match(line):
            made.append(LABEL.sub(r"- \1: ", marked(line)))
        else:
            made.append(marked(line))
    return made


def looks_like_code(line: str) -> bool:
    """Tell whether an indented line begins an example and not an equation."""
    return bool(re.match(r"\s*(import |from |>>>|@|\w+ = recsys)", line))
