"""Turn a raw behaviour log into a dataset directory, and print what it holds and what was dropped.

    python jobs/ingest.py --input checkins.csv.gz --user user_id --timestamp timestamp --event poi_id \\
        --behavior category --location poi_id --timezone America/New_York --out data/checkins

Next: jobs/scaling_grid.py trains a grid of models on the directory.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from behavegpt.data.card import card_lines
from behavegpt.data.ingest import ingest
from behavegpt.data.logs import Columns
from behavegpt.data.times import TimeUnit
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import exit_codes


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Turn a raw behaviour log into a dataset directory."""

    input: Path
    """One file with one event a row, in any order: .csv, .csv.gz or .parquet."""
    out: Path
    """The dataset directory to make; it must not exist yet."""
    user: str
    """Column of who acted. Its values are replaced by numbers and stored nowhere."""
    timestamp: str
    """Column of when: ISO 8601 text, epoch numbers, or Parquet timestamps. Without a UTC offset it is local time."""
    event: str
    """Column of what happened. Its values are stored in the dataset, so map no column that identifies people."""
    behavior: str | None = None
    """Column of the class to predict; empty cells stay in the history unscored. Without it, the event is the class."""
    location: str | None = None
    """Column of where it happened. Without it, locations are missing."""
    timezone: str = "UTC"
    """IANA name of the users' time zone, for the local weekday and half hour of each event."""
    time_unit: TimeUnit = "auto"
    """Unit of a numeric time column; auto means seconds."""
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)
    """Shares of the events in train, val and test: the earliest are train, the latest test."""
    seed: int = 0
    """Of the users' numbers and of the shuffle of the windows."""


def main(args: Args) -> None:
    """Ingest and print the card."""
    columns = Columns(
        user=args.user, timestamp=args.timestamp, event=args.event, behavior=args.behavior, location=args.location
    )
    manifest = ingest(
        args.input,
        args.out,
        columns=columns,
        timezone=args.timezone,
        time_unit=args.time_unit,
        split=args.split,
        seed=args.seed,
    )
    behaviors = read_vocabulary(args.out / "vocab" / "behavior.parquet")
    print("\n".join(card_lines(manifest, behaviors)))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    with exit_codes():
        main(tyro.cli(Args))
