"""What a search for hyperparameters tries: one space for each model, side by side so that equal means equal.

A class declares its space as `search_space`, next to `capabilities`. It holds what the model's paper varies, and what
every model of its kind may vary: a network its learning rate, weight decay and width, a linear model its penalty and
the two exponents of DAN. What a space does not hold keeps the value of the configuration, or its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, Final

from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, model_validator

from recsys.errors import ConfigError
from recsys.params import check, plain


class Range(BaseModel):
    """Numbers from `low` to `high`; whole numbers if both ends are."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False
    """Draw the logarithm uniformly."""
    step: Annotated[int | float, Gt(0)] | None = None
    """Distance between the values; any value by default."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low must lie below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log = true needs low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step cannot be combined")
        if self.whole and isinstance(self.step, float):
            raise ValueError(f"step must be a whole number as low and high are, got {self.step}")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, Range | Sequence[Any]]
"""Values of hyperparameters by name: a range, or choices."""


def log(low: float, high: float) -> Range:
    """Return a range whose logarithm is drawn."""
    return Range(low=low, high=high, log=True)


def space_of(cls: type) -> dict[str, Range | list[Any]]:
    """Return the space that a class of models declares, with the defaults of the class in it.

    A default is added to choices that lack it, and a range reaches as far as the default, so that a search may begin
    there. (A range of logarithms cannot reach 0.)
    """
    declared: Space = getattr(cls, "search_space", {})
    defaults = {field.name: field.default for field in fields(cls)}
    return {name: _with(values, defaults[name]) for name, values in declared.items()}


def check_space(cls: type) -> None:
    """Check the space that a class itself declares; a ConfigError for a name or a value that it cannot take."""
    for name, values in vars(cls).get("search_space", {}).items():
        if not isinstance(values, Range) and (not isinstance(values, list | tuple) or not values):
            raise ConfigError(f"search_space of {cls.__name__}: {name} takes a Range or choices, got {values!r}")
        for value in ends(values):
            try:
                check(cls, {name: value})
            except ConfigError as error:
                raise ConfigError(f"search_space of {cls.__name__}: {error}") from None


def ends(values: Range | Sequence[Any]) -> list[Any]:
    """Return what must be possible for all values to be: both ends of a range, or each choice."""
    return [values.low, values.high] if isinstance(values, Range) else list(values)


def shown(values: Range | Sequence[Any]) -> str:
    """Return the values as a reader would write them: `0.001 to 0.1 (log)`, or the choices."""
    if not isinstance(values, Range):
        return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    kind = "log" if values.log else "" if values.step is None else f"in steps of {values.step:g}"
    return f"{values.low:g} to {values.high:g}{f' ({kind})' if kind else ''}"


def _with(values: Range | Sequence[Any], default: Any) -> Range | list[Any]:
    if isinstance(values, Range):
        if isinstance(default, bool) or not isinstance(default, int | float) or (values.log and default <= 0):
            return values
        low, high = min(values.low, default), max(values.high, default)
        return (
            values if (low, high) == (values.low, values.high) else values.model_copy(update={"low": low, "high": high})
        )
    choices = list(values)
    if plain(default) not in map(plain, choices):
        choices.append(default)
        if all(isinstance(choice, int | float) for choice in choices):
            choices.sort()
    return choices


# Networks. Penalties are on the scale of the mean loss of a row, but for the rating models', which is that of a sum.
_NETWORK: Final[Space] = {
    "learning_rate": log(3e-4, 1e-2),
    "weight_decay": (0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "latent": (100, 200, 400),
}
_DROPOUT: Final[Space] = {"dropout": Range(low=0.2, high=0.8)}
_VARIATIONAL: Final[Space] = {**_NETWORK, **_DROPOUT, "beta": log(0.05, 1.0)}
NETWORK: Final[Space] = {name: values for name, values in _NETWORK.items() if name != "latent"}
"""Of a network that declares no other."""
MULT_DAE: Final[Space] = {**_NETWORK, **_DROPOUT}
MULT_VAE: Final[Space] = _VARIATIONAL
VAE: Final[Space] = _VARIATIONAL
MACRID_VAE: Final[Space] = {
    **_VARIATIONAL,
    "latent": (50, 100, 200),
    "concepts": (3, 7, 15),
    "temperature": log(0.05, 0.5),
    "prior_scale": log(0.03, 0.3),
}
HVAMP: Final[Space] = {**_VARIATIONAL, "pseudo_inputs": (250, 500, 1000)}
REC_VAE: Final[Space] = {**_NETWORK, **_DROPOUT, "gamma": log(1e-3, 2e-2)}
FLVAE: Final[Space] = {
    **_NETWORK,
    "dropout": Range(low=0.0, high=0.8),
    "beta": log(5e-4, 0.1),
    "alpha": Range(low=0.1, high=0.9),
    "focus": Range(low=0.0, high=4.0),
}
VASP: Final[Space] = {**FLVAE, "regularization": (0.0, 1e-3, 1e-2, 0.1)}
AAE: Final[Space] = {**_NETWORK, **_DROPOUT, "adversarial_weight": log(0.01, 10.0)}
VAE_GAN: Final[Space] = {
    **_NETWORK,
    **_DROPOUT,
    "beta": log(1e-4, 0.1),
    "gamma": log(0.1, 10.0),
    "likelihood_weight": log(1e-3, 1.0),
}
ALI: Final[Space] = {**_NETWORK, **_DROPOUT, "reconstruction_weight": log(1e-3, 1.0)}
FEATURE_CONSISTENT: Final[Space] = {
    **_NETWORK,
    **_DROPOUT,
    "beta": log(1e-5, 0.1),
    "likelihood_weight": log(1e-4, 1.0),
}
BOTTLENECK: Final[Space] = {**_NETWORK, "latent": (50, 100, 200)}
SPARSE: Final[Space] = {**_NETWORK, "sparsity": log(0.01, 10.0)}
DENOISING: Final[Space] = {**_NETWORK, "level": _DROPOUT["dropout"]}
CONTRACTIVE: Final[Space] = {**_NETWORK, "contraction": log(1e-4, 0.1)}
CLUSTERING: Final[Space] = {**BOTTLENECK, "clusters": (4, 8, 16), "clustering": log(0.3, 30.0)}
CDAE: Final[Space] = {**_NETWORK, **_DROPOUT}
UAE: Final[Space] = {**_NETWORK, "noise": log(0.01, 1.0)}
ELSA: Final[Space] = {
    "learning_rate": log(1e-3, 3e-2),
    "weight_decay": _NETWORK["weight_decay"],
    "factors": (128, 256, 512),
}

# Rating models. The weight of unstored entries is part of the space where lists are measured, and 0 for ratings.
RATING: Final[Space] = {
    "learning_rate": log(3e-4, 1e-2),
    "weight_decay": log(1.0, 1000.0),
    "unobserved_weight": log(0.05, 1.0),
    "normalize": (False, True),
}
AUTOREC: Final[Space] = {**RATING, "hidden": (250, 500, 1000)}
DEEP_AUTOREC: Final[Space] = {**RATING, "latent": (125, 250, 500)}
DEEP_RECOMMENDER: Final[Space] = {
    **RATING,
    "latent": (256, 512, 1024),
    "dropout": Range(low=0.2, high=0.9),
    "refeeds": (0, 1),
}
SPARSE_FC: Final[Space] = {**RATING, "kernel_decay": (0.0, 0.005, 0.02, 0.1)}

# Linear models.
_LINEAR: Final[Space] = {
    "regularization": log(5.0, 5000.0),
    "item_exponent": Range(low=0.0, high=0.5),
    "user_exponent": Range(low=0.0, high=0.7),
}
EASE: Final[Space] = _LINEAR
EDLAE: Final[Space] = {**_LINEAR, "dropout": Range(low=0.0, high=0.9)}
RDLAE: Final[Space] = {**EDLAE, "relaxation": Range(low=0.0, high=1.0)}
DEQL: Final[Space] = {**EDLAE, "emphasis": Range(low=0.0, high=2.0)}
FEASE: Final[Space] = {
    **_LINEAR,
    "feature_weight": log(0.1, 30.0),
    "prior_weight": (0.0, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    "prior": ("cosine", "semantic"),
    "prior_regularization": log(0.1, 100.0),
}
HIGHER_ORDER: Final[Space] = {**_LINEAR, "pairs": (500, 1000, 2000), "pair_regularization": log(500.0, 50_000.0)}
SANSA: Final[Space] = {"regularization": log(5.0, 5000.0), "density": log(1e-4, 1e-2)}
INFINITE: Final[Space] = {"regularization": log(0.1, 100.0), "bias_std": log(0.01, 1.0)}

# Baselines.
ALS: Final[Space] = {"factors": (32, 64, 128, 256), "regularization": log(1e-3, 100.0), "alpha": log(0.5, 50.0)}
BPR: Final[Space] = {
    "factors": (32, 64, 128, 256),
    "learning_rate": log(1e-3, 0.2),
    "regularization": log(1e-4, 0.1),
    "popularity_exponent": Range(low=0.0, high=1.0),
}
ITEM_KNN: Final[Space] = {
    "neighbors": Range(low=10, high=500, log=True),
    "similarity": ("cosine", "bm25", "tfidf"),
}
CONTENT_KNN: Final[Space] = {"length_exponent": Range(low=0.0, high=1.0)}
