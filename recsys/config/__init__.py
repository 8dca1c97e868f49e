"""Job configuration: a TOML file, checked as a whole before any work starts."""

from recsys.config.data import DataConfig, SplitConfig
from recsys.config.loading import check_config, import_modules, load_config, load_configs
from recsys.config.sections import (
    EvaluateConfig,
    JobConfig,
    Range,
    TrackConfig,
    TrainConfig,
    TuneConfig,
    check_metrics,
)

__all__ = [
    "DataConfig",
    "EvaluateConfig",
    "JobConfig",
    "Range",
    "SplitConfig",
    "TrackConfig",
    "TrainConfig",
    "TuneConfig",
    "check_config",
    "check_metrics",
    "import_modules",
    "load_config",
    "load_configs",
]
