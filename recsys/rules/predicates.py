"""Predicates on what is known of items, such as `category = "shoes" and not (price >= 50)`: parsed, never executed.

    predicate  = conjunction, { "or", conjunction }
    conjunction = condition, { "and", condition }
    condition  = "not", condition | "(", predicate, ")" | comparison
    comparison = column, ( "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" ), literal
               | column, [ "not" ], "in", "(", literal, { ",", literal }, ")"
               | column, "contains", literal
    column     = a name of letters, digits and "_" | any name between backquotes
    literal    = a number | text between " or ', which is doubled within | "true" | "false"

A comparison with a value that is missing is false, `!=` and `not in` too; `not` turns what it gives into its opposite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from recsys.errors import ConfigError
from recsys.rules.columns import Column, Literal

Mask = npt.NDArray[np.bool_]
Columns = Mapping[str, Column]

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])
    |(?P<text>"(?:[^"]|"")*"|'(?:[^']|'')*')|(?P<quoted>`[^`]+`)|(?P<word>[^\W\d]\w*)
    |(?P<sign><=|>=|!=|==|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_COMPARE: Final = ("=", "==", "!=", "<", "<=", ">", ">=")
_WORDS: Final = ("and", "or", "not", "in", "contains", "true", "false")
_DEEPEST: Final = 50
_LONGEST: Final = 100_000


@dataclass(frozen=True)
class Predicate:
    """A predicate that was parsed: which items it holds for, and which columns it reads."""

    text: str
    _holds: Callable[[Columns, int], Mask]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Predicate:
        """Parse a predicate.

        Raises:
            ConfigError: it is none; the message names the place and what was expected there.
        """
        if len(text) > _LONGEST:
            raise ConfigError(f"a predicate has at most {_LONGEST:,} characters, got {len(text):,}; list ids in a file")
        parser = _Parser(text)
        holds = parser.whole()
        return cls(text, holds, tuple(dict.fromkeys(parser.columns)))

    def holds(self, columns: Columns, n_items: int) -> Mask:
        """Return for which items it holds, (n_items,).

        Raises:
            DataError: a column holds values of a type that cannot be compared so.
        """
        return self._holds(columns, n_items)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int


class _Parser:
    """Recursive descent over the tokens of one predicate; each rule returns the function that computes its mask."""

    def __init__(self, text: str) -> None:
        self._text, self.columns = text, list[str]()
        self._tokens = [*self._cut(), _Token("end", "", len(text))]
        self._place, self._depth = 0, 0

    def whole(self) -> Callable[[Columns, int], Mask]:
        found = self._predicate()
        if self._next.kind != "end":
            raise self._expected("'and', 'or' or the end")
        return found

    def _cut(self) -> Iterator[_Token]:
        place, end = 0, len(self._text.rstrip())
        while place < end:
            match = _TOKEN.match(self._text, place)
            if match is None or match.lastgroup is None:
                start = place + len(self._text[place:]) - len(self._text[place:].lstrip())
                raise self._error(start, "a name, a number, text in quotes or a sign of comparison")
            yield _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            place = match.end()

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *texts: str) -> str:
        """Return the next token and move on if it is one of these words or signs; else nothing."""
        token = self._next
        if token.kind in ("word", "sign") and token.text.lower() in texts:
            self._place += 1
            return token.text.lower()
        return ""

    def _predicate(self) -> Callable[[Columns, int], Mask]:
        parts = [self._conjunction()]
        while self._take("or"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda columns, n: np.any([part(columns, n) for part in parts], axis=0)

    def _conjunction(self) -> Callable[[Columns, int], Mask]:
        parts = [self._condition()]
        while self._take("and"):
            parts.append(self._condition())
        return parts[0] if len(parts) == 1 else lambda columns, n: np.all([part(columns, n) for part in parts], axis=0)

    def _condition(self) -> Callable[[Columns, int], Mask]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ConfigError(f"a predicate goes at most {_DEEPEST} levels deep: {self._shown}")
        found = self._deeper()
        self._depth -= 1
        return found

    def _deeper(self) -> Callable[[Columns, int], Mask]:
        if self._take("not"):
            inner = self._condition()
            return lambda columns, n: ~inner(columns, n)
        if self._take("("):
            inner = self._predicate()
            if not self._take(")"):
                raise self._expected("')'")
            return inner
        return self._comparison()

    def _comparison(self) -> Callable[[Columns, int], Mask]:
        token = self._next
        if token.kind not in ("word", "quoted") or token.text.lower() in _WORDS:
            raise self._expected("the name of a column (between backquotes where it is no plain word)")
        self._place += 1
        name = token.text.strip("`")
        self.columns.append(name)
        if sign := self._take(*_COMPARE):
            literal, operator = self._literal(), "=" if sign == "==" else sign
            return lambda columns, n: columns[name].compared(operator, literal, n)
        if self._take("contains"):
            literal = self._literal()
            return lambda columns, n: columns[name].contains(literal, n)
        negated = bool(self._take("not"))
        if not self._take("in"):
            raise self._expected("'in'" if negated else f"{', '.join(_COMPARE)}, 'in', 'not in' or 'contains'")
        literals = self._literals()
        return lambda columns, n: columns[name].among(literals, negated, n)

    def _literals(self) -> list[Literal]:
        if not self._take("("):
            raise self._expected("'(' before the values")
        found = [self._literal()]
        while self._take(","):
            found.append(self._literal())
        if not self._take(")"):
            raise self._expected("',' or ')'")
        return found

    def _literal(self) -> Literal:
        token = self._next
        self._place += 1
        if token.kind == "number":
            return int(token.text) if re.fullmatch(r"[+-]?[0-9]{1,18}", token.text) else self._real(token)
        if token.kind == "text":
            mark = token.text[0]
            return token.text[1:-1].replace(2 * mark, mark)
        if token.kind == "word" and token.text.lower() in ("true", "false"):
            return token.text.lower() == "true"
        self._place -= 1
        raise self._expected("a number, text in quotes, true or false")

    def _real(self, token: _Token) -> float:
        value = float(token.text)
        if not np.isfinite(value):
            raise self._error(token.start, "a number that 64 bits hold")
        return value

    @property
    def _shown(self) -> str:
        return repr(self._text if len(self._text) <= 200 else f"{self._text[:197]}...")

    def _expected(self, what: str) -> ConfigError:
        return self._error(self._next.start, what)

    def _error(self, start: int, what: str) -> ConfigError:
        rest = self._text[start : start + 20]
        found = repr(rest + ("..." if len(self._text) > start + 20 else "")) if rest else "its end"
        return ConfigError(f"the predicate {self._shown} cannot be read: expected {what} at {found}")
