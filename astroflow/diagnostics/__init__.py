"""Whether a posterior is to be trusted, in numbers; `astroflow.plots` draws them.

Start with `calibrate`, which gathers everything a validation run says into one `CalibrationReport`. One concept per file: `ranks`
(where the truth falls among the draws), `bands` (how far chance alone goes), `coverage`, `accuracy`, `log_score`, `baseline`
(what a plain regression already knows), `residuals`, `comparison` and `reference` (posteriors that are known).
Arrays are ``(images, draws, parameters)`` throughout.
"""

from astroflow.diagnostics.accuracy import Accuracy as Accuracy
from astroflow.diagnostics.accuracy import accuracy as accuracy
from astroflow.diagnostics.baseline import LinearGaussianBaseline as LinearGaussianBaseline
from astroflow.diagnostics.calibration import CalibrationReport as CalibrationReport
from astroflow.diagnostics.calibration import calibrate as calibrate
from astroflow.diagnostics.comparison import Comparison as Comparison
from astroflow.diagnostics.comparison import compare as compare
from astroflow.diagnostics.coverage import Coverage as Coverage
from astroflow.diagnostics.coverage import central_coverage as central_coverage
from astroflow.diagnostics.log_score import LogScore as LogScore
from astroflow.diagnostics.log_score import log_score as log_score
from astroflow.diagnostics.log_score import log_score_gain as log_score_gain
from astroflow.diagnostics.ranks import ecdf_difference as ecdf_difference
from astroflow.diagnostics.ranks import joint_pit as joint_pit
from astroflow.diagnostics.ranks import ks_uniform as ks_uniform
from astroflow.diagnostics.ranks import pit as pit
from astroflow.diagnostics.ranks import rank_histogram as rank_histogram
from astroflow.diagnostics.residuals import Residuals as Residuals
from astroflow.diagnostics.residuals import residuals as residuals
