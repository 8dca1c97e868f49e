"""What a bundle holds of a model, checked when it is read: names, types, shapes, ranges, and no memory before that.

Whoever changes a bundle can compute its checksums anew, so that a model takes nothing from it that it has not checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from annotated_types import Lt
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recsys.errors import BundleError, DataError
from recsys.ids import IdMap
from recsys.params import Count, check_value
from recsys.training import Record

Made = TypeVar("Made")

Size = Annotated[Count, Lt(2**63)]
"""A number of users or items."""
INDEX: Final = (np.int32, np.int64)
"""Types that the indices of a sparse matrix may have."""


class Stored(Mapping[str, npt.NDArray[Any]]):
    """The arrays of a bundle by name; those that `array` and `csr` return have the type and shape that was asked for.

    Read as a mapping, as by a model of your own, it gives them unchecked.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._arrays = arrays
        self.unread = set(arrays)
        """Names that nobody has asked for."""

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        value = self._arrays[name]
        self.unread.discard(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def array(
        self,
        name: str,
        shape: tuple[int | None, ...],
        *dtypes: npt.DTypeLike,
        within: tuple[float, float] = (-np.inf, np.inf),
        finite: bool = True,
    ) -> npt.NDArray[Any]:
        """Return an array.

        Args:
            shape: as it must be; None where any length will do.
            dtypes: one of which it must have; float32 if there are none.
            within: smallest and largest value.
            finite: refuse NaN and infinite values.

        Raises:
            BundleError: it is not there, or is not like that.
        """
        if name not in self:
            raise BundleError(f"there is no array {name}")
        array, allowed = self[name], [np.dtype(dtype) for dtype in dtypes or (np.float32,)]
        sizes = len(array.shape) == len(shape) and all(b in (a, None) for a, b in zip(array.shape, shape, strict=True))
        if array.dtype not in allowed or not sizes:
            wanted = f"{' or '.join(map(str, allowed))} ({', '.join('any' if n is None else str(n) for n in shape)})"
            raise BundleError(f"{name} must be {wanted}, got {array.dtype} {array.shape}")
        if finite and not np.isfinite(array).all():
            raise BundleError(f"{name} holds values that are NaN or infinite")
        low, high = within
        if array.size and np.isfinite(within).any() and not (low <= array.min() and array.max() <= high):
            raise BundleError(f"{name} must lie in {low:g}..{high:g}, got {array.min()}..{array.max()}")
        return array

    def csr(self, shape: tuple[int, int], prefix: str = "") -> sp.csr_matrix:
        """Return a float32 CSR matrix with sorted, distinct indices, from arrays `data`, `indices` and `indptr`."""
        n_rows, n_columns = shape
        data = self.array(f"{prefix}data", (None,))
        indices = self.array(f"{prefix}indices", data.shape, *INDEX, within=(0, n_columns - 1))
        indptr = self.array(f"{prefix}indptr", (n_rows + 1,), *INDEX)
        matrix = None
        if indptr[0] == 0 and indptr[-1] == len(data) and (np.diff(indptr) >= 0).all():
            matrix = sp.csr_matrix((data, indices, indptr), shape=shape)
        if matrix is None or not matrix.has_canonical_format:
            raise BundleError(
                f"{prefix}indptr and {prefix}indices are no CSR matrix: rows must follow one another, with their "
                "indices sorted and distinct"
            )
        return matrix

    def network(self, make: Callable[[], nn.Module], prefix: str = "network.") -> nn.Module:
        """Return a network with the stored weights, which are those that a new one has, by name, type and shape.

        It is made within the memory that the stored weights take, whatever sizes it is given.
        """
        names = [name for name in self if name.startswith(prefix)]
        with _Allowance([self._arrays[name].nbytes for name in names]):
            network = make()
        for name, tensor in network.state_dict().items():
            finite = bool(torch.isfinite(tensor).all())  # a mask of −inf, say, is so in a new network too
            self.array(f"{prefix}{name}", tuple(tensor.shape), tensor.cpu().numpy().dtype, finite=finite)
        network.load_state_dict({name.removeprefix(prefix): torch.from_numpy(self[name]) for name in names})
        return network


class _Allowance(TorchFunctionMode):
    """Refuses new tensors once they take several times as much memory as those in the bundle."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.left = _TIMES * sum(size + _OVERHEAD for size in sizes) + _AT_LEAST

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            without = {name: value for name, value in kwargs.items() if name not in ("generator", "out")}
            made: Tensor = func(*args, **{**without, "device": "meta"})  # it has a size and takes no memory
            self.left -= _OVERHEAD + (0 if str(kwargs.get("device")) == "meta" else made.nbytes)
            if self.left < 0:
                raise BundleError("its hyperparameters ask for a network far larger than the weights that it holds")
        return func(*args, **kwargs)


_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange}
_TIMES, _OVERHEAD, _AT_LEAST = 4, 2**12, 2**20
"""How many times the stored weights; bytes of a tensor besides its values; bytes that are granted in any case."""


def number(state: Mapping[str, Any], name: str, kind: Any = float) -> Any:
    """Return a learned number, checked as a hyperparameter of type `kind` is; an error if it is not there or not so."""
    if name not in state:
        raise BundleError(f"there is no {name}")
    return check_value(name, kind, state[name])


def record_of(state: Mapping[str, Any]) -> Record:
    """Return the record of a model's training; an error if it is none."""
    try:
        record = Record(**state["record"])
        _EPOCHS.validate_python(record.epochs, strict=True)
    except (KeyError, TypeError, ValidationError):
        raise BundleError(
            "the record must hold `epochs`, a list of numbers by name, `best_epoch` and `metric`"
        ) from None
    check_value("metric of the record", str | None, record.metric)
    best = check_value("best_epoch of the record", Count | None, record.best_epoch)
    if best is not None and best > len(record.epochs):
        raise BundleError(f"the best epoch of {len(record.epochs)} cannot be {best}")
    return record


_EPOCHS = TypeAdapter(list[dict[str, float]])


def part_of(about: Any, *names: str) -> dict[str, Any]:
    """Return a table within what a model says of its origin, such as `config`, `data`; empty where there is none.

    Anyone may store what they like there, so that readers take nothing for granted.
    """
    for name in names:
        about = about.get(name) if isinstance(about, Mapping) else None
    return dict(about) if isinstance(about, Mapping) else {}


def number_in(table: Mapping[str, Any], name: str) -> float | None:
    """Return a number of such a table; None where there is none."""
    value = table.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return value if is_number else None


def ids_to_keep(model: Any, data: Any) -> tuple[IdMap, IdMap]:
    """Return the ids of the users and items of interactions, no user if the model is to keep none."""
    return data.users if getattr(model, "keep_users", True) else IdMap(np.empty(0, np.int64)), data.items


def known_users(model: Any) -> IdMap | None:
    """Return the external ids of a model's training users; None where it does not know them, or has kept none."""
    users: IdMap | None = model.users_
    return None if users is None or not len(users) else users


def check_ids(model: Any) -> None:
    """Refuse external ids of a model that are not one per user and item; of users it may have kept none."""
    if (model.users_ is None) != (model.items_ is None):
        raise BundleError("it holds ids of users and of items, or neither")
    for ids, n, what in ((model.users_, model.n_users_, "users"), (model.items_, model.n_items_, "items")):
        kept_none = what == "users" and not getattr(model, "keep_users", True) and ids is not None and not len(ids)
        if ids is not None and len(ids) != n and not kept_none:
            raise BundleError(f"it has {n:,} {what} and {len(ids):,} ids of {what}")


def users_of(
    arrays: Stored, state: Mapping[str, Any], n_users: int, n_items: int, *, folds_in: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]:
    """Return a model's `user_counts_` and `user_digests_`: 1 each, and None, where what was saved does not say.

    Args:
        folds_in: the model tells histories that have changed by their digests.
    """
    digests = arrays.array("user_digests", (n_users,), np.uint64) if folds_in and "user_digests" in arrays else None
    if "trained_users" not in state and "user_counts" not in arrays:
        return np.broadcast_to(np.int64(1), (n_users,)), digests
    counts = arrays.array("user_counts", (n_users,), np.int64, within=(0, n_items))
    trained = int(np.count_nonzero(counts))
    if state.get("trained_users", trained) != trained:
        raise BundleError(f"user_counts has {trained:,} users with entries, trained_users is another number")
    return counts, digests


def as_json(name: str, values: Any) -> dict[str, Any]:
    """Return a mapping as JSON gives it back."""
    if not isinstance(values, Mapping):
        raise DataError(f"{name} must be a mapping of names to JSON values, got {type(values).__name__}")
    try:
        given: dict[str, Any] = json.loads(json.dumps(dict(values), default=_of_numpy))
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{name} must be JSON values: {error}") from None
    return given


def _of_numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is none")
