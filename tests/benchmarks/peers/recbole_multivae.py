"""Time RecBole's MultiVAE: `Trainer._train_epoch` over RecBole's own user dataloader, without evaluation.

Two of RecBole's own rules shape the call. `latent_dimension` counts means and log-variances together, so that a latent
width of 200 asks for 400. And ids start at 1: the padding user and the padding item 0 add one row and one column.
"""

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import (
    add_vae_sizes,
    argument_parser,
    check_steps,
    counted,
    load_matrix,
    resident_bytes,
    write_report,
)

# Names that numpy 2 took away and recbole 1.2.1 reads, some while it is imported.
for name, dtype in {"float": np.float64, "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    setattr(np, name, dtype)

import recbole  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset  # noqa: E402
from recbole.data.utils import get_dataloader  # noqa: E402
from recbole.model.general_recommender import MultiVAE  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402


def write_atomic_files(matrix, folder: Path) -> None:
    """Write the stored entries, and all users and items, so that those without an entry keep their place."""
    entries = matrix.tocoo()
    folder.mkdir()
    for kind, columns in {
        "inter": {"user_id:token": entries.row, "item_id:token": entries.col},
        "user": {"user_id:token": np.arange(matrix.shape[0])},
        "item": {"item_id:token": np.arange(matrix.shape[1])},
    }.items():
        pd.DataFrame(columns).to_csv(folder / f"{folder.name}.{kind}", sep="\t", index=False)


def main() -> None:
    parser = argument_parser(__doc__)
    add_vae_sizes(parser)
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    matrix = load_matrix(arguments)
    sys.argv[1:] = []  # RecBole's Config reads the command line for options of its own

    # The trainer makes folders for checkpoints and logs where it stands.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_atomic_files(matrix, Path(folder, "matrix"))
        config = Config(
            model="MultiVAE",
            dataset="matrix",
            config_dict={
                "data_path": folder,
                "load_col": {"inter": ["user_id", "item_id"], "user": ["user_id"], "item": ["item_id"]},
                "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": None, "mode": "full"},
                "mlp_hidden_size": [arguments.hidden],
                "latent_dimension": 2 * arguments.latent,
                "dropout_prob": 0.5,
                "train_neg_sample_args": None,
                "train_batch_size": arguments.batch,
                "learning_rate": arguments.lr,
                "epochs": arguments.epochs,
                "use_gpu": False,
            },
        )
        train_set = create_dataset(config).build()[0]
        loader = get_dataloader(config, "train")(config, train_set, None, shuffle=True)
        network = MultiVAE(config, train_set)
        expected = (matrix.shape[0] + 1, matrix.shape[1] + 1, matrix.nnz)
        if (train_set.user_num, network.n_items, train_set.inter_num) != expected:
            raise SystemExit(
                f"expected (users, items, interactions) {expected}, RecBole holds "
                f"{(train_set.user_num, network.n_items, train_set.inter_num)}"
            )
        trainer = Trainer(config, network)

        rss = resident_bytes()
        sizes: list[int] = []
        epoch_seconds = []
        for epoch in range(arguments.epochs):
            start = time.perf_counter()
            trainer._train_epoch(counted(loader, arguments.max_steps, sizes), epoch)
            epoch_seconds.append(time.perf_counter() - start)
        trainer.tensorboard.close()

    write_report(
        arguments,
        peer="RecBole MultiVAE",
        version=recbole.__version__,
        what="Trainer._train_epoch on RecBole's UserDataLoader; no evaluation, no checkpoint",
        matrix=matrix,
        network=network,
        steps=check_steps(sizes, train_set.user_num, arguments),
        epoch_seconds=epoch_seconds,
        rss_before_training=rss,
    )


if __name__ == "__main__":
    main()
