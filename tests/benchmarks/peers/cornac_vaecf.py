"""Time Cornac's VAECF: `vaecf.learn`, called once, on a Cornac Dataset that notes when each epoch begins.

Its VAECF has no dropout and no L2 norm of the input, keeps the users in order and weighs the KL term with beta 1 from
the start: a step does a little less work than the paper's.
"""

import time

import cornac
import numpy as np
from cornac.data import Dataset
from cornac.models import VAECF
from measuring import (
    add_vae_sizes,
    argument_parser,
    check_steps,
    counted,
    load_matrix,
    resident_bytes,
    write_report,
)


class TimedDataset(Dataset):
    """Cornac's Dataset; `learn` asks for `user_iter` once per epoch, first thing."""

    def __init__(self, *, max_steps: int | None, **dataset) -> None:
        super().__init__(**dataset)
        self.max_steps = max_steps
        self.starts: list[float] = []
        self.sizes: list[int] = []
        self.rss_before_training = 0

    def user_iter(self, batch_size=1, shuffle=False):
        if not self.starts:
            self.rss_before_training = resident_bytes()
        self.starts.append(time.perf_counter())
        yield from counted(super().user_iter(batch_size, shuffle), self.max_steps, self.sizes)


def main() -> None:
    parser = argument_parser(__doc__)
    add_vae_sizes(parser)
    arguments = parser.parse_args()
    matrix = load_matrix(arguments)
    users, items = matrix.shape
    entries = matrix.tocoo()
    train_set = TimedDataset(
        max_steps=arguments.max_steps,
        num_users=users,
        num_items=items,
        uid_map={user: user for user in range(users)},
        iid_map={item: item for item in range(items)},
        uir_tuple=(entries.row, entries.col, entries.data),
        seed=0,
    )
    model = VAECF(
        k=arguments.latent,
        autoencoder_structure=[arguments.hidden],
        act_fn="tanh",
        likelihood="mult",
        n_epochs=arguments.epochs,
        batch_size=arguments.batch,
        learning_rate=arguments.lr,
        seed=0,
    )
    model.fit(train_set)
    times = [*train_set.starts, time.perf_counter()]

    write_report(
        arguments,
        peer="Cornac VAECF",
        version=cornac.__version__,
        what="epochs of cornac.models.vaecf.vaecf.learn, from one call of user_iter to the next; no evaluation",
        matrix=matrix,
        network=model.vae,
        steps=check_steps(train_set.sizes, len(np.unique(entries.row)), arguments),
        epoch_seconds=np.diff(times).tolist(),
        rss_before_training=train_set.rss_before_training,
    )


if __name__ == "__main__":
    main()
