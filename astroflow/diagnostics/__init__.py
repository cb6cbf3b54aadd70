"""Whether a posterior is to be trusted, in numbers; `astroflow.plots` draws them.

Start with `calibrate`, which gathers everything a validation run says into one `CalibrationReport`. One concept per file.

- One parameter at a time: `ranks` (where the truth falls among the draws), `bands` (how far chance alone goes), `coverage`,
  `sharpness`, `accuracy`, `conformal` (by what factor error bars are off).
- All parameters together: `highest_density`, `tarp`, both of them in `joint`; `log_score`.
- In bins of what the data say: `local`; image by image: `local_c2st`, judged in `local_verdict`.
- Against what is known: `reference` (exact posteriors), `two_sample` (two sets of draws), `baseline` (a plain regression),
  `comparison`, `point_accuracy` and `estimated_accuracy` (catalogs), `residuals` (images).
- `known` is a problem with planted faults, to try all of them on.

Arrays are ``(images, draws, parameters)`` throughout.
"""

from astroflow.diagnostics.accuracy import Accuracy as Accuracy
from astroflow.diagnostics.accuracy import accuracy as accuracy
from astroflow.diagnostics.baseline import LinearGaussianBaseline as LinearGaussianBaseline
from astroflow.diagnostics.calibration import calibrate as calibrate
from astroflow.diagnostics.calibration_report import CalibrationReport as CalibrationReport
from astroflow.diagnostics.comparison import Comparison as Comparison
from astroflow.diagnostics.comparison import compare as compare
from astroflow.diagnostics.conformal import Conformal as Conformal
from astroflow.diagnostics.conformal import conformal_factors as conformal_factors
from astroflow.diagnostics.coverage import Coverage as Coverage
from astroflow.diagnostics.coverage import central_coverage as central_coverage
from astroflow.diagnostics.coverage import region_coverage as region_coverage
from astroflow.diagnostics.estimated_accuracy import EstimatedAccuracy as EstimatedAccuracy
from astroflow.diagnostics.estimated_accuracy import estimated_accuracy as estimated_accuracy
from astroflow.diagnostics.highest_density import density_credibility as density_credibility
from astroflow.diagnostics.joint import JointTests as JointTests
from astroflow.diagnostics.joint import joint_tests as joint_tests
from astroflow.diagnostics.local import Bins as Bins
from astroflow.diagnostics.local import LocalCalibration as LocalCalibration
from astroflow.diagnostics.local import Outcome as Outcome
from astroflow.diagnostics.local import calibrate_locally as calibrate_locally
from astroflow.diagnostics.local import fixed_bins as fixed_bins
from astroflow.diagnostics.local import quantile_bins as quantile_bins
from astroflow.diagnostics.local_c2st import LocalC2ST as LocalC2ST
from astroflow.diagnostics.local_c2st import local_c2st as local_c2st
from astroflow.diagnostics.local_verdict import LocalVerdict as LocalVerdict
from astroflow.diagnostics.local_verdict import judge_images as judge_images
from astroflow.diagnostics.log_score import LogScore as LogScore
from astroflow.diagnostics.log_score import log_score as log_score
from astroflow.diagnostics.log_score import log_score_gain as log_score_gain
from astroflow.diagnostics.point_accuracy import PointAccuracy as PointAccuracy
from astroflow.diagnostics.point_accuracy import point_accuracy as point_accuracy
from astroflow.diagnostics.ranks import ecdf_difference as ecdf_difference
from astroflow.diagnostics.ranks import joint_pit as joint_pit
from astroflow.diagnostics.ranks import ks_uniform as ks_uniform
from astroflow.diagnostics.ranks import pit as pit
from astroflow.diagnostics.ranks import rank_histogram as rank_histogram
from astroflow.diagnostics.residuals import Residuals as Residuals
from astroflow.diagnostics.residuals import residuals as residuals
from astroflow.diagnostics.sharpness import Sharpness as Sharpness
from astroflow.diagnostics.sharpness import sharpness as sharpness
from astroflow.diagnostics.tarp import image_references as image_references
from astroflow.diagnostics.tarp import random_references as random_references
from astroflow.diagnostics.tarp import tarp as tarp
from astroflow.diagnostics.two_sample import c2st as c2st
from astroflow.diagnostics.two_sample import sliced_wasserstein as sliced_wasserstein
