"""Check the recipe's learning rate: rates around the rule at a few widths and one small D, over several seeds.

    ray job submit -- python jobs/calibrate.py --dataset data/demo

Prints the losses, the best rate of each width, the rule that fits them with its scatter, and the noise between seeds,
which a study with one seed has no other way to know. A rerun trains only what is missing.
"""

import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from behavegpt.arguments import parse
from behavegpt.config import plain
from behavegpt.errors import exit_codes
from behavegpt.files import replace_file
from behavegpt.lease import check_free
from behavegpt.study.calibration import calibrate, calibration_lines, calibration_study
from behavegpt.study.estimate import estimate_seconds, plan_lines
from behavegpt.study.run import open_study, run_study
from behavegpt.train.config import ExecutionConfig


@dataclass(frozen=True, kw_only=True)
class Args:
    dataset: Path
    """Dataset directory from jobs/ingest.py or jobs/synthesize.py."""
    out: Path = Path("studies/calibration")
    """Where cells and calibration.json go."""
    widths: tuple[int, ...] = (16, 40, 96)
    num_events: int = 50_000
    """Unique training targets of every run."""
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Rates to try, over the rule's."""
    seeds: tuple[int, ...] = (0, 1, 2)
    plan: bool = False
    """Print what would be trained, and its cost; train nothing."""
    execution: Annotated[ExecutionConfig, tyro.conf.arg(name="")] = field(default_factory=ExecutionConfig)


def main(args: Args) -> None:
    check_free(args.out)
    config = calibration_study(args.widths, args.num_events, args.factors, args.seeds, args.execution)
    study = open_study(config, args.dataset, args.out)
    print(
        *plan_lines(study.plan, study.manifest, estimate_seconds(study.missing(), study.manifest)), sep="\n", flush=True
    )
    if args.plan:
        return
    wanted = {cell.cell_id for job in study.plan.jobs for cell in job.cells}
    result = calibrate([row for row in run_study(study).to_pylist() if row["cell_id"] in wanted])
    replace_file(args.out / "calibration.json", json.dumps(plain(result), indent=1))
    print(*calibration_lines(result), sep="\n", flush=True)


if __name__ == "__main__":
    with exit_codes(resume_with=shlex.join(["python", *sys.argv])):
        main(parse(Args, description=__doc__))
