# The public names, once: for type checkers, and for `__init__.py`, which imports each from here when it is first used.
from recsys import datasets as datasets
from recsys import errors as errors
from recsys import export as export
from recsys import metrics as metrics
from recsys import models as models
from recsys import promotion as promotion
from recsys import report as report
from recsys import splits as splits
from recsys import tracking as tracking
from recsys import tuning as tuning
from recsys.data_report import DataReport as DataReport
from recsys.data_report import describe as describe
from recsys.data_report import leaks as leaks
from recsys.evaluation import Comparison as Comparison
from recsys.evaluation import Evaluation as Evaluation
from recsys.evaluation import Validation as Validation
from recsys.evaluation import activity_groups as activity_groups
from recsys.evaluation import cold_user_curve as cold_user_curve
from recsys.evaluation import compare as compare
from recsys.evaluation import evaluate as evaluate
from recsys.evaluation import intervals as intervals
from recsys.ids import IdMap as IdMap
from recsys.interactions import Interactions as Interactions
from recsys.models import *
from recsys.models import Recommender as Recommender
from recsys.models import load as load
from recsys.scoring import recommend_frame as recommend_frame
from recsys.scoring import score as score
from recsys.splits import Part as Part
from recsys.splits import Split as Split
from recsys.workspace import Workspace as Workspace

__version__: str
