"""The forms of a law: parameters and (N, D, epochs) in, loss and its gradient out; `Form` is any of them.

points     the cells that a fit sees
base       what a form is: value, derivatives, bounds, change of units, where a fit starts
power_sum  separable (the paper's), tied exponents, coupled
repeats    unique events and epochs (Muennighoff et al. 2023); farseer: Farseer's nine parameters
single     one axis alone: N, D or compute
"""

from typing import Final, Literal, get_args

from analysis.forms.base import Form
from analysis.forms.farseer import Farseer
from analysis.forms.points import Points
from analysis.forms.power_sum import Coupled, Separable, Tied
from analysis.forms.repeats import Repeats
from analysis.forms.single import SingleAxis

FormName = Literal["separable", "tied", "coupled", "repeats", "farseer", "params", "events", "compute"]
FORM_NAMES: Final[tuple[FormName, ...]] = get_args(FormName)


def form_of(name: FormName) -> Form:
    """Return the form of a name."""
    match name:
        case "separable":
            return Separable()
        case "tied":
            return Tied()
        case "coupled":
            return Coupled()
        case "repeats":
            return Repeats()
        case "farseer":
            return Farseer()
        case "params" | "events" | "compute":
            return SingleAxis(name)


__all__ = [
    "FORM_NAMES",
    "Coupled",
    "Farseer",
    "Form",
    "FormName",
    "Points",
    "Repeats",
    "Separable",
    "SingleAxis",
    "Tied",
    "form_of",
]
