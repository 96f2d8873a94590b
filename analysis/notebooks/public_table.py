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
# A law from anyone's table

A CSV or Parquet file with a column for N, one for D and one for the loss is all it takes. Without a path, the
notebook makes a table from a law that it states, so that you can see whether the law comes back; then it shows what a
table that cannot give a law is told.
"""

# %%
import tempfile
from pathlib import Path

import numpy as np
from IPython.display import SVG, display

from analysis import draw, fit_law, read_table, summarize, to_svg
from behavegpt.errors import InputError

# %% tags=["parameters"]
TABLE = None
COLUMNS = {"params_column": "N", "events_column": "D", "loss_column": "loss"}
NUM_DRAWS = 1000

# %% [markdown]
# ## The table
#
# Without a path: 5 sizes by 6 data sizes of the law that Hoffmann et al. (2022) found, with 0.3 % noise.

# %%
MADE = {"params_column": "N", "events_column": "D", "loss_column": "loss"}
STATED = {"C_N": 406.4, "alpha": 0.34, "C_D": 410.7, "beta": 0.28, "L0": 1.69}
folder = tempfile.TemporaryDirectory()


def write_table(name: str, num_params: np.ndarray, num_events: np.ndarray, noise: float = 0.003) -> Path:
    """Write a table of the stated law's losses and return its path."""
    model, data = STATED["C_N"] / num_params ** STATED["alpha"], STATED["C_D"] / num_events ** STATED["beta"]
    loss = (model + data + STATED["L0"]) * np.exp(noise * np.random.default_rng(0).standard_normal(len(num_params)))
    path = Path(folder.name) / name
    np.savetxt(path, np.stack([num_params, num_events, loss], 1), delimiter=",", header="N,D,loss", comments="")
    return path


sizes, data_sizes = np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 6)
grid = [axis.ravel() for axis in np.meshgrid(sizes, data_sizes)]
path = Path(TABLE) if TABLE else write_table("stated.csv", *grid)
table = read_table(path, **COLUMNS if TABLE else MADE)
print(f"{path}: {len(table.points.loss)} cells, {len(table.dropped)} left out")

# %% [markdown]
# ## Its law, by both methods
#
# `curve_fit` is least squares on the loss, `huber` the robust fit on its logarithm. `form="auto"` takes the form that
# predicts dearer cells best; here the separable one is asked for, since the table was made with it.

# %%
law = fit_law(table, form="auto" if TABLE else "separable", num_draws=NUM_DRAWS)
print(summarize(law))
for name, (low, high) in law.intervals().items():
    values = "   ".join(f"{method} {fit.parameters[name]:.4g}" for method, fit in law.fits.items())
    stated = "" if TABLE else f"   stated {STATED[name]:g}: {'inside' if low <= STATED[name] <= high else 'outside'}"
    print(f"{name:<6} {values}   interval {low:.4g} to {high:.4g}{stated}")

# %%
for figure in draw(law, table, None).values():
    display(SVG(to_svg(figure)))

# %% [markdown]
# ## Tables that give no law
#
# Every refusal has its reason. Here D grows with N, so that nothing tells the two terms apart; then there are two sizes
# alone; then rows that no table of losses can hold, all named at once.

# %%
together = fit_law(read_table(write_table("together.csv", data_sizes / 20, data_sizes), **MADE))
two_sizes = fit_law(read_table(write_table("two.csv", np.repeat(sizes[:2], 6), np.tile(data_sizes, 2)), **MADE))
for refused in (together, two_sizes):
    print("refused:", *refused.reasons)
bad = Path(folder.name) / "bad.csv"
bad.write_text("N,D,loss\n1e7,1e9,3.1\n-2e7,1e9,2.9\n4e7,1e9,0\n")
try:
    read_table(bad, **MADE)
except InputError as error:
    print(*(f"error: {problem}" for problem in error.problems), sep="\n")

# %%
folder.cleanup()
