"""The figures of a report: a law and its table in, matplotlib figures by file name out, and their SVG text.

style   how every figure looks; loss: the cells and the law along N, D and compute
optimum IsoFLOP valleys and the optimal split; checks: residuals, ladder, parameters; learning: loss while training
"""

from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from analysis.curves import Curve
from analysis.figures.checks import plot_ladder, plot_parameters, plot_residuals
from analysis.figures.learning import plot_learning
from analysis.figures.loss import plot_compute, plot_loss
from analysis.figures.optimum import plot_optimum, plot_valleys
from analysis.figures.style import STYLE, to_svg
from analysis.law import Law
from analysis.table import Table

__all__ = ["draw", "to_svg"]


def draw(law: Law, table: Table, floor: float | None, curves: Sequence[Curve] = ()) -> dict[str, Figure]:
    """Return the figures by file name.

    Args:
        law: The law; a refused one draws its cells without curves.
        table: Its cells.
        floor: The entropy that no model can beat, where the data's generator knows it.
        curves: Training losses of a study's runs.
    """
    with matplotlib.rc_context(STYLE):
        figures = {}
        if law.n_used:
            figures["loss_by_events"] = plot_loss(law, table, floor, along_events=True)
            figures["loss_by_params"] = plot_loss(law, table, floor, along_events=False)
            figures["loss_by_compute"] = plot_compute(law, table, floor)
        if law.valleys:
            figures["valleys"] = plot_valleys(law)
        if law.fits and not law.refused:
            figures["residuals"] = plot_residuals(law, table)
            figures["parameters"] = plot_parameters(law)
            if law.contest and law.contest.errors:
                figures["ladder"] = plot_ladder(law.contest, law.flops_per_param_event)
            if law.optima:
                figures["optimum"] = plot_optimum(law, table)
        if curves:
            figures["learning"] = plot_learning(curves)
        return figures
