"""Compare models on one split, with one budget of tuning each.

python pipelines/compare.py pipelines/configs/compare-ml1m-infae/*.toml --output data/compared/ml-1m
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
