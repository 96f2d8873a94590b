"""Rewrite the shards that hold windows of some users, without those windows.

In: a dataset directory and pseudonyms. Out: the dataset without them, under a new fingerprint. New files go to a folder
of their own (r1/, then r2/, ...), which is part of the dataset from the moment at which manifest.json is replaced: a
kill before it leaves the old dataset, a kill after it the new one. The files that were replaced are deleted after that,
and as long as one is there the work is not done: `verify_dataset` names it, and the next run deletes it.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavegpt.data.card import write_card
from behavegpt.data.forget.leftovers import find_replaced, remove_prepared, remove_replaced
from behavegpt.data.forget.tally import Tally, reduce_counts, reduce_vocabulary, tally_events
from behavegpt.data.ingest.executor import Executor, local_executor
from behavegpt.data.lanes import DIGITS, read_row_groups, stored_order
from behavegpt.data.manifest import MANIFEST_NAME, Manifest, Shard, read_manifest
from behavegpt.data.shards import write_shard
from behavegpt.data.vocab import read_vocabulary, write_vocabulary
from behavegpt.data.windows import Windows, concatenate, from_table
from behavegpt.errors import InputError
from behavegpt.files import fsync, replace_file, sha256_of
from behavegpt.lease import lease
from behavegpt.schema import SPLITS, VOCABULARIES, window_schema


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Where windows of the users are."""

    manifest: Manifest
    """Of the dataset that was searched."""
    found: np.ndarray
    """(F,) booleans: has the user a window?"""
    num_windows: Mapping[str, np.ndarray]
    """Per split the users' windows in each of its shards."""

    def shards(self) -> list[tuple[str, int]]:
        """Return split and index of every shard that holds such a window."""
        return [(split, int(index)) for split, counts in self.num_windows.items() for index in np.flatnonzero(counts)]


def search_users(directory: Path, manifest: Manifest, users: np.ndarray) -> Search:
    """Return where windows of the users are; reads the shards' column `user` alone.

    Args:
        users: (F,) uint64 pseudonyms.

    Raises:
        InputError: A shard is damaged or a link, or without the users' windows a split would be empty.
    """
    shards = [shard for split in SPLITS for shard in manifest.splits[split].shards]
    if links := [directory / s.path for s in shards if (directory / s.path).resolve() != directory.resolve() / s.path]:
        raise InputError(*(f"{path}: is a link; what it leads to would keep the users' rows" for path in links))
    hits = list(_run()(partial(_users_in, directory, users), shards, "search the shards"))
    counts = np.array([len(hit) for hit in hits], np.int64)
    ends = np.cumsum([len(manifest.splits[split].shards) for split in SPLITS])[:-1]
    num_windows: dict[str, np.ndarray] = dict(zip(SPLITS, np.split(counts, ends), strict=True))
    problems = [
        f"{directory}: {split} would have no window left; a dataset without {split} is of no use: "
        "delete it, and ingest the log again without the users"
        for split in SPLITS
        if 0 < manifest.splits[split].num_windows == num_windows[split].sum()
    ]
    if problems:
        raise InputError(*problems)
    found = np.isin(users, np.concatenate([np.zeros(0, np.uint64), *hits]))
    return Search(manifest=manifest, found=found, num_windows=num_windows)


def find_unknown(search: Search, where: Sequence[str]) -> list[str]:
    """Return a sentence for each user who has no window; `where` says where each was given."""
    return [f"{place}: no window has that user" for place, found in zip(where, search.found, strict=True) if not found]


def forget(
    directory: Path, users: np.ndarray, where: Sequence[str], *, on_commit: Callable[[Manifest], object]
) -> tuple[Search, Manifest]:
    """Remove the users' windows from the dataset; return where they were, and the manifest that it has now.

    First it finishes what a killed run has left; after that, users without a window are no error: it was their run.

    Args:
        users: (F,) uint64 pseudonyms.
        where: Where each of them was given, for messages.
        on_commit: Called with the new manifest before the files that it replaces are deleted; again after a kill.

    Raises:
        InputError: A user has no window, or see `search_users`; nothing has changed.
        DirectoryBusyError: Another live process changes the dataset.
    """
    directory = directory.resolve()
    with lease(directory, lock=directory.parent / f".{directory.name}.lock"):
        manifest = read_manifest(directory)
        remove_prepared(directory, manifest)
        finished = _finish(directory, manifest, on_commit)
        search = search_users(directory, manifest, users)
        if not finished and (problems := find_unknown(search, where)):
            raise InputError(*problems)
        if not search.found.any():
            return search, manifest
        try:
            after = _prepare(directory, search, users)
            replace_file(directory / MANIFEST_NAME, after.to_json())
        except BaseException:
            # By what the manifest says now: an interrupt may come when it has just been replaced.
            remove_prepared(directory, read_manifest(directory))
            raise
        _finish(directory, after, on_commit)
    return search, after


