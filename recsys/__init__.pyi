# The public names, once: for type checkers, and for `__init__.py`, which imports each from here when it is first used.
from recsys import analysis as analysis
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
from recsys.models import Recommender as Recommender
from recsys.models import load as load
from recsys.scoring import recommend_frame as recommend_frame
from recsys.scoring import score as score
from recsys.splits import Part as Part
from recsys.splits import Split as Split
from recsys.workspace import Workspace as Workspace

# isort: off
# Models, made by make docs.
from recsys.models import AAE as AAE
from recsys.models import ALI as ALI
from recsys.models import VAEGAN as VAEGAN
from recsys.models import IAutoRec as IAutoRec
from recsys.models import UAutoRec as UAutoRec
from recsys.models import ALS as ALS
from recsys.models import BPR as BPR
from recsys.models import ItemKNN as ItemKNN
from recsys.models import Popularity as Popularity
from recsys.models import Blend as Blend
from recsys.models import ClusteringAE as ClusteringAE
from recsys.models import DeepAutoRec as DeepAutoRec
from recsys.models import DeepRecommender as DeepRecommender
from recsys.models import MacridVAE as MacridVAE
from recsys.models import ELSA as ELSA
from recsys.models import FeatureConsistentAE as FeatureConsistentAE
from recsys.models import InfiniteAE as InfiniteAE
from recsys.models import GLocalK as GLocalK
from recsys.models import SparseFC as SparseFC
from recsys.models import DEQL as DEQL
from recsys.models import DLAE as DLAE
from recsys.models import EASE as EASE
from recsys.models import EDLAE as EDLAE
from recsys.models import HigherOrderEASE as HigherOrderEASE
from recsys.models import RDLAE as RDLAE
from recsys.models import BottleneckAE as BottleneckAE
from recsys.models import CDAE as CDAE
from recsys.models import ContractiveAE as ContractiveAE
from recsys.models import DenoisingAE as DenoisingAE
from recsys.models import SparseAE as SparseAE
from recsys.models import UAE as UAE
from recsys.models import SANSA as SANSA
from recsys.models import HVamp as HVamp
from recsys.models import MultDAE as MultDAE
from recsys.models import MultVAE as MultVAE
from recsys.models import RecVAE as RecVAE
from recsys.models import VAE as VAE
from recsys.models import FLVAE as FLVAE
from recsys.models import VASP as VASP
# End of the models.
# isort: on

__version__: str
