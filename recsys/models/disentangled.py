"""MacridVAE: a variational autoencoder with a code for each of a few concepts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.models import spaces
from recsys.models.autoencoder import GENERATES, Autoencoder, encode_rows
from recsys.models.fitting import new_generator
from recsys.models.registry import register
from recsys.models.selection import Indices
from recsys.models.variational import Annealed
from recsys.models.whole_rows import Multinomial
from recsys.nn.disentangled import ConceptNetwork, mixture_nll
from recsys.nn.gaussian import drawn, reparameterized
from recsys.nn.graphs import ConceptScores
from recsys.nn.losses import gaussian_kl
from recsys.params import Count, Positive
from recsys.sparse import Batch, Rows
from recsys.training import Loss, Objective


@register
class MacridVAE(Multinomial, Annealed, Autoencoder):
    """Variational autoencoder whose items belong to `concepts`, and whose users have a code for each of them.

    Ma, Zhou, Cui, Yang and Zhu 2019. An item's vector h_i and the prototypes m_k of the concepts give its shares
    c_i = softmax_k(cos(h_i, m_k) / τ). Of concept k the encoder reads x ⊙ c_k, divided by its Euclidean length and
    dropped out: I → `hidden` → 2·`latent` with tanh, the same weights for all concepts. The first half of the output,
    divided by its length, is the mean μ_k; the second half is log(σ_k² / σ_0²). With z_k = μ_k + ε σ_k, ε ~ N(0, I),
    the likelihood is multinomial with p_i ∝ Σ_k c_ik exp(cos(z_k, h_i) / τ). Minimizes, per user,
    −Σ_i x_i log p_i + β Σ_k KL(N(μ_k, σ_k²) ‖ N(0, σ_0² I)), leaving out the constant K / (2 σ_0²) that means of length
    1 add. In training, c_i is a draw of the relaxed one-hot distribution with these shares (Gumbel-softmax), one for
    all users of a step; prediction uses the shares themselves and z_k = μ_k.

    As in the authors' code: the relaxation has temperature 1, and the encoder has vectors of the items of its own.
    Differs from that code in: β grows over `anneal_steps`, there over 5 β epochs. `encode` gives μ_1 … μ_K side by
    side; `similar_items` compares the h_i. Nothing makes a concept what a person would call one: with other seeds the
    same items may be shared out in another way.
    """

    capabilities = replace(GENERATES, has_prior=False)
    search_space = spaces.MACRID_VAE

    concepts: Count = 7
    """K: with one concept this is a VAE of cosines."""
    hidden: Count = 100
    """Width of the encoder's hidden layer."""
    latent: Count = 100
    """d: width of an item's vector, and of the code of each concept."""
    temperature: Positive = 0.1
    """τ: the smaller, the more an item belongs to one concept, and the more unequal are the scores."""
    prior_scale: Positive = 0.075
    """σ_0: standard deviation of the prior, beside means of length 1."""

    def _logits(self) -> int:
        return self.concepts * super()._logits()

    def _dense_rows(self) -> int:
        return 8 * self.latent  # the items' vectors: of length 1, over τ, beside the shares, and gradients of each

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        widths = self.concepts, self.hidden, self.latent
        return ConceptNetwork(n_in, *widths, self.temperature, self.prior_scale, self.dropout, generator)

    def _objective(self, network: Any, rows: Rows) -> Objective:
        beta = self._annealing(self.epochs, self._steps_per_epoch(rows))
        of_prior = 2.0 * math.log(self.prior_scale)

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            log_concepts = network.log_concepts(noise)
            copies = batch.copies(log_concepts.exp().T)
            mean, log_ratio = network.posterior(copies, noise)
            latent = F.normalize(reparameterized(mean, log_ratio + of_prior, noise), dim=1)
            vectors = network.output.weight / self.temperature
            nll = mixture_nll(latent, vectors, log_concepts, batch, copies)
            kl = gaussian_kl(torch.zeros_like(mean), log_ratio).sum()
            return Loss(nll + beta(step) * kl, len(batch), {"nll": nll, "kl": kl})

        return objective

    def why_no_prior(self) -> str:
        return "has means of length 1 by construction, which nothing in training brings together with its prior"

    def _posterior(self, histories: sp.csr_matrix) -> tuple[Tensor, Tensor]:
        network = self.network_

        def moments(batch: Batch) -> Tensor:
            mean, log_ratio = network.posterior(batch.copies(network.log_concepts().exp().T))
            both = torch.stack([mean, log_ratio + 2.0 * math.log(self.prior_scale)])
            return both.view(2, self.concepts, len(batch), self.latent).permute(2, 0, 1, 3).flatten(1)

        mean, log_variance = encode_rows(moments, Rows(self._prepare(histories), self._device)).chunk(2, 1)
        return mean, log_variance

    def _draw_posterior(self, histories: sp.csr_matrix, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return drawn(*self._posterior(histories), new_generator(rng, self._device))

    def _decode(self, codes: Tensor) -> Tensor:
        units = F.normalize(codes.view(len(codes), self.concepts, self.latent), dim=2)  # scores are of directions
        return super()._decode(units.flatten(1))

    def _path_scores(self, network: Any, batch: Batch, userid: Indices) -> Tensor:
        scores: Tensor = ConceptScores(network)(batch)
        return scores

    def _graph(self) -> nn.Module:
        return ConceptScores(self.network_)

    def _decode_scores(self, latent: Tensor, items: Indices | None, out: Tensor | None = None) -> Tensor:
        chosen = None if items is None else torch.from_numpy(items).to(latent.device)
        scores: Tensor = self.network_.scores(latent, chosen)
        return scores
