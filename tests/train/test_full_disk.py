"""A disk that is full at any of a run's flushes: the error says so, nothing half-written is read, a rerun completes."""

import errno
import json
import os

import pytest
import torch

from behavegpt.data.stream import local_tables
from behavegpt.train import loop

CPU = torch.device("cpu")


def losses(job) -> dict[int, str]:
    rows = [json.loads(p.read_text()) for p in sorted(job.cell_dir.glob("*.json"))]
    return {row["num_events"]: float(row["loss"]).hex() for row in rows}


@pytest.mark.chaos
def test_a_disk_that_is_full_at_any_flush_costs_nothing_that_was_written(make_job, monkeypatch):
    golden = make_job("golden", sizes=(1_000, 1_500))
    flushes, real = [], os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: flushes.append(1) or real(handle))
        loop.train_trunk(golden, local_tables, CPU)
    expected = losses(golden)
    assert len(expected) == 2 and len(flushes) > 10
    for position in range(len(flushes)):
        job, left = make_job(f"full-{position}", sizes=(1_000, 1_500)), iter(range(position))

        def full(handle: int, left=left) -> None:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left on device"):
                loop.train_trunk(job, local_tables, CPU)
        assert losses(job).items() <= expected.items()
        assert [p.name for p in job.cell_dir.glob(".*")] == []
        loop.train_trunk(job, local_tables, CPU)
        assert losses(job) == expected
        assert list(job.checkpoint_dir.glob("*.partial")) == []
