"""Turn a raw behaviour log, of any size, into a dataset directory, and print what it holds and what was dropped.

    python jobs/ingest.py --input checkins.csv.gz --user user_id --timestamp timestamp --event poi_id \\
        --behavior category --location poi_id --timezone America/New_York --out data/checkins
    python jobs/ingest.py --preset lsapp --input lsapp.tsv --out data/lsapp
    python jobs/ingest.py --use-ray --memory-gb 8 --input s3://bucket/logs ... --out /shared/data/logs

Next: look at the card.html in it; jobs/scaling_grid.py trains a grid of models on the directory.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from behavegpt.arguments import parse
from behavegpt.data.card import card_lines, write_card
from behavegpt.data.ingest.executor import local_executor, ray_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.request import LogRequest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import exit_codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Turn a raw behaviour log, of any size, into a dataset directory."""

    log: Annotated[LogRequest, tyro.conf.arg(name="")]
    out: Path
    """The dataset directory to make; it must not exist yet."""
    options: tyro.conf.OmitArgPrefixes[IngestOptions] = field(default_factory=IngestOptions)
    use_ray: bool = False
    """Run the tasks on the Ray cluster; --out must then be on storage that its nodes share."""


def main(args: Args) -> None:
    """Ingest, with the card, and print it."""
    run = ray_executor() if args.use_ray else local_executor(max(1, args.options.num_workers))
    log, out = (args.log.from_root(), args.out.absolute()) if args.use_ray else (args.log, args.out)
    manifest = ingest(log.to_spec(), out, options=args.options, run=run, finish=write_card)
    behaviors = read_vocabulary(args.out / "vocab" / "behavior.parquet")
    print("\n".join(card_lines(manifest, behaviors)))
    print(f"wrote {args.out / 'card.html'}")


if __name__ == "__main__":
    with exit_codes():
        main(parse(Args))
