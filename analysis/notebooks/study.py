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
# Results of a study

Reads the directory of a study that `jobs/scaling_grid.py` swept, finished or still running: where every cell stands,
its learning curves, the law of each variant with residuals and held-out ladder, and the variants side by side.

`jupytext --to notebook --execute analysis/notebooks/study.py` runs it; JupyterLab opens it as a notebook.
"""

# %%
from collections import Counter
from pathlib import Path

from IPython.display import SVG, display

from analysis import Flops, Law, draw, fit_law, read_study, read_table, summarize, to_svg

# %% tags=["parameters"]
STUDY_DIR = "studies/demo"
NUM_DRAWS = 1000

# %% [markdown]
# ## Where every cell stands
#
# A cell is *running* when its trunk has begun and it has no result yet; one that ended without a loss has its reason.

# %%
study = read_study(Path(STUDY_DIR))
counts = Counter(cell.status for cell in study.cells)
print(f"{len(study.cells)} cells:", ", ".join(f"{count} {status}" for status, count in counts.most_common()))
for cell in study.cells:
    if not cell.completed:
        trained = "" if cell.reached is None else f"{cell.reached:,} of {cell.num_events:,.0f} events"
        print(f"  {cell.cell_id:<32} {cell.status:<10} {trained:<28} {cell.reason}")
if study.stale:
    print(f"stale since {study.stale.marked_at}: {study.stale.reason}")
for trunk_id, note in study.notes:
    print(f"{trunk_id}: {note}")

# %% [markdown]
# ## Branches against runs of their own

# %%
for run in study.branch_check:
    if None in (run.branch, run.independent, run.cosine):
        print(f"{run.cell_id:<32} not all of its runs have a loss")
        continue
    print(
        f"{run.cell_id:<32} branch {run.branch:.5f}   own run {run.independent - run.branch:+.1e}"
        f"   cosine {run.cosine - run.branch:+.4f}"
    )
if not study.branch_check:
    print("not checked; jobs/scaling_grid.py --check-branches 4 does it")

# %% [markdown]
# ## The law of each variant
#
# Learning curves, the law with its intervals, what it leaves over, and how laws of cheaper cells predict dearer ones.

# %%
laws: dict[str, Law] = {}
for variant in study.variants:
    table = read_table(study.path / "results.parquet", variant=variant)
    curves = [curve for curve in study.curves if curve.trunk_id in {cell.trunk_id for cell in study.of(variant)}]
    law = laws[variant] = fit_law(table, num_draws=NUM_DRAWS)
    print(f"== {variant}")
    print("refused: " + " ".join(law.reasons) if law.refused else summarize(law))
    figures = draw(law, table, study.floor, curves)
    for name in ("learning", "loss_by_events", "loss_by_params", "residuals", "ladder"):
        if name in figures:
            display(SVG(to_svg(figures[name])))

# %% [markdown]
# ## Variants side by side
#
# All by the separable form, so that parameters compare, and the loss that each law promises for the same budget.

# %%
if len(laws) > 1:
    budget = Flops(max(row["flops"] for row in study.rows if row["status"] == "completed"))
    for variant in laws:
        table = read_table(study.path / "results.parquet", variant=variant)
        law = fit_law(table, form="separable", num_draws=NUM_DRAWS, budgets=[budget])
        if law.refused:
            print(f"== {variant}: refused:", *law.reasons)
            continue
        best = law.optima[0]
        found = f"loss {best.loss:.4f}, N* {best.num_params:,.0f}" if best.exists else "no best split within reach"
        print(f"== {variant}: {found} at {budget.words}")
        for name, (low, high) in law.intervals().items():
            print(f"  {name:<8} {law.fit.parameters[name]:>10.4g}   {low:.4g} to {high:.4g}")
else:
    print("one variant: nothing to compare")
