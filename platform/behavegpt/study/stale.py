"""Studies whose dataset has lost users since: they are marked, and take no new cells.

In: folders with studies, and a dataset's manifest after jobs/forget.py. Out: stale.json in every study that was made
from a state of the dataset which is gone: when it was marked, and which fingerprint was replaced. It names no user.
"""

import json
import os
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from behavegpt.errors import InputError
from behavegpt.files import create_file
from behavegpt.study.journal import read_cells

STALE_NAME = "stale.json"


def find_studies(folders: Iterable[Path]) -> list[Path]:
    """Return the study directories among the folders and below them.

    Raises:
        InputError: A folder does not exist, or there is no study in it.
    """
    found: dict[Path, None] = {}
    problems = []
    for folder in folders:
        below = []
        for directory, names, files in os.walk(folder):
            if "plan.json" in files or "cells" in names:
                below.append(Path(directory))
                names.clear()
        if not below:
            problems.append(
                f"--studies {folder}: {'there is no study in it' if folder.is_dir() else 'is no directory'}"
            )
        found |= dict.fromkeys(sorted(below))
    if problems:
        raise InputError(*problems)
    return list(found)


def made_from(study_dir: Path, fingerprints: Collection[str]) -> str | None:
    """Return the one of the fingerprints that the study's plan or a cell of it was made from; None if it is none.

    Raises:
        InputError: The plan or a cell is not readable.
    """
    used = [row["dataset_fingerprint"] for row in read_cells(study_dir)]
    plan = study_dir / "plan.json"
    if plan.is_file():
        try:
            used.append(json.loads(plan.read_text(encoding="utf-8"))["dataset"]["fingerprint"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{plan}: not a plan ({type(error).__name__}: {error})") from error
    return next((fingerprint for fingerprint in used if fingerprint in fingerprints), None)


def mark_stale(studies: Iterable[Path], replaced: Collection[str]) -> list[Path]:
    """Mark those of the studies that were made from a fingerprint which a dataset no longer has; return all such."""
    stale = []
    for study_dir in studies:
        fingerprint = made_from(study_dir, replaced)
        if fingerprint is not None:
            record = {
                "marked_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "dataset_fingerprint": fingerprint,
                "reason": "users were forgotten from the dataset; models, curves and cells here still know them",
            }
            create_file(study_dir / STALE_NAME, json.dumps(record, indent=1) + "\n")
            stale.append(study_dir)
    return stale


def stale_problems(study_dir: Path) -> list[str]:
    """Return why the study takes no new cells; empty when it was not marked.

    Raises:
        InputError: The mark is not readable.
    """
    path = study_dir / STALE_NAME
    if not path.exists():
        return []
    try:
        mark: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        since, fingerprint, reason = mark["marked_at"], mark["dataset_fingerprint"][:12], mark["reason"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a mark that this program wrote ({type(error).__name__}: {error})") from error
    return [f"{study_dir}: stale since {since}, made from dataset {fingerprint}: {reason}"]
