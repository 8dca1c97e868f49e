"""A device beside the host that every machine has: its tensors keep their numbers on the CPU and say that they do not.

torch takes a backend written in Python (`PrivateUse1`). Tensors on it are wrappers, so that code can do with them what
it can do on a GPU and no more: an operation that mixes them with tensors of the host fails, and so does `numpy()`; each
time the host reads a number or a size of theirs is counted, since on a GPU it waits there for all that was asked
before. What is computed is what the CPU computes, so that results can be compared to the last digits.

It does not show what only a GPU does: another order of sums, kernels that are missing, memory that runs out, streams,
several devices. Run as a script it trains and scores models and prints what it saw as JSON: torch keeps the backend,
and the threads that it starts for it, until a process ends.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
aten = torch.ops.aten


class Module:
    """What torch asks of a backend's module."""

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None: ...


class There(torch.Tensor):
    """A tensor on the stand-in device; `here` holds its numbers."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> There:
        strided = here.layout == torch.strided
        place = {"strides": here.stride(), "storage_offset": here.storage_offset()} if strided else {}
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), dtype=here.dtype, layout=here.layout, device=torch.device(NAME, 0), **place
        )
        tensor.here = here
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {}, Counter())

    def __repr__(self) -> str:
        return f"There({self.here!r})"


class Watch(TorchDispatchMode):
    """Does on the CPU what is asked of the stand-in, and counts where the host waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:  # composite operations arrive whole in inference mode
            parts = function.decompose(*args, **kwargs)
        return run(function, args, kwargs, self.waits) if parts is NotImplemented else parts


