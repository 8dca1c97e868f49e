"""Time what a competent user of torch writes by hand: dense batches, torch's own layers, the default Adam.

    multvae  Liang et al. 2018: normalised and dropped-out input, noise N(0, 1), multinomial loss, annealed KL term
    autorec  Sedhain et al. 2015: sigmoid hidden layer, squared error over the stored entries of the dense batch
    wrmf     the same network on 1 for a stored entry and 0 elsewhere, squared error over every entry: weight 1 on the
             stored ones, --unobserved-weight on all others

No weight decay in any of them.
"""

import time

import numpy as np
import torch
import torch.nn.functional as F
from measuring import argument_parser, check_steps, load_matrix, resident_bytes, write_report
from torch import nn


class MultVAE(nn.Module):
    """Items-hidden-latent-hidden-items with tanh, and the loss of a batch."""

    def __init__(self, n_items: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, n_items))
        self.step = 0

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        self.step += 1
        beta = min(0.2, self.step / 200_000)
        mean, log_variance = self.encoder(F.dropout(F.normalize(x), 0.5)).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        negative_log_likelihood = -(F.log_softmax(self.decoder(z), dim=1) * x).sum(1).mean()
        kl = -0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1).mean()
        return negative_log_likelihood + beta * kl


class AutoRec(nn.Module):
    """Columns-hidden-columns with a sigmoid, and the loss of a batch.

    `unobserved_weight` None sums over the stored entries alone.
    """

    def __init__(self, n_columns: int, hidden: int, unobserved_weight: float | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_columns, hidden), nn.Sigmoid(), nn.Linear(hidden, n_columns))
        self.unobserved_weight = unobserved_weight

    def loss(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        error = (self.layers(x) - x).pow(2)
        if self.unobserved_weight is None:
            return (error * mask).sum() / mask.sum()
        weight = self.unobserved_weight + (1 - self.unobserved_weight) * mask
        return (error * weight).sum() / len(x)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--model", choices=["multvae", "autorec", "wrmf"], required=True)
    parser.add_argument("--orientation", choices=["users", "items"], default="users", help="rows of autorec and wrmf")
    parser.add_argument("--hidden", type=int, default=None, help="600 for multvae, 500 for the others")
    parser.add_argument("--latent", type=int, default=200, help="multvae alone")
    parser.add_argument("--unobserved-weight", type=float, default=0.1, help="wrmf alone")
    arguments = parser.parse_args()
    if arguments.model == "multvae" and arguments.orientation == "items":
        parser.error("--model multvae trains on users; leave --orientation out")
    matrix = load_matrix(arguments)
    rows = matrix if arguments.orientation == "users" else matrix.T.tocsr()
    stored = rows.copy()
    stored.data[:] = 1.0

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    n_rows, n_columns = rows.shape
    if arguments.model == "multvae":
        network = MultVAE(n_columns, arguments.hidden or 600, arguments.latent)
    else:
        weight = arguments.unobserved_weight if arguments.model == "wrmf" else None
        network = AutoRec(n_columns, arguments.hidden or 500, weight)
    optimizer = torch.optim.Adam(network.parameters(), lr=arguments.lr)

    rss = resident_bytes()
    sizes: list[int] = []
    epoch_seconds = []
    for _ in range(arguments.epochs):
        start = time.perf_counter()
        order = rng.permutation(n_rows)
        for first in range(0, n_rows, arguments.batch)[: arguments.max_steps]:
            index = order[first : first + arguments.batch]
            sizes.append(len(index))
            mask = torch.from_numpy(stored[index].toarray())
            if arguments.model == "multvae":
                loss = network.loss(mask)
            elif arguments.model == "autorec":
                loss = network.loss(torch.from_numpy(rows[index].toarray()), mask)
            else:
                loss = network.loss(mask, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        epoch_seconds.append(time.perf_counter() - start)

    write_report(
        arguments,
        peer=f"plain torch {arguments.model}, rows are {arguments.orientation}",
        version=torch.__version__,
        what="one pass over the shuffled rows: dense batch, loss, backward, Adam",
        matrix=matrix,
        network=network,
        steps=check_steps(sizes, n_rows, arguments),
        epoch_seconds=epoch_seconds,
        rss_before_training=rss,
    )


if __name__ == "__main__":
    main()
