"""The script that MLflow executes to load a logged model; see `recsys.tracking.log_model`."""

from recsys.tracking import set_pyfunc_model

set_pyfunc_model()
