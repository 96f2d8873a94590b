"""Write a synthetic behaviour log, whose entropy floor is known exactly, as a dataset directory.

    python jobs/synthesize.py --out data/demo

Next: jobs/scaling_grid.py trains a grid of models on the directory; the floor is what its law should find as L0.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from behavegpt.data.card import card_lines
from behavegpt.data.generator import demo, write_generated
from behavegpt.data.manifest import Floor, Manifest
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import exit_codes

DEFAULT = demo()


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Write a synthetic log: the embedded demo's, but for what the flags change."""

    out: Path
    """The dataset directory to make; it must not exist yet."""
    num_train_events: int = DEFAULT.num_train_events
    """Training targets, rounded up to whole windows of 90."""
    num_users: int = DEFAULT.num_users
    """Users that each split is spread over."""
    world_seed: int = DEFAULT.world_seed
    """Of the population's rhythms and habits."""
    seed: int = DEFAULT.seed
    """Of the users and their events."""


def main(args: Args) -> None:
    """Write the log and print its card."""
    config = replace(
        DEFAULT,
        num_train_events=args.num_train_events,
        num_users=args.num_users,
        world_seed=args.world_seed,
        seed=args.seed,
    )
    begin = time.perf_counter()
    manifest = write_generated(args.out, config, name=args.out.name)
    wall_s = time.perf_counter() - begin
    behaviors = read_vocabulary(args.out / "vocab" / "behavior.parquet")
    print("\n".join([*card_lines(manifest, behaviors), *floor_lines(manifest)]))
    num_targets = sum(split.num_targets for split in manifest.splits.values())
    print(f"wrote {args.out} in {wall_s:.1f} s, {num_targets / wall_s:,.0f} targets/s")


def floor_lines(manifest: Manifest) -> list[str]:
    """Return what backs the floor: the behaviours as drawn, and the targets whose history training cannot explain."""
    floor = manifest.floor
    assert isinstance(floor, Floor), "a generated log has a floor"
    hidden = manifest.counts["val_targets_after_other"]
    return [
        f"  as drawn on {floor.num_targets:,} val targets: {floor.sampled_nats:.4f} +- {floor.sampled_stderr:.4f} nats",
        f"  of these, {hidden:,} follow a place or an event type shown as 'other', whose habit the floor still knows",
    ]


if __name__ == "__main__":
    with exit_codes():
        main(tyro.cli(Args))
