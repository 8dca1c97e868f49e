"""The script that MLflow executes to load a logged model; see `recsys.tracking.log_model`."""

import sys
from pathlib import Path

# The package lies beside the model as one file, because a server takes the same time for a small file and for a large.
package = Path(__file__).with_name("code") / "recsys.zip"
if package.is_file() and str(package) not in sys.path:
    sys.path.insert(0, str(package))

from recsys.tracking import set_pyfunc_model  # noqa: E402 - found by the path above

set_pyfunc_model()
