"""Write a synthetic behaviour log, whose entropy floor is known exactly, as a dataset directory or as a raw log.

    python jobs/synthesize.py --out data/demo
    python jobs/synthesize.py --out data/visits --domain mobility --floors val test
    python jobs/synthesize.py --raw events.csv.gz --num-train-events 20000000 --num-users 20000

Next: jobs/scaling_grid.py trains a grid of models on the directory; the floor is what its law should find as L0. A raw
log is for trying jobs/ingest.py.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from behavegpt.arguments import parse
from behavegpt.data.card import card_lines, write_card
from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.manifest import Floor, Manifest
from behavegpt.data.synthetic import domains
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.generator import write_generated
from behavegpt.data.synthetic.raw import write_raw_log
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError, exit_codes

DOMAINS = {"phone": domains.phone, "app": domains.app, "mobility": domains.mobility}


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Write a synthetic log: a domain's, but for what the flags change."""

    out: Path | None = None
    """The dataset directory to make; it must not exist yet."""
    raw: Path | None = None
    """The raw log to make, .csv, .csv.gz or .parquet, in place of --out."""
    domain: Literal["phone", "app", "mobility"] = "phone"
    """phone: 39 behaviours, 114 events (the demo's); app: 2,000 of both; mobility: 14 intents, 24,435 places."""
    num_train_events: int | None = None
    """Training targets, rounded up to whole windows of 90; default the domain's."""
    num_val_windows: int | None = None
    """Validation windows of 90 targets; default the domain's."""
    num_test_windows: int | None = None
    """Test windows of 90 targets; default the domain's."""
    num_users: int | None = None
    """Users that each split is spread over; default the domain's."""
    world_seed: int = 0
    """Of the population's rhythms and habits."""
    seed: int = 0
    """Of the users and their events."""
    floors: tuple[Literal["train", "val", "test"], ...] = ("val",)
    """Splits whose entropy floor to compute; val's always is."""
    raw_time: Literal["iso", "epoch"] = "iso"
    """Times of the raw log: ISO 8601 (in Parquet timestamps), or seconds since 1970."""
    num_workers: int = 1
    """Threads that draw and write; the bytes do not depend on it."""


def main(args: Args) -> None:
    sizes = ("num_train_events", "num_val_windows", "num_test_windows", "num_users")
    given = {name: getattr(args, name) for name in sizes if getattr(args, name) is not None}
    config = replace(DOMAINS[args.domain](), world_seed=args.world_seed, seed=args.seed, **given)
    if args.num_workers < 1:
        raise InputError(f"num_workers is {args.num_workers}; allowed: 1 or more")
    if args.raw is not None and args.out is None:
        synthesize_raw(args, args.raw, config)
    elif args.out is not None and args.raw is None:
        synthesize_dataset(args, args.out, config)
    else:
        raise InputError("give one of --out (a dataset directory) and --raw (a raw log)")


def synthesize_dataset(args: Args, out: Path, config: GeneratorConfig) -> None:
    """Write a dataset directory and print its card."""
    begin = time.perf_counter()
    manifest = write_generated(
        out, config, name=out.name, floors=args.floors, run=local_executor(args.num_workers), finish=write_card
    )
    wall_s = time.perf_counter() - begin
    behaviors = read_vocabulary(out / "vocab" / "behavior.parquet")
    print("\n".join([*card_lines(manifest, behaviors), *floor_lines(manifest)]))
    num_targets = sum(split.num_targets for split in manifest.splits.values())
    print(f"wrote {out} in {wall_s:.1f} s, {num_targets / wall_s:,.0f} targets/s")
    print(f"wrote {out / 'card.html'}")


def synthesize_raw(args: Args, path: Path, config: GeneratorConfig) -> None:
    """Write a raw log and print how to ingest it."""
    begin = time.perf_counter()
    num_rows = write_raw_log(path, config, epoch=args.raw_time == "epoch", run=local_executor(args.num_workers))
    wall_s = time.perf_counter() - begin
    print(f"wrote {path}: {num_rows:,} events of {config.num_users:,} users in {wall_s:.1f} s")
    columns = " ".join(f"--{name} {name}" for name in ("user", "timestamp", "event", "behavior", "location"))
    print(f"next: python jobs/ingest.py --input {path} {columns} --out <dataset>")


def floor_lines(manifest: Manifest) -> list[str]:
    """Return what backs the floors: the behaviours as drawn, and the targets whose history training cannot explain."""
    hidden = manifest.counts["val_targets_after_other"]
    floors = {split: Floor(**values) for split, values in manifest.source["floors"].items()}
    return [
        *(
            f"  {split}: floor {f.entropy_nats:.4f} nats; as drawn on {f.num_targets:,} {split} targets "
            f"{f.sampled_nats:.4f} +- {f.sampled_stderr:.4f}"
            for split, f in floors.items()
        ),
        f"  {hidden:,} val targets follow a place or an event shown as 'other', whose habit the floor still knows",
    ]


if __name__ == "__main__":
    with exit_codes():
        main(parse(Args))
