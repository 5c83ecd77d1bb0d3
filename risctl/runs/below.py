"""Names of the layers below that callers of `risctl.runs` need beside it."""

from risctl.config.search import setting as setting
from risctl.config.toml import toml_value as toml_value
from risctl.evaluation import TextTable as TextTable
from risctl.evaluation import headline as headline
from risctl.evaluation import sweep_headline as sweep_headline
from risctl.evaluation import sweep_table as sweep_table
from risctl.evaluation.axes import parse_sweeps as parse_sweeps
from risctl.evaluation.summary import evaluation_tables as evaluation_tables
from risctl.evaluation.summary import summary_table as summary_table
from risctl.hpo import TrialEnded as TrialEnded
from risctl.hpo import TrialEpoch as TrialEpoch
from risctl.hpo import TrialRetried as TrialRetried
from risctl.hpo import TrialStarted as TrialStarted
from risctl.hpo.files import BEST as BEST
from risctl.hpo.files import direction as direction
from risctl.hpo.files import split_parameters as split_parameters
from risctl.hpo.importance import MIN_TRIALS as MIN_TRIALS
from risctl.hpo.plan import ELSEWHERE as ELSEWHERE
from risctl.plots.captions import pictures as pictures
from risctl.training import FIGURES as FIGURES
from risctl.training import EpochResult as EpochResult
from risctl.training import FirstBatch as FirstBatch
from risctl.training import Started as Started
from risctl.training import StepResult as StepResult
from risctl.training import StopFlag as StopFlag
