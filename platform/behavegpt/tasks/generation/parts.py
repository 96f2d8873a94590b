"""The files of a run that may be killed at any time: finished batches of users beside it, and then all in one step.

In: what was generated, batch by batch. Out: `out/`, complete or not at all. Until then `.{out}.partial/` holds
plan.json, which says of what run it is, and one immutable file a batch; a rerun reads those and goes on.
`.{out}.lock` names the live run.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavegpt.config import config_hash, plain
from behavegpt.data.vocab import Vocabulary
from behavegpt.errors import InputError
from behavegpt.files import create_file, fsync, remove_partial
from behavegpt.lease import lease
from behavegpt.schema import FIRST_KNOWN_ID
from behavegpt.tasks.generation.histories import Histories
from behavegpt.tasks.generation.loop import Generated

PLAN_NAME = "plan.json"
RESULT_NAME = "generate.json"
EVENTS_NAME = "behaviors.parquet"
WHOLE = "whole"


def finished(out: Path, identity: dict[str, Any]) -> bool:
    """Return whether `out` holds the result of this very run.

    Raises:
        InputError: It holds something else.
    """
    if not out.exists():
        return False
    try:
        same = json.loads((out / RESULT_NAME).read_text(encoding="utf-8"))["run"] == config_hash(identity)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(f"--out {out}: exists already, and is not the result of this run; choose another --out")
    return True


@contextmanager
def open_run(out: Path, identity: dict[str, Any], users_per_batch: int) -> Iterator[Path]:
    """Hold `out` for this process and give the folder of its batches; what an earlier run finished lies there.

    Raises:
        InputError: An unfinished run of other settings lies there.
        DirectoryBusyError: Another live run holds it.
    """
    parent = out.absolute().parent
    partial = parent / f".{out.name}.partial"
    with lease(out, lock=parent / f".{out.name}.lock"):
        partial.mkdir(exist_ok=True)
        remove_partial(partial)
        _check_plan(partial / PLAN_NAME, plain(identity | {"users_per_batch": users_per_batch}))
        yield partial


def _check_plan(path: Path, plan: dict[str, Any]) -> None:
    if create_file(path, json.dumps(plan, indent=1) + "\n"):
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); remove {path.parent}") from error
    if other := [key for key in plan if before.get(key) != plan[key]]:
        raise InputError(
            *(
                f"{path}: an unfinished run has {key} {before.get(key)}, this one {plan[key]}; "
                f"finish that one, choose another --out, or remove {path.parent}"
                for key in other
            )
        )


def read_part(partial: Path, index: int, shape: tuple[int, int]) -> Generated | None:
    """Return a batch that an earlier run finished, None if it did not.

    Raises:
        InputError: The file is damaged.
    """
    path = _path(partial, index)
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        return Generated(**{f.name: table[f.name].to_numpy().reshape(shape) for f in fields(Generated)})
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are among them
        raise InputError(f"{path}: damaged ({error}); remove it and run again") from error


def write_part(partial: Path, index: int, generated: Generated) -> None:
    """Keep a finished batch."""
    columns = {f.name: np.ravel(getattr(generated, f.name)) for f in fields(Generated)}
    create_file(_path(partial, index), _to_bytes(pa.table(columns)))


def write_whole(
    partial: Path,
    out: Path,
    histories: Histories,
    generated: Generated,
    vocabularies: Mapping[str, Vocabulary],
    texts: Mapping[str, str],
) -> None:
    """Make `out` from all that there is: the table of behaviours, and other files by name; then forget the batches."""
    whole = partial / WHOLE
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    (whole / EVENTS_NAME).write_bytes(_to_bytes(to_table(histories, generated, vocabularies)))
    for name, text in texts.items():
        (whole / name).write_text(text, encoding="utf-8")
    for path in [*whole.iterdir(), whole]:
        fsync(path)
    whole.rename(out)
    fsync(out.absolute().parent)
    shutil.rmtree(partial)


def to_table(histories: Histories, generated: Generated, vocabularies: Mapping[str, Vocabulary]) -> pa.Table:
    """Return one row a user and position.

    A behaviour, event or location is null where training has no value for it: `other`, or none at all.
    """
    num_users, num_behaviors = generated.behavior.shape
    position = np.tile(np.arange(1, num_behaviors + 1, dtype=np.uint16), num_users)
    return pa.table(
        {
            "user": np.repeat(histories.user, num_behaviors),
            "position": position,
            "behavior": _values(generated.behavior, vocabularies["behavior"]),
            "event": _values(generated.event, vocabularies["event"]),
            "location": _values(generated.location, vocabularies["location"]),
            "weekday": generated.weekday.ravel().astype(np.uint8),
            "slot": generated.slot.ravel().astype(np.uint8),
            "probability": generated.probability.ravel(),
            "true_behavior": _values(histories.truth["behavior"], vocabularies["behavior"]),
        }
    )


def _values(ids: np.ndarray, vocabulary: Vocabulary) -> pa.Array:
    known = ids.ravel() - FIRST_KNOWN_ID
    indices = pa.array(known.astype(np.int32), mask=known < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(vocabulary.values, pa.string()))


def _path(partial: Path, index: int) -> Path:
    return partial / f"part-{index:06d}.parquet"


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()
