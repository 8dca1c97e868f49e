"""The code blocks of a page: what each is, and how it is run.

A block of Python runs in the namespace of its page, a block of `sh` line by line in the page's folder. A block of text
that follows one of them directly is what it prints. A block of TOML is checked as a part of a configuration. A comment
before a block tells more:

    <!-- file: shop.toml -->        the block is written to that file
    <!-- excerpt: the reason -->    of the block only the imports are run
    <!-- not run: the reason -->    the block is left alone
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recsys import cli
from recsys.config import check_config

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>file|excerpt|not run): (?P<told>[^\n]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    flags=re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    language: str
    text: str
    line: int
    mark: str
    """`file`, `excerpt`, `not run` or nothing."""
    told: str
    """What the mark says: the name of the file, or the reason."""
    follows: bool
    """Whether only empty lines stand between it and the block before."""


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page's text."""
    found, end = [], 0
    for match in BLOCK.finditer(page):
        text = "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True))
        between = page[end : match.start()].strip()
        line = page.count("\n", 0, match.start("language")) + 1
        mark, told = match["mark"] or "", match["told"] or ""
        found.append(Block(match["language"], text, line, mark, told, follows=bool(found) and not between))
        end = match.end()
    return found


def alike(shown: str, printed: str) -> bool:
    """Tell whether a page shows what was printed: the same words, and numbers that differ by 5 % or 0.005 at most.

    A line that is only an ellipsis stands for any lines.
    """
    want, have = shown.strip().splitlines(), printed.strip().splitlines()
    if not want or want[0] == "…":
        return (
            any(alike("\n".join(want[1:]), "\n".join(have[at:])) for at in range(len(have) + 1)) if want else not have
        )
    return bool(have) and same(want[0], have[0]) and alike("\n".join(want[1:]), "\n".join(have[1:]))


def same(shown: str, printed: str) -> bool:
    """Tell whether two lines have the same words and numbers."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        return False
    numbers = [[float(number.replace(",", "")) for number in NUMBER.findall(line)] for line in (shown, printed)]
    return numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.005)


def commands(text: str) -> list[str]:
    """Return the commands of a block, each on one line, without comments."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def command(line: str, capture: Any) -> str:
    """Run a command, `recsys` in this process; return what it prints.

    Raises:
        AssertionError: it fails.
    """
    words = shlex.split(line, comments=True)
    if words[0] == "recsys" and not set("|>&;") & set(line):
        capture.readouterr()
        status = cli.main(words[1:])
        out, err = capture.readouterr()
        assert status == 0, f"{line}: status {status}\n{out}{err}"
        return out
    done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{line}: status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def code(block: Block) -> ast.Module:
    """Return what is run of a block of Python, with the lines of the page."""
    parsed = ast.parse("\n" * block.line + block.text)
    if block.mark == "excerpt":
        parsed.body = [line for line in parsed.body if isinstance(line, ast.Import | ast.ImportFrom)]
    return parsed


def run(name: str, page: str, names: dict[str, Any], capture: Any) -> int:
    """Run the blocks of a page in the working folder, in order; return how many were run.

    Args:
        name: of the page, for messages.
        page: its text.
        names: what its Python blocks know.
        capture: pytest's `capsys`.

    Raises:
        AssertionError: a block fails, prints something else than the page shows, or is neither run nor marked.
    """
    count, printed = 0, None
    for block in blocks(page):
        where = f"{name}, line {block.line}"
        if block.mark == "file":
            file = Path(block.told)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.mark == "not run":
            assert len(block.told) > 10, f"{where}: no reason"
            printed = None
            continue
        elif block.language == "python":
            assert block.mark != "excerpt" or len(block.told) > 10, f"{where}: no reason"
            capture.readouterr()
            try:
                exec(compile(code(block), name, "exec"), names)
            except Exception:
                raise AssertionError(f"{where}:\n{traceback.format_exc()}") from None
            printed = capture.readouterr().out
        elif block.language == "sh":
            printed = "".join(command(line, capture) for line in commands(block.text))
        elif block.language == "toml":
            check_config({"model": {"name": "EASE"}} | tomllib.loads(block.text))
        elif block.language == "text" and block.follows and printed is not None:
            assert alike(block.text, printed), f"{where} shows\n{block.text}\nand not\n{printed}"
        else:
            raise AssertionError(
                f"{where}: a block of {block.language or 'no language'} that is neither run nor marked"
            )
        count += 1
    return count
