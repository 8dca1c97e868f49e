"""The models, and the one place that finds a model's class by its name.

A file of this folder that defines a class decorated with `register` adds a model; nothing else names it.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from recsys.models.autoencoder import Autoencoder
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.registry import MODELS, load, model_class, register
from recsys.models.spaces import Range
from recsys.params import Count, Fraction, Natural, NotNegative, OpenFraction, Positive, Rate, Seed, Widths

if TYPE_CHECKING:
    # isort: off
    # Names for type checkers, made by make docs.
    from recsys.models.adversarial import AAE as AAE
    from recsys.models.adversarial import ALI as ALI
    from recsys.models.adversarial import VAEGAN as VAEGAN
    from recsys.models.autorec import IAutoRec as IAutoRec
    from recsys.models.autorec import UAutoRec as UAutoRec
    from recsys.models.baselines import ALS as ALS
    from recsys.models.baselines import BPR as BPR
    from recsys.models.baselines import ItemKNN as ItemKNN
    from recsys.models.baselines import Popularity as Popularity
    from recsys.models.blend import Blend as Blend
    from recsys.models.clustering import ClusteringAE as ClusteringAE
    from recsys.models.content import ContentKNN as ContentKNN
    from recsys.models.content import FEASE as FEASE
    from recsys.models.deep_autorec import DeepAutoRec as DeepAutoRec
    from recsys.models.deep_autorec import DeepRecommender as DeepRecommender
    from recsys.models.disentangled import MacridVAE as MacridVAE
    from recsys.models.elsa import ELSA as ELSA
    from recsys.models.feature_consistent import FeatureConsistentAE as FeatureConsistentAE
    from recsys.models.higher_order import HigherOrderEASE as HigherOrderEASE
    from recsys.models.infinite import InfiniteAE as InfiniteAE
    from recsys.models.kernel import GLocalK as GLocalK
    from recsys.models.kernel import SparseFC as SparseFC
    from recsys.models.linear import DEQL as DEQL
    from recsys.models.linear import DLAE as DLAE
    from recsys.models.linear import EASE as EASE
    from recsys.models.linear import EDLAE as EDLAE
    from recsys.models.linear import RDLAE as RDLAE
    from recsys.models.regularized import BottleneckAE as BottleneckAE
    from recsys.models.regularized import CDAE as CDAE
    from recsys.models.regularized import ContractiveAE as ContractiveAE
    from recsys.models.regularized import DenoisingAE as DenoisingAE
    from recsys.models.regularized import SparseAE as SparseAE
    from recsys.models.regularized import UAE as UAE
    from recsys.models.sansa import SANSA as SANSA
    from recsys.models.variational import HVamp as HVamp
    from recsys.models.variational import MultDAE as MultDAE
    from recsys.models.variational import MultVAE as MultVAE
    from recsys.models.variational import RecVAE as RecVAE
    from recsys.models.variational import VAE as VAE
    from recsys.models.vasp import FLVAE as FLVAE
    from recsys.models.vasp import VASP as VASP
    from recsys.models.with_features import WithFeatures as WithFeatures
    from recsys.models.with_user_features import WithUserFeatures as WithUserFeatures
    # End of the names.
    # isort: on

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
globals().update(MODELS)

__all__ = [
    "MODELS",
    "Autoencoder",
    "Capabilities",
    "Count",
    "Fraction",
    "Natural",
    "NotNegative",
    "OpenFraction",
    "Positive",
    "Range",
    "Rate",
    "Recommender",
    "Seed",
    "Widths",
    "load",
    "model_class",
    "register",
    *MODELS,
]
