"""What --suggest and --auto --plan print of a study, with the real adviser and without a cluster."""

from collections.abc import Callable

import pytest

from analysis.advisor import Advisor
from behavegpt.study.aim import Aim
from behavegpt.study.auto import first_lines, suggestions
from behavegpt.study.candidates import done, offers, price_of, widened
from behavegpt.study.config import of_widths
from behavegpt.study.run import Study, run_study

WIDE = {"sizes": of_widths(8, 12, 16, 24, 32), "num_events": (1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000)}


def real(study: Study) -> Callable[..., Advisor]:
    return lambda variant, target: Advisor(
        table=study.study_dir / "results.parquet", variant=variant.name, target_flops=target
    )


def test_suggestions_name_missing_cells_with_their_cost(make_study, cluster):
    study = make_study(**WIDE)
    run_study(study)
    for path in sorted((study.study_dir / "cells").glob("*-d8000.json")):
        path.unlink()
    head, *lines = suggestions(study, Aim(suggest=True, number=2, target_flops=1e12), real(study))
    assert head.startswith("erm: law of 30 cells")
    picks = [line.split() for line in lines if line.split()[-1].startswith("w") and "x2-" in line]
    assert len(picks) == 2
    wide = widened(study)
    sizes = {"1.5k": 1_500, "3k": 3_000} | {f"{k}k": 1_000 * k for k in (2, 4, 6, 8)}
    chosen = [o for pick in picks for o in offers(wide.plan) if (o.trunk, o.num_events) == (pick[-1], sizes[pick[1]])]
    assert len(chosen) == 2 and not set(chosen) & set(done(wide))
    assert float(picks[-1][3]) == pytest.approx(price_of(wide)(chosen), rel=0.05)
    assert len(cluster.rounds) == 1


def test_of_a_complete_grid_the_suggestions_lie_beyond_it(make_study, cluster):
    study = make_study()
    run_study(study)
    lines = suggestions(study, Aim(suggest=True, target_flops=1e12), real(study))
    picks = [line.split() for line in lines if " w" in line and "x2-" in line]
    assert len(picks) == 5
    known = {offer.trunk for offer in offers(study.plan)}
    assert {pick[-1] for pick in picks}.isdisjoint(known)  # 8,000 is all that 9,000 targets hold: only further trunks
    assert "not of the grid that was asked for" in lines[-1]


def test_the_plan_of_auto_names_its_first_cells(make_study):
    study = make_study(**WIDE)
    offered, head, *lines = first_lines(study, Aim(auto=True), real(study))
    # 20 and 28 lie between the grid's widths; 2,192 parameters at width 8 spare four of its data sizes, which others'
    # larger half are as well.
    assert offered == "  --auto chooses among 56 cells: widths 8, 12, 16, 20, 24, 28, 32; seeds 0, 1"
    assert "--auto begins with" in head
    assert sum(len(line.split(" D ")[1].split(", ")) for line in lines) == int(head.split()[3])
    assert not study.study_dir.exists()