SIZED = {"nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "repeat_interleave"}
"""Operations whose result has a size that the host has to read."""


def run(function: Any, args: Any, kwargs: dict[str, Any], waits: Counter[str]) -> Any:
    """Do one operation of torch; add to `waits` the place that asks, if the host has to wait."""
    there = [one for one in pytree.tree_leaves((args, kwargs)) if isinstance(one, There)]
    to_there = bool(there) if kwargs.get("device") is None else is_there(kwargs["device"])
    if function is aten.copy_.default:
        to_there = isinstance(args[0], There)
    elif function is not aten._to_copy.default:
        to_there = to_there or bool(there)
        check_devices(function, args, kwargs)
    if there and (not to_there or must_be_read(function, args, kwargs)):
        waits[place()] += 1
    if there and torch.Tag.inplace_view in function.tags:
        with no_dispatch():  # a wrapper has a shape of its own
            function(*args, **kwargs)
    own = {id(one.here): one for one in there}
    here, options = pytree.tree_map(lambda one: one.here if isinstance(one, There) else one, (args, kwargs))
    if "device" in options:
        options["device"] = host(options["device"])
    found = function(*here, **options)
    # In inference mode too, a view of a tensor made outside of it is none of inference mode.
    plain = function.is_view and bool(there) and not there[0].is_inference()

    def wrapped(one: Any) -> Any:
        if not isinstance(one, torch.Tensor) or isinstance(one, There):
            return one
        with torch.inference_mode(torch.is_inference_mode_enabled() and not plain):
            return own[id(one)] if id(one) in own else There(one)

    return pytree.tree_map(wrapped, found) if to_there else args[0] if function is aten.copy_.default else found


def check_devices(function: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse tensors of two devices, but for single numbers and the indices of the host, which a GPU takes too."""
    indexing = function.overloadpacket in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
    tensors = [
        one for one in pytree.tree_leaves((args[0] if indexing else args, kwargs)) if isinstance(one, torch.Tensor)
    ]
    if len({isinstance(one, There) for one in tensors if one.dim()}) > 1:
        raise RuntimeError(
            f"{function.name()} mixes devices: {[(str(one.device), tuple(one.shape)) for one in tensors]}"
        )


def must_be_read(function: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether the host needs a number of the operands before it can go on."""
    if function.overloadpacket is aten.index:
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    name = function.overloadpacket.__name__
    known = name == "repeat_interleave" and kwargs.get("output_size") is not None
    return name == "_local_scalar_dense" or (name in SIZED and not known)


def place() -> str:
    """Return which function of the package asks."""
    for frame in reversed(traceback.extract_stack()):
        if "/recsys/" in frame.filename and "/tests/" not in frame.filename:
            return f"{frame.filename.rsplit('/recsys/', 1)[1]}:{frame.name}"
    return "elsewhere"


def is_there(device: Any) -> bool:
    """Return whether this names the stand-in."""
    return torch.device(device).type == NAME


def host(device: Any) -> Any:
    """Return the host in place of the stand-in."""
    return torch.device("cpu") if device is not None and is_there(device) else device


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **others: Any) -> There:
    """Make a tensor there."""
    return There(torch.empty_strided(size, stride, dtype=dtype))


def copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copy to or from there."""
    return run(aten.copy_.default, (target, source), {}, Counter())


_kernels: list[Any] = []
"""What stays registered as long as it is kept."""


def begin() -> None:
    """Tell torch of the device, once in a process."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    kernels = torch.library.Library("aten", "IMPL")  # what torch itself asks for as it makes a tensor of indices
    kernels.impl("empty_strided", empty_strided, "PrivateUse1")
    kernels.impl("_copy_from", copy_from, "PrivateUse1")
    _kernels.append(kernels)


@contextmanager
def watched() -> Iterator[Counter[str]]:
    """Count waits; a parameter that moves stays the same object, and generators are those of the host."""
    generator, to = torch.Generator, torch.nn.Module.to

    class Generator(generator):  # type: ignore[misc,valid-type]
        def __new__(cls, device: Any = "cpu") -> Any:
            made = super().__new__(cls, host(device))
            made.named = torch.device(device)
            return made

        device = property(lambda self: self.named)

    def moved(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        kept = {name: dict(vars(parameter)) for name, parameter in module.named_parameters()}
        to(module, *args, **kwargs)
        for name, parameter in module.named_parameters():
            vars(parameter).update({key: value for key, value in kept[name].items() if key != "here"})
        return module

    torch.Generator = Generator  # type: ignore[misc]
    torch.nn.Module.to = moved  # type: ignore[method-assign,assignment]
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with Watch() as watch:
            yield watch.waits
    finally:
        torch.Generator, torch.nn.Module.to = generator, to  # type: ignore[misc,method-assign]
        torch.__future__.set_swap_module_params_on_conversion(False)


def tried(name: str) -> dict[str, Any]:
    """Train a model here and there; return how far scores, codes and metrics differ, and where the host waited."""
    from recsys import evaluate
    from recsys.interactions import Interactions
    from recsys.models import MODELS
    from recsys.splits import hold_out_ratings
    from tests.contract import new_model, ratings

    name, _, option = name.partition(" ")
    cells = ratings(n_users=60, n_items=50, density=0.1).tocoo()
    table = pd.DataFrame({"user_id": cells.row, "item_id": cells.col, "rating": cells.data})
    split = hold_out_ratings(Interactions.from_frame(table), validation=0.0)
    train, able = split.train.matrix, MODELS[name].capabilities
    n_users, n_items = train.shape
    changes: dict[str, Any] = {"epochs": 2, "batch_size": 15} if able.trains_by_epochs and name != "Blend" else {}
    if option:
        changes[option.split("=")[0]] = json.loads(option.split("=")[1])

    def seen(device: str, **others: Any) -> tuple[Any, dict[str, Any]]:
        model = new_model(name, **{**changes, **others}, device=device).fit(split.train, show_progress=False)
        users = np.arange(n_users)
        ids, scores = model.recommend(users, train, N=n_items, filter_already_liked_items=False)
        table = np.zeros((n_users, n_items), np.float32)
        np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
        found = {"scores": table, "few": model.recommend(users, train, N=3, items=np.arange(9))[1]}
        if able.encodes:
            found["codes"] = model.encode(train)
        if able.compares_items:
            found["similar"] = model.similar_items(np.arange(n_items), N=5)[1]
        measured = evaluate(model, split.test, ("ndcg@5", "recall@5"))
        found["metrics"] = np.array(list(measured.values.values()))
        return model, found

    with watched() as waits:
        _, there = seen(NAME)
        scoring = dict(waits)
        waits.clear()
        in_steps = {}
        if "batch_size" in changes:
            counts = []
            for size in (60, 15):  # one step an epoch, and four
                new_model(name, **{**changes, "batch_size": size}, device=NAME).fit(split.train, show_progress=False)
                counts.append(Counter(waits))
                waits.clear()
            in_steps = dict(counts[1] - counts[0])
    _, here = seen("cpu")
    differences = {
        what: float(np.abs(there[what] - here[what]).max() / max(1e-30, np.abs(here[what]).max())) for what in here
    }
    return {"differences": differences, "waits": scoring, "in steps": in_steps}


def main() -> None:
    """Print what was seen of each model that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    names = parser.parse_args().models
    begin()
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = tried(name)
        except Exception:
            found[name] = {"error": traceback.format_exc(limit=-6)[:3000]}
    json.dump(found, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # threads that wait for work on the stand-in have nobody to end them


if __name__ == "__main__":
    main()