def _finish(directory: Path, manifest: Manifest, on_commit: Callable[[Manifest], object]) -> bool:
    """Do what is due after the manifest was replaced; return whether anything was."""
    replaced = find_replaced(directory, manifest)
    if not replaced:
        return False
    try:
        on_commit(manifest)
        write_card(directory)
    finally:
        # Last, so that after a kill these files show that all of this is still due.
        remove_replaced(directory, replaced)
    return True


def _prepare(directory: Path, search: Search, users: np.ndarray) -> Manifest:
    """Write the new files; return the manifest that makes them part of the dataset."""
    manifest, folder = search.manifest, directory / search.manifest.next_folder()
    for part in (*SPLITS, "vocab"):
        (folder / part).mkdir(parents=True)
    shards = {split: list(manifest.splits[split].shards) for split in SPLITS}
    gone: dict[str, list[Windows]] = {}
    task = partial(_rewrite, directory, folder, manifest, users)
    for (split, index), (shard, windows) in zip(search.shards(), _run()(task, search.shards(), "rewrite"), strict=True):
        shards[split][index] = shard
        gone.setdefault(split, []).append(windows)
    tally = tally_events(manifest, {split: concatenate(parts) for split, parts in gone.items()})
    vocabularies = {column: _rewrite_vocabulary(directory, folder, manifest, column, tally) for column in VOCABULARIES}
    _copy_modes(directory, manifest.splits["train"].shards[0], folder)
    for path in [*folder.rglob("*"), folder, directory]:
        fsync(path)
    splits = {
        name: replace(
            split,
            num_windows=sum(s.num_windows for s in shards[name]),
            num_targets=sum(s.num_targets for s in shards[name]),
            num_users=split.num_users - tally.users.get(name, 0),
            shards=tuple(shards[name]),
        )
        for name, split in manifest.splits.items()
    }
    return replace(
        manifest,
        splits=splits,
        counts=reduce_counts(manifest.counts, tally),
        vocabulary_sha256=vocabularies,
        replaces=(*manifest.replaces, manifest.fingerprint),
    ).with_fingerprint()


def _users_in(directory: Path, users: np.ndarray, shard: Shard) -> np.ndarray:
    """Return the pseudonym of each window of the shard that belongs to one of the users."""
    column = _read(directory, shard, ["user"])["user"].to_numpy()
    return column[np.isin(column, users)]


def _rewrite(
    directory: Path, folder: Path, manifest: Manifest, users: np.ndarray, at: tuple[str, int]
) -> tuple[Shard, Windows]:
    """Write one shard without the users' windows, the others in the order that they had; return it, and those."""
    split, index = at
    old = manifest.splits[split].shards[index]
    _require_intact(directory / old.path, old.sha256)
    windows = from_table(_read(directory, old, list(window_schema(manifest.vocabulary_sizes).names)))
    windows = windows.take(np.argsort(stored_order(len(windows))))
    gone = np.isin(windows.user, users)
    shard = write_shard(folder, split, index, windows.take(~gone), window_schema(manifest.vocabulary_sizes))
    return replace(shard, path=f"{folder.name}/{shard.path}"), windows.take(gone)


def _read(directory: Path, shard: Shard, columns: list[str]) -> pa.Table:
    row_groups = range(len(shard.crc32) // DIGITS - 1)
    try:
        return read_row_groups(directory / shard.path, shard, row_groups, columns)
    except OSError as error:
        raise InputError(str(error)) from error


def _rewrite_vocabulary(directory: Path, folder: Path, manifest: Manifest, column: str, tally: Tally) -> str:
    """Write a vocabulary without the events of the tally; return its sha256."""
    old, new = directory / manifest.vocabulary_path(column), folder / "vocab" / f"{column}.parquet"
    _require_intact(old, manifest.vocabulary_sha256[column])
    write_vocabulary(new, reduce_vocabulary(read_vocabulary(old), tally.ids[column], tally.split))
    return sha256_of(new)


def _require_intact(path: Path, sha256: str) -> None:
    """Pass when the file is what the manifest says: a damaged one must not get a new checksum."""
    if not path.is_file() or sha256_of(path) != sha256:
        raise InputError(f"{path}: missing or altered, it does not match its sha256 in the manifest; restore it first")


def _copy_modes(directory: Path, shard: Shard, folder: Path) -> None:
    """Let the new files be read by whom the old ones were."""
    shutil.copymode(directory, folder)
    for path in folder.rglob("*"):
        shutil.copymode(directory / shard.path if path.is_file() else directory, path)


def _run() -> Executor:
    return local_executor(min(os.cpu_count() or 1, 8))
