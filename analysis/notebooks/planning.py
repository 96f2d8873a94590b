# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# Planning a run

From a table of losses to a decision: how large a model on how many events a budget should train, how much a wrong
split costs, whether the answer depends on what counts as a parameter, and which small runs to add first to be surer.

Without a path, the notebook makes a table from a law that it states.
"""

# %%
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from IPython.display import SVG, display

from analysis import Candidate, Flops, GpuHours, Money, draw, fit_law, read_table, suggest, target_width, to_svg

# %% tags=["parameters"]
TABLE = None
COLUMNS = {"params_column": "N", "events_column": "D", "loss_column": "loss"}
OTHER_COUNTINGS = ["N_total"]
NUM_DRAWS = 1000
FLOPS_PER_SECOND = 4e14
"""What training sustains on one device, not the peak of its data sheet."""
PRICE_PER_GPU_HOUR = 2.5
DEVICES = 8

# %% [markdown]
# ## What was measured
#
# Without a path: 10 million to a billion parameters by 0.2 to 20 billion events of the law of Hoffmann et al. (2022),
# with 0.3 % noise. `N_total` also counts embedding tables, 1000 numbers for each root of a parameter: what counts as a
# parameter is the user's choice.

# %%
folder = tempfile.TemporaryDirectory()
if TABLE is None:
    sizes = np.geomspace(1e7, 1e9, 4)
    N, D = (axis.ravel() for axis in np.meshgrid(sizes, np.geomspace(2e8, 2e10, 6)))
    loss = 406.4 * N**-0.34 + 410.7 * D**-0.28 + 1.69
    loss = loss * np.exp(0.003 * np.random.default_rng(0).standard_normal(len(N)))
    TABLE = str(Path(folder.name) / "measured.csv")
    columns = np.stack([N, D, loss, N + 1000 * N**0.5], 1)
    np.savetxt(TABLE, columns, delimiter=",", header="N,D,loss,N_total", comments="")
table = read_table(Path(TABLE), other_params_columns=OTHER_COUNTINGS, **COLUMNS)
print(f"{len(table.points.loss)} cells, compute up to {6 * table.points.compute().max():.2g} FLOPs")

# %% [markdown]
# ## What to train with a budget
#
# A budget may be stated in FLOPs, in GPU-hours or in money. `half` and `double` are what half or twice the best N on
# the same budget adds to the loss: a wide valley forgives, and leaves room for a model that is cheaper to serve.

# %%
budgets = [
    Flops(1e21),
    GpuHours(hours=2 * DEVICES, flops_per_second=FLOPS_PER_SECOND),
    Money(amount=500, price_per_gpu_hour=PRICE_PER_GPU_HOUR, flops_per_second=FLOPS_PER_SECOND),
]
law = fit_law(table, num_draws=NUM_DRAWS, budgets=budgets)
for best in law.optima:
    low, high = best.run_interval or (np.nan, np.nan)
    print(f"{best.budget.words} = {best.flops:.2g} FLOPs")
    if not best.exists:
        print("  no best split within reach of the cells")
        continue
    print(f"  N* {best.num_params:,.0f}   D* {best.num_events:,.0f}   D*/N* {best.ratio:.3g}")
    print(f"  loss {best.loss:.4f}, of one run {low:.4f} to {high:.4f}")
    print(f"  half {best.half:+.2%}   double {best.double:+.2%}")
print(*(f"warning: {warning}" for warning in law.warnings), sep="\n")

# %%
figures = draw(law, table, None)
for name in ("optimum", "loss_by_compute", "valleys"):
    if name in figures:
        display(SVG(to_svg(figures[name])))

# %% [markdown]
# ## What counts as a parameter?
#
# The same cells under each counting. Where the answers for D*/N* differ, say which N you mean before you quote one.

# %%
print(f"{law.num_params_convention:<12} D*/N* {', '.join(f'{best.ratio:.3g}' for best in law.optima)}")
for counting in law.countings:
    print(f"{counting.num_params:<12} D*/N* {', '.join(f'{best.ratio:.3g}' for best in counting.optima)}")

# %% [markdown]
# ## What to train next
#
# The cells that shrink the interval of the loss at the first budget most per FLOP. A trunk is trained once to its
# largest data size; every further data size costs its decay, a fifth of its events.

# %%


def price(cells: Sequence[Candidate]) -> float:
    """Return the FLOPs of training these cells, sharing trunks."""
    trunks = defaultdict(list)
    for cell in cells:
        trunks[cell.trunk].append(cell)
    flops = 0.0
    for shared in trunks.values():
        events = [cell.num_events for cell in shared]
        flops += 6 * shared[0].num_params * (max(events) + 0.2 * (sum(events) - max(events)))
    return flops


known = np.unique(table.points.num_params)
new_sizes = np.sqrt(known[1:] * known[:-1])
candidates = [
    Candidate(num_params=float(size), num_events=float(events), trunk=f"new {size:.3g}")
    for size in new_sizes
    for events in np.unique(table.points.num_events)
]
print(f"interval now {target_width(law, budgets[0]):.3%} of the loss")
for choice in suggest(law, table, candidates, price, budgets[0], number=5):
    cell = choice.candidate
    print(
        f"N {cell.num_params:>12,.0f}   D {cell.num_events:>13,.0f}   {choice.cost:.2g} FLOPs"
        f"   interval then {choice.width:.3%} of the loss"
    )

# %%
folder.cleanup()
