"""Training step, loop, optimiser, schedules, weight averages, and training runs."""

from risctl.training.companions import companions as companions
from risctl.training.events import EpochResult as EpochResult
from risctl.training.events import Event as Event
from risctl.training.events import FirstBatch as FirstBatch
from risctl.training.events import Listener as Listener
from risctl.training.events import Outcome as Outcome
from risctl.training.events import Saved as Saved
from risctl.training.events import Started as Started
from risctl.training.events import StepResult as StepResult
from risctl.training.events import StopFlag as StopFlag
from risctl.training.forward import Measured as Measured
from risctl.training.forward import forward_pass as forward_pass
from risctl.training.forward import usable_precision as usable_precision
from risctl.training.metrics import FIGURES as FIGURES
from risctl.training.metrics import Figure as Figure
from risctl.training.metrics import inactive_terms as inactive_terms
from risctl.training.metrics import moved_share as moved_share
from risctl.training.plan import TrainingPlan as TrainingPlan
from risctl.training.plan import scene_streams as scene_streams
from risctl.training.process_group import launched_rank as launched_rank
from risctl.training.process_group import launched_size as launched_size
from risctl.training.run import changed_keys as changed_keys
from risctl.training.run import run_training as run_training
