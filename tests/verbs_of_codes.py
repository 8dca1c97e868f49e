"""Calls of the verbs of codes with arguments of every kind, and what must come of each: see `tests.verbs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recsys.models import Recommender
from tests.verbs import NOT, TABLE, Caller


class CodeCaller(Caller):
    """Draws calls of `decode`, `posterior`, `draw_posterior`, `draw_prior`, `log_prior` and `log_conditional`."""

    def __init__(self, fitted: Recommender, seed: int) -> None:
        super().__init__(fitted, seed)
        self.width = fitted.encode(TABLE[:1]).shape[1] if fitted.capabilities.encodes else 3

    def verbs(self) -> list[Callable[[], None]]:
        names = "decode", "posterior", "draw_posterior", "draw_prior", "log_prior", "log_conditional"
        return [getattr(self, name) for name in names]

    def some_codes(self, rows: int) -> tuple[Any, Any]:
        """Codes in any form, and as an array; or something that is none, and `NOT`."""
        plain = self.rng.standard_normal((rows, self.width)).astype(np.float32)
        if not self.odd(0.2):
            forms = plain, plain.astype(np.float64), np.asfortranarray(plain), plain[::-1][::-1], plain.tolist()
            return forms[self.rng.integers(5 if rows else 4)], plain  # a list of no rows has no width
        holed = plain.copy()
        if rows:
            holed[0, 0] = self.pick(np.nan, np.inf, -np.inf)
        wide = np.hstack([plain, plain[:, :1]])
        far = np.full((max(rows, 1), self.width), 1e300)
        options = [
            wide,
            plain[:, :-1],
            far,
            plain.astype(complex),
            plain.astype(str),
            plain > 0,
            plain[0] if rows else wide,
            None,
            "x",
            [["a"]],
            {},
            3.0,
            plain[None],
        ]
        if rows:
            options.append(holed)
        return options[self.rng.integers(len(options))], NOT

    def able(self, capability: str) -> Any:
        return None if getattr(self.model.capabilities, capability) else NOT

    def prior(self) -> Any:
        return None if not self.model.why_no_prior() else NOT

    def expect(self, what: str, right: bool) -> None:
        self.lists += 1
        if not right:
            self.faults.append(f"{type(self.model).__name__}.{what}")

    def decode(self) -> None:
        codes, plain = self.some_codes(int(self.rng.integers(0, 5)))
        found = self.attempt(self.model.decode, [plain, self.able("decodes")], codes=codes)
        if found is not None:
            one_by_one = [self.model.decode(row[None])[0] for row in plain]
            fits = found.shape == (len(plain), self.model.n_items_) and found.dtype == np.float32
            self.expect(f"decode({codes!r}) gave {found}", fits and all(map(np.array_equal, found, one_by_one)))

    def posterior(self) -> None:
        history, plain = self.history(int(self.rng.integers(0, 5)), counted=False)
        found = self.attempt(self.model.posterior, [history.means, self.able("generates")], user_items=history.value)
        if found is not None:
            mean, log_variance = found
            fits = np.allclose(mean, self.model.encode(plain), atol=1e-4) and np.isfinite(log_variance).all()
            self.expect(f"posterior({history.value!r}) gave {found}", fits and mean.shape == log_variance.shape)

    def draw_posterior(self) -> None:
        history, plain = self.history(int(self.rng.integers(0, 5)), counted=False)
        (seed, means), able = self.seed(), self.able("generates")
        found = self.attempt(
            self.model.draw_posterior, [history.means, means, able], user_items=history.value, rng=seed
        )
        if found is not None:
            codes, log_density = found
            again = self.model.draw_posterior(plain, rng=seed)
            fits = len(codes) == len(log_density) == plain.shape[0] and np.isfinite(log_density).all()
            same = seed is None or np.allclose(codes, again[0], atol=1e-3)
            self.expect(f"draw_posterior({history.value!r}, {seed!r}) gave {found}", fits and same)

    def draw_prior(self) -> None:
        n, (seed, means) = self.length(), self.seed()
        if n.means is NOT and n.value == 10**12 and isinstance(n.value, int):
            return  # a whole number: as many as memory holds
        found = self.attempt(self.model.draw_prior, [n.means, means, self.prior()], n=n.value, rng=seed)
        if found is not None:
            same = seed is None or np.array_equal(found, self.model.draw_prior(n.value, seed))
            self.expect(
                f"draw_prior({n.value!r}, {seed!r}) gave {found}", found.shape == (n.means, self.width) and same
            )

    def log_prior(self) -> None:
        codes, plain = self.some_codes(int(self.rng.integers(0, 5)))
        found = self.attempt(self.model.log_prior, [plain, self.prior()], codes=codes)
        if found is not None:
            one_by_one = [self.model.log_prior(row[None])[0] for row in plain]
            fits = found.shape == (len(plain),) and found.dtype == np.float64 and np.allclose(found, one_by_one)
            self.expect(f"log_prior({codes!r}) gave {found}", fits)

    def log_conditional(self) -> None:
        rows = int(self.rng.integers(0, 5))
        (codes, plain), (history, matrix) = self.some_codes(rows), self.history(rows)
        able = self.able("generates")
        arguments = {"user_items": history.value, "codes": codes}
        found = self.attempt(self.model.log_conditional, [history.means, plain, able], **arguments)
        if found is not None:
            one_by_one = [self.model.log_conditional(matrix[[row]], plain[[row]])[0] for row in range(rows)]
            fits = found.shape == (rows,) and found.dtype == np.float64 and np.allclose(found, one_by_one, rtol=1e-4)
            self.expect(f"log_conditional({arguments!r}) gave {found}, one by one {one_by_one}", fits)

    def seed(self) -> tuple[Any, Any]:
        """A seed, and what it means."""
        right = 3, np.int64(3), None, 0
        wrong = -1, "3", 1.5, True, [1], object()
        return (self.pick(*wrong), NOT) if self.odd(0.2) else (self.pick(*right), None)
