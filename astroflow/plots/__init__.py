"""Drawing only: what `astroflow.diagnostics` and posteriors return, as matplotlib figures.

Every ``plot_x`` returns a `matplotlib.figure.Figure` that belongs to nobody else: no pyplot window, no global setting, no file. Write
one with `save_figure`; the same figure gives the same bytes. References (diagonal, zero line, chance band) are always drawn.
"""

from astroflow.plots.calibration import plot_accuracy as plot_accuracy
from astroflow.plots.calibration import plot_calibration as plot_calibration
from astroflow.plots.comparison import plot_comparison as plot_comparison
from astroflow.plots.contact_sheet import plot_contact_sheet as plot_contact_sheet
from astroflow.plots.corner import plot_corner as plot_corner
from astroflow.plots.learning_curve import plot_learning_curve as plot_learning_curve
from astroflow.plots.residual import plot_residual as plot_residual
from astroflow.plots.style import save_figure as save_figure
from astroflow.plots.style import style as style
