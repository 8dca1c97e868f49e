"""Write everyone's recommendations.

python pipelines/score.py models:/ml-1m-top-n@champion --output data/scored/tonight
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
