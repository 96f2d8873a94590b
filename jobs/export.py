"""Export a trained model: weights, configuration, vocabularies and a card, for torch and safetensors alone.

    python jobs/export.py --checkpoint models/nyc-w64/checkpoints/w64x2-s0-1a2b3c4d/final-2000000 --out exported/nyc-w64

A robust loss trains under other class frequencies than the data's; --prior-correction 1 predicts for the data's.

Next: load it with behavegpt.train.saved.load_model, or read its README.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from behavegpt.arguments import parse
from behavegpt.errors import InputError, exit_codes
from behavegpt.study.journal import read_cells
from behavegpt.train.export import export_model, read_checked


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Export a trained model."""

    checkpoint: Path
    """A checkpoint of a run: the last line that jobs/pretrain.py prints, or any other under checkpoints/."""
    out: Path
    """A new directory for the model."""
    dataset: Path | None = None
    """The dataset that it was trained on; default the one that the run's plan.json names."""
    prior_correction: float = 0.0
    """How far the classes' log-odds move from the frequencies under which a robust loss trained to those of the data: 1
    is the whole way, 0 not at all. What jobs/generate.py and jobs/predict.py need of such a model."""


def main(args: Args) -> None:
    content = read_checked(args.checkpoint)
    run = (args.checkpoint / ".." / ".." / "..").resolve()
    dataset, row = args.dataset or _dataset_of(run), _row_of(run, args.checkpoint)
    out = export_model(args.checkpoint, dataset, args.out, row, args.prior_correction)
    print(f"{content['name']} of {args.checkpoint.resolve().parent.name}: wrote {out}")


def _dataset_of(run: Path) -> Path:
    """Return the dataset of a run, from its plan."""
    try:
        return Path(json.loads((run / "plan.json").read_text(encoding="utf-8"))["dataset"]["path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{run / 'plan.json'}: names no dataset ({type(error).__name__}); give --dataset") from error


def _row_of(run: Path, checkpoint: Path) -> dict[str, Any] | None:
    """Return the row of the cell whose end the checkpoint is; None for one on the way."""
    trunk_id, name = checkpoint.resolve().parent.name, checkpoint.resolve().name
    for row in read_cells(run):
        if (row["trunk_id"], f"final-{row['num_events']}", row["status"]) == (trunk_id, name, "completed"):
            return row
    return None


if __name__ == "__main__":
    with exit_codes():
        main(parse(Args))
