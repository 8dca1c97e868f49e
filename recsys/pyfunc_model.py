"""What MLflow runs to get a logged model; see `recsys.tracking.log_model`."""

from recsys.tracking import set_pyfunc_model

set_pyfunc_model()
