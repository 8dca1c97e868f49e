"""Train, evaluate, track and register the model of a configuration.

python pipelines/train.py pipelines/configs/multvae-ml1m.toml
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
