"""Networks of variational autoencoders: encoders of rows, their hidden layers, priors other than N(0, I), decoders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.nn.gaussian import (
    composite_log_density,
    drawn,
    gaussian_log_density,
    mixture_log_density,
    reparameterized,
)
from recsys.nn.layers import Layer, Output, SparseLinear, dropout, gated, l2_normalized, linear, swish
from recsys.nn.networks import Dense, Generating
from recsys.nn.products import accumulate_grad, add_transposed, weighted_rows
from recsys.sparse import Batch


class TanhLayers(Layer):
    """tanh of the affine output (n, n_in) of the layer before, then dense layers with tanh, to (n, n_out)."""

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.n_in, self.n_out = widths[0], widths[-1]
        self.dense = Dense(widths, "tanh", generator)

    def forward(self, first: Tensor) -> Tensor:
        return self.dense(torch.tanh(first))


class DenseResidual(Layer):
    """h_1 = LN(swish(a_1)), h_l = LN(swish(W_l h_(l−1) + b_l + Σ_(j<l) h_j)): the encoder of Shenbin et al. (2020)."""

    def __init__(self, width: int, layers: int, generator: torch.Generator, *, eps: float = 0.1) -> None:
        """`layers` counts the layer before this module, which computes a_1; `eps` is that of the layer norms."""
        super().__init__()
        self.n_in = self.n_out = width
        self.layers = nn.ModuleList(linear(width, width, generator) for _ in range(layers - 1))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=eps) for _ in range(layers))

    def forward(self, first: Tensor) -> Tensor:
        hidden: Tensor = self.norms[0](swish(first))
        total = hidden
        for layer, norm in zip(self.layers, list(self.norms)[1:], strict=True):
            hidden = norm(swish(layer(hidden) + total))
            total = total + hidden
        return hidden


class GatedLayers(Layer):
    """Layers h = (A x + a) ⊙ σ(B x + b) (Kim and Suh 2019); the input is the affine part of the first one."""

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        """`widths[0]` is the width of the first layer; the input holds its values, then its gates."""
        super().__init__()
        self.n_in, self.n_out = 2 * widths[0], widths[-1]
        self.layers = nn.ModuleList(Gated(n, m, generator) for n, m in pairwise(widths))

    def forward(self, first: Tensor) -> Tensor:
        hidden = gated(first)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class Gated(Layer):
    """h = (A x + a) ⊙ σ(B x + b) of dense rows; one product computes both."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = linear(n_in, 2 * n_out, generator)
        bound = (6.0 / n_in) ** 0.5  # He et al. 2015, as in the authors' code: new gates pass half of the value
        nn.init.uniform_(self.layer.weight, -bound, bound, generator=generator)

    def forward(self, values: Tensor) -> Tensor:
        return gated(self.layer(values))


