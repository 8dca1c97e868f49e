"""The optimizer of a training: Adam, which of lazy tables moves only the rows that a step has read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from recsys.nn.lazy import is_lazy
from recsys.training.config import TrainingConfig

_BETAS: Final = (0.9, 0.999)
_EPS: Final = 1e-8


class Optimizer:
    """Adam (Kingma and Ba 2015) for a network, its lazy tables included (`recsys.nn.lazy`).

    Rows of a lazy table that no entry of a step names keep their weights and moments, as in torch's `SparseAdam`; the
    L2 penalty acts on a row in the steps that read it. The cost is that of these rows.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self.rate, self.decay = config.learning_rate, config.weight_decay
        weights = list(network.parameters())
        whole = [weight for weight in weights if not is_lazy(weight)]
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight in whole if _is_decayed(weight)], "weight_decay": config.weight_decay},
            {"params": [weight for weight in whole if not _is_decayed(weight)]},
        ]
        self.adam = torch.optim.Adam(groups, lr=config.learning_rate, betas=_BETAS, eps=_EPS, fused=True)
        self.tables = [_Table(weight) for weight in weights if is_lazy(weight)]

    def begin(self, rate: float) -> None:
        """Set the learning rate of a step."""
        self.rate = rate
        for group in self.adam.param_groups:
            group["lr"] = rate

    def forget_gradients(self) -> None:
        """Let go of the gradients of the step before."""
        self.adam.zero_grad(set_to_none=True)
        for table in self.tables:
            table.weight.grad = None

    def step(self) -> None:
        """Move the weights that have gradients."""
        self.adam.step()
        for table in self.tables:
            table.step(self.rate, self.decay if _is_decayed(table.weight) else 0.0)

    def state(self) -> dict[str, Tensor]:
        """Return the moments and counts of steps by name: the number of the weight, then what it is."""
        own = self.adam.state_dict()["state"]
        tables = {self._n_whole() + number: table.state for number, table in enumerate(self.tables)}
        return {
            f"{index}.{name}": value for index, values in {**own, **tables}.items() for name, value in values.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set what `state` returned."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = tensor
        for number, table in enumerate(self.tables):
            for key, tensor in moments.pop(self._n_whole() + number).items():
                table.state[key].copy_(tensor)
        self.adam.load_state_dict({**self.adam.state_dict(), "state": moments})

    def _n_whole(self) -> int:
        return sum(len(group["params"]) for group in self.adam.param_groups)


class _Table:
    """A lazy table with its moments."""

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight
        self.state = {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(weight, requires_grad=False),
        }
        self.memory = [weight.new_empty(0) for _ in range(3)]

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        if self.weight.grad is None:
            return
        gradient = self.weight.grad.coalesce()
        rows, stored = gradient.indices()[0], (self.weight, self.state["exp_avg"], self.state["exp_avg_sq"])
        read = [
            torch.index_select(tensor, 0, rows, out=buffer)
            for tensor, buffer in zip(stored, self._buffers(rows), strict=True)
        ]
        (own, mean, square), step = ([tensor] for tensor in read), [self.state["step"]]
        adam(
            own, [gradient.values()], mean, square, [], step, fused=True, amsgrad=False,
            beta1=_BETAS[0], beta2=_BETAS[1], lr=rate, weight_decay=decay, eps=_EPS, maximize=False,
        )  # fmt: skip
        for tensor, moved in zip(stored, read, strict=True):
            tensor.index_copy_(0, rows, moved)

    def _buffers(self, rows: Tensor) -> list[Tensor]:
        """Return memory for so many rows three times, the same in every step: new pages cost as much as writing."""
        size = len(rows) * self.weight[:1].numel()
        if len(self.memory[0]) < size:
            self.memory = [self.weight.new_empty(size + size // 4) for _ in self.memory]
        return [part[:size].view(len(rows), *self.weight.shape[1:]) for part in self.memory]


def _is_decayed(parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not getattr(parameter, "undecayed", False)
