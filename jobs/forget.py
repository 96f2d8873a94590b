"""Forget users: remove their windows from a dataset, and mark the studies that were made from it.

    python jobs/forget.py --dataset data/checkins --users-file leaving.txt --key-file data/user.key --studies studies

Ids on the command line can be read in the process list and the shell's history; --users-file keeps them out of both.
A killed run is completed by running it again. Copies, backups and trained models elsewhere are not reached.
"""

from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from behavegpt.arguments import merge_repeats
from behavegpt.data.forget import Search, find_unknown, forget, read_ids, read_pseudonyms, search_users
from behavegpt.data.manifest import read_manifest
from behavegpt.errors import InputError, did_you_mean, exit_codes
from behavegpt.lease import lease
from behavegpt.schema import SPLITS
from behavegpt.study.stale import STALE_NAME, find_studies, made_from, mark_stale


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Forget users: remove their windows from a dataset, and mark the studies that were made from it."""

    dataset: Path
    """A directory that jobs/ingest.py wrote."""
    key_file: Path
    """The key file of the ingest: only with it can a user be found."""
    user: tuple[str, ...] = ()
    """User ids, as the raw log has them."""
    users_file: Path | None = None
    """A text file with more of them, one a line."""
    studies: tuple[Path, ...] = ()
    """Study directories, or folders of them; those made from the dataset are marked stale."""
    plan: bool = False
    """Say what would be done; change nothing."""


def main(args: Args) -> None:
    """Find the users, remove them, print what changed; no line names a user."""
    ids = read_ids(args.user, args.users_file)
    where = list(ids.values())
    manifest = read_manifest(args.dataset)
    users = read_pseudonyms(list(ids), args.key_file, args.dataset, manifest)
    studies = find_studies(args.studies)
    affected = [study for study in studies if made_from(study, {manifest.fingerprint, *manifest.replaces})]
    if args.plan:
        search = search_users(args.dataset.resolve(), manifest, users)
        if problems := find_unknown(search, where):
            raise InputError(*problems)
        print(*search_lines(search, "would forget"), *(f"would mark {s} stale" for s in affected), sep="\n")
        return
    with ExitStack() as held:
        for study in affected:
            held.enter_context(lease(study))
        mark_stale(affected, manifest.replaces)
        search, after = forget(args.dataset, users, where, on_commit=lambda now: mark_stale(affected, now.replaces))
    if not search.found.any():
        print(
            f"{args.dataset}: finished what an interrupted run had begun; no window has any of the {len(users)} users"
        )
        return
    lines = [
        *search_lines(search, "forgot"),
        f"fingerprint {manifest.fingerprint[:16]} is now {after.fingerprint[:16]}",
    ]
    print(*lines, *(f"{study}: stale, see {STALE_NAME}" for study in affected), sep="\n")


def search_lines(search: Search, verb: str) -> list[str]:
    """Return what the search found, as text."""
    total = sum(int(counts.sum()) for counts in search.num_windows.values())
    lines = [f"{verb} {search.found.sum()} users with {total:,} windows in {len(search.shards())} shards"]
    for split in SPLITS:
        windows, counts = search.manifest.splits[split].num_windows, search.num_windows[split]
        lines.append(
            f"  {split:<5}  {counts.sum():,} of {windows:,} windows, {(counts > 0).sum()} of {len(counts)} shards"
        )
    return lines


def refuse_unknown(words: list[str]) -> None:
    """Refuse words that are no option, without repeating them as tyro does: they may be user ids."""
    if words:
        names = [f"--{field.name.replace('_', '-')}" for field in fields(Args)]
        hints = "".join(did_you_mean(word.split("=")[0], names) for word in words if word.startswith("--"))
        raise InputError(f"{len(words)} of the words on the command line are no option and no value of one.{hints}")


if __name__ == "__main__":
    with exit_codes(resume_with="the same command"):
        arguments, unknown = tyro.cli(Args, args=merge_repeats(), return_unknown_args=True)
        refuse_unknown(unknown)
        main(arguments)
