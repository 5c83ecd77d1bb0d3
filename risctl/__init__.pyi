from .api import calibrate_surface as calibrate_surface
from .api import check_alignment as check_alignment
from .api import evaluate as evaluate
from .api import load_model as load_model
from .api import load_surface as load_surface
from .api import locate as locate
from .api import overfit as overfit
from .api import search as search
from .api import simulate as simulate
from .api import sweep as sweep
from .api import train as train
from .config import Config as Config
from .config import load_config as load_config
from .data import read_measurements as read_measurements
from .data import write_measurements as write_measurements
from .errors import InputError as InputError
from .errors import RisctlError as RisctlError
from .runs.calibrated import CalibratedSurface as CalibratedSurface
from .runs.located import Located as Located

__version__: str