class GaussianLayer(nn.Module):
    """Mean and log-variance of a diagonal Gaussian, affine in the input; `bounds` clamp the log-variance."""

    __call__: Callable[..., tuple[Tensor, Tensor]]

    def __init__(
        self, n_in: int, n_out: int, generator: torch.Generator, bounds: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        self.layer = linear(n_in, 2 * n_out, generator)
        self.bounds = bounds

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, each (n, n_out), in the precision of the weights."""
        mean, log_variance = self.layer(values).to(self.layer.weight.dtype).chunk(2, 1)
        return mean, log_variance if self.bounds is None else log_variance.clamp(*self.bounds)


class GaussianEncoder(nn.Module):
    """q(z|x): rows divided by their length and dropped out; an affine sparse layer, `body`, and a Gaussian."""

    __call__: Callable[..., tuple[Tensor, Tensor]]

    def __init__(
        self,
        n_in: int,
        body: TanhLayers | DenseResidual | GatedLayers,
        latent: int,
        dropout: float,
        generator: torch.Generator,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.dropout, self.latent = dropout, latent
        self.input = SparseLinear(n_in, body.n_in, generator)
        self.body = body
        self.posterior_layer = GaussianLayer(body.n_out, latent, generator, bounds)

    def forward(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (len(batch), latent); `noise` draws the input dropout."""
        first = self.input(batch, dropout(l2_normalized(batch), self.dropout, noise))
        return self.posterior_layer(self.body(first))

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same for dense rows (n, n_in), without dropout."""
        with torch.autocast(rows.device.type, enabled=False):  # like the sparse layer
            first = F.normalize(rows, dim=1) @ self.input.weight + self.input.bias
        return self.posterior_layer(self.body(first))


class VampPrior(nn.Module):
    """p(z) = 1/K Σ_k q(z|u_k) with learned pseudo-inputs u_k in 0..1 (Tomczak and Welling 2018, §2).

    A pseudo-input is a dense row over all items: there are K × items numbers, and every step encodes all of them. They
    are inputs and no weights, so that no penalty pulls them to 0.
    """

    def __init__(self, n_pseudo_inputs: int, n_in: int, generator: torch.Generator) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.empty(n_pseudo_inputs, n_in).normal_(0.05, 0.01, generator=generator))
        self.pseudo_inputs.undecayed = True  # type: ignore[attr-defined]

    def log_density(self, latent: Tensor, batch: Batch | None, encoder: GaussianEncoder) -> Tensor:
        """Return log p(z) of each row of `latent`, (n_rows,)."""
        return mixture_log_density(latent, *encoder.of_rows(self.pseudo_inputs.clamp(0.0, 1.0)))

    def draw(self, n: int, encoder: GaussianEncoder, noise: torch.Generator) -> Tensor:
        """Return z ~ p(z), (n, latent)."""
        moments = encoder.of_rows(self.pseudo_inputs.clamp(0.0, 1.0))
        component = torch.randint(len(self.pseudo_inputs), (n,), generator=noise, device=noise.device)
        mean, log_variance = (moment[component] for moment in moments)
        return reparameterized(mean, log_variance, noise)


class CompositePrior(nn.Module):
    """p(z|x) = Π_d 3/20 N(z_d; 0, 1) + 3/4 q_old(z_d|x) + 1/10 N(z_d; 0, e^10) (Shenbin et al. 2020).

    q_old is a copy of the encoder as it was at the last call of `remember`; it is saved, never trained. As in the
    authors' code, each latent dimension has its own mixture; the paper's formula mixes whole vectors.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.old = copy.deepcopy(encoder).requires_grad_(False)

    def remember(self, encoder: nn.Module) -> None:
        """Copy the current weights of `encoder` to the old encoder."""
        self.old.load_state_dict(encoder.state_dict())

    def draw(self, n: int, encoder: nn.Module, noise: torch.Generator) -> Tensor:
        """Refuse: it is a mixture with the posterior of a row."""
        raise NotImplementedError

    def log_density(self, latent: Tensor, batch: Batch | None, encoder: nn.Module) -> Tensor:
        """Return log p(z|x) of each row of `latent`, (n_rows,); the old posterior reads the input without dropout."""
        if batch is None:
            raise NotImplementedError
        with torch.no_grad():
            mean, log_variance = self.old(batch)
        return composite_log_density(latent, mean, log_variance).sum(1)


class VariationalNetwork(Generating):
    """q(z|x), the decoder's hidden layers, the affine output, and the prior."""

    def __init__(
        self,
        encoder: GaussianEncoder,
        decoder: nn.Module,
        output: Output,
        prior: VampPrior | CompositePrior | None = None,
    ) -> None:
        """`prior` None means N(0, I)."""
        super().__init__()
        self.encoder, self.decoder, self.output, self.prior = encoder, decoder, output, prior
        self.latent = encoder.latent

    def posterior(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return self.encoder(batch, noise)

    def draw_prior(self, n: int, noise: torch.Generator) -> Tensor:
        """Return z ~ p(z), (n, latent); a composite prior is none of z alone."""
        return super().draw_prior(n, noise) if self.prior is None else self.prior.draw(n, self.encoder, noise)

    def log_prior(self, latent: Tensor) -> Tensor:
        if self.prior is None:
            return super().log_prior(latent)
        return self.prior.log_density(latent, None, self.encoder)

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the posterior mean, (len(batch), latent); `noise` draws the input dropout only."""
        return self.posterior(batch, noise)[0]

    def decode(self, latent: Tensor) -> Tensor:
        hidden: Tensor = self.decoder(latent)
        return hidden


class ResidualDecoder(Layer):
    """A dense layer from the code, then `DenseResidual` of the given width."""

    def __init__(self, latent: int, width: int, layers: int, generator: torch.Generator, *, eps: float = 0.1) -> None:
        super().__init__()
        self.first = linear(latent, width, generator)
        self.body = DenseResidual(width, layers, generator, eps=eps)

    def forward(self, latent: Tensor) -> Tensor:
        return self.body(self.first(latent))


class HVampNetwork(Generating):
    """Two latent layers, z_2 above z_1, with gated layers throughout (Kim and Suh 2019).

    The encoder is q(z_2|x) q(z_1|x, z_2), the generator p(x|z_1, z_2) p(z_1|z_2) p(z_2), and p(z_2) is a VampPrior. As
    in the authors' code, every path has two hidden layers of the same width, and log-variances stay within −12..4.
    """

    BOUNDS = (-12.0, 4.0)

    def __init__(
        self, n_items: int, hidden: int, latent: int, pseudo_inputs: int, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.dropout, self.latent = dropout, 2 * latent
        gated = GatedLayers([hidden, hidden], generator)
        self.upper = GaussianEncoder(n_items, gated, latent, dropout, generator, self.BOUNDS)
        self.lower_input = SparseLinear(n_items, 2 * hidden, generator)
        self.lower_of_upper = Gated(latent, hidden, generator)
        self.lower_joint = Gated(2 * hidden, hidden, generator)
        self.lower_posterior = GaussianLayer(hidden, latent, generator, self.BOUNDS)
        self.conditional_layers = nn.Sequential(Gated(latent, hidden, generator), Gated(hidden, hidden, generator))
        self.conditional_prior = GaussianLayer(hidden, latent, generator, self.BOUNDS)
        self.decoder_of_lower = Gated(latent, hidden, generator)
        self.decoder_of_upper = Gated(latent, hidden, generator)
        self.decoder_joint = Gated(2 * hidden, hidden, generator)
        self.output = Output(hidden, n_items, generator)
        self.prior = VampPrior(pseudo_inputs, n_items, generator)

    def lower(self, batch: Batch, upper: Tensor, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z_1|x, z_2), each (len(batch), latent)."""
        values = dropout(l2_normalized(batch), self.dropout, noise)
        both = torch.cat([gated(self.lower_input(batch, values)), self.lower_of_upper(upper)], 1)
        return self.lower_posterior(self.lower_joint(both))

    def conditional(self, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of p(z_1|z_2), each (n, latent)."""
        return self.conditional_prior(self.conditional_layers(upper))

    def encode(self, batch: Batch, noise: torch.Generator | None = None) -> Tensor:
        """Return the mean of z_1 given the mean of z_2, then the mean of z_2, (len(batch), 2 · latent)."""
        upper = self.upper(batch, noise)[0]
        return torch.cat([self.lower(batch, upper, noise)[0], upper], 1)

    def posterior(self, batch: Batch, noise: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of z_1 given the mean of z_2, then those of z_2, each (len(batch), latent)."""
        upper, upper_log_variance = self.upper(batch, noise)
        lower, lower_log_variance = self.lower(batch, upper, noise)
        return torch.cat([lower, upper], 1), torch.cat([lower_log_variance, upper_log_variance], 1)

    def draw_posterior(self, batch: Batch, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        upper, of_upper = drawn(*self.upper(batch), noise)
        lower, of_lower = drawn(*self.lower(batch, upper), noise)
        return torch.cat([lower, upper], 1), of_lower + of_upper

    def draw_prior(self, n: int, noise: torch.Generator) -> Tensor:
        upper = self.prior.draw(n, self.upper, noise)
        return torch.cat([reparameterized(*self.conditional(upper), noise), upper], 1)

    def log_prior(self, latent: Tensor) -> Tensor:
        lower, upper = latent.chunk(2, 1)
        mean, log_variance = self.conditional(upper)
        given_upper = gaussian_log_density(lower.double(), mean.double(), log_variance.double()).sum(1)
        return given_upper + self.prior.log_density(upper, None, self.upper)

    def decode(self, latent: Tensor) -> Tensor:
        lower, upper = latent.chunk(2, 1)
        return self.decoder_joint(torch.cat([self.decoder_of_lower(lower), self.decoder_of_upper(upper)], 1))


class VASPNetwork(VariationalNetwork):
    """A variational autoencoder, plus a linear layer from items to items with a zero diagonal."""

    def __init__(self, n_items: int, encoder: GaussianEncoder, decoder: nn.Module, output: Output) -> None:
        super().__init__(encoder, decoder, output)
        self.item_weights = nn.Parameter(torch.zeros(n_items, n_items))

    def shallow(self, batch: Batch) -> Tensor:
        """Return x B, (len(batch), n_items)."""
        logits: Tensor = _ZeroDiagonal.apply(self.item_weights, batch)  # type: ignore[no-untyped-call]
        return logits


class _ZeroDiagonal(torch.autograd.Function):
    """x B for a B with a zero diagonal. The diagonal of the gradient is zero, so that of B stays zero."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, batch: Batch) -> Tensor:
        ctx.save_for_backward(table)
        ctx.batch = batch
        return weighted_rows(table, batch, batch.values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (table,) = ctx.saved_tensors

        def write(out: Tensor, beta: float) -> None:
            add_transposed(out, beta, ctx.batch, ctx.batch.values, grads[0].contiguous())
            out.fill_diagonal_(0.0)

        return accumulate_grad(table, write) if ctx.needs_input_grad[0] else None, None
