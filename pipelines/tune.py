"""Search for a model's hyperparameters on the validation part.

python pipelines/tune.py pipelines/configs/ease-ml1m-infae.toml --output best.toml
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
