"""Print recommendations by title.

python pipelines/recommend.py models:/ml-1m-top-n@champion --user 42
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["recommend", *sys.argv[1:]]))
