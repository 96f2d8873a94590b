"""Which trunks share a worker group and how many workers they get, by hand; how many groups fit a cluster."""

from dataclasses import replace

import pytest

from behavegpt.errors import InputError
from behavegpt.study import packs
from behavegpt.study.config import of_widths
from behavegpt.study.grid import plan_study
from behavegpt.study.packs import fits, max_concurrent, pack, share_workers
from behavegpt.train.config import ExecutionConfig


@pytest.fixture
def jobs(make_config, manifest, tiny, tmp_path):
    """Return five trunks, width 24 first."""
    return plan_study(make_config(sizes=of_widths(8, 12, 16, 20, 24)), manifest, tiny, tmp_path / "study").jobs


def widths(packed) -> list[list[int]]:
    return [[job.model.width for job in one.jobs] for one in packed]


@pytest.mark.parametrize(
    ("seconds", "concurrent", "expected"),
    [
        # Each joins what has least to do: 50 | 30, 20 | then 10 + 50 or 10 + 50 (a tie: the first), 5 to the other.
        ((50, 30, 20, 10, 5), 2, [[12, 24], [8, 16, 20]]),
        ((50, 30, 20, 10, 5), 1, [[8, 12, 16, 20, 24]]),
        ((50, 30, 20, 10, 5), 5, [[24], [20], [16], [12], [8]]),
        # Never an empty pack.
        ((50, 30, 20, 10, 5), 9, [[24], [20], [16], [12], [8]]),
        ((1, 1, 1, 1, 60), 2, [[8], [12, 16, 20, 24]]),
    ],
)
def test_packs_are_balanced_and_begin_with_their_shortest(jobs, seconds, concurrent, expected):
    packed = pack(jobs, seconds, concurrent)
    assert [sorted(one) for one in widths(packed)] == [sorted(one) for one in expected]
    of = dict(zip((job.model.width for job in jobs), seconds, strict=True))
    for one in packed:
        times = [of[job.model.width] for job in one.jobs]
        assert times == sorted(times)
        assert one.seconds == sum(times)
    assert [one.seconds for one in packed] == sorted((one.seconds for one in packed), reverse=True)


def test_long_trunks_are_cut_into_more_packs_than_run_side_by_side(jobs, monkeypatch):
    monkeypatch.setattr(packs, "PACK_S", 30.0)
    # 115 s in packs of 30 s or less are four, though one trunk alone is longer.
    assert len(pack(jobs, (50, 30, 20, 10, 5), 1)) == 4
    assert len(pack(jobs, (9, 9, 9, 2, 1), 1)) == 1


@pytest.mark.parametrize(
    ("seconds", "slots", "limits", "expected"),
    [
        # Nobody beyond ten minutes.
        ((599, 1, 1, 1, 1), 8, {}, [1, 1, 1, 1, 1]),
        # Alone on eight places a trunk of 4,000 s is 8 x the average; at four workers it takes 1,000, at eight 500.
        ((4_000, 10, 10, 10, 10), 8, {}, [8, 1, 1, 1, 1]),
        ((2_000, 10, 10, 10, 10), 8, {}, [4, 1, 1, 1, 1]),
        ((1_000, 1_000, 10, 10, 10), 8, {}, [2, 2, 1, 1, 1]),
        # All places are busy anyway: 20,000 s over two places are 10,000 each.
        ((4_000, 4_000, 4_000, 4_000, 4_000), 2, {}, [1, 1, 1, 1, 1]),
        ((4_000, 10, 10, 10, 10), 8, {"max_workers": 4}, [4, 1, 1, 1, 1]),
        ((4_000, 10, 10, 10, 10), 8, {"max_workers": 1}, [1, 1, 1, 1, 1]),
        ((4_000, 10, 10, 10, 10), 8, {"cpus": 2.5}, [2, 1, 1, 1, 1]),
        # Two windows in its largest batch keep no third worker busy.
        ((4_000, 10, 10, 10, 10), 8, {"windows": 2}, [2, 1, 1, 1, 1]),
    ],
)
def test_a_trunk_longer_than_a_fair_share_gets_more_workers(jobs, seconds, slots, limits, expected):
    ramp = ((0, limits.get("windows", 64)),)
    jobs = [replace(job, train=replace(job.train, batch_ramp=ramp)) for job in jobs]
    cluster = {"CPU": limits.get("cpus", 99.0)}
    shared = share_workers(
        jobs, seconds, limits.get("max_workers", 8), slots, lambda job: fits(job.execution, cluster) > 0
    )
    assert [job.execution.num_workers for job in shared] == expected
    assert [replace(job, execution=jobs[0].execution) for job in shared] == jobs


@pytest.mark.parametrize(
    ("execution", "cluster", "expected"),
    [
        # A trunk's workers, and half a CPU for its two readers of a quarter each.
        (ExecutionConfig(), {"CPU": 1.5}, 1),
        (ExecutionConfig(), {"CPU": 2.0}, 1),
        (ExecutionConfig(), {"CPU": 2.99}, 1),
        (ExecutionConfig(), {"CPU": 3.0}, 2),
        (ExecutionConfig(), {"CPU": 16.0, "memory": 1e9}, 10),
        (ExecutionConfig(num_workers=2, cpus_per_worker=2), {"CPU": 16.0}, 3),
        (ExecutionConfig(num_workers=4), {"CPU": 4.5}, 1),
        # GPUs do not count on CPUs; on GPUs the scarcer of both decides.
        (ExecutionConfig(), {"CPU": 6.0, "GPU": 1.0}, 4),
        (ExecutionConfig(num_workers=2, use_gpu=True), {"CPU": 64.0, "GPU": 5.0}, 2),
        (ExecutionConfig(num_workers=2, use_gpu=True), {"CPU": 5.0, "GPU": 8.0}, 2),
        (ExecutionConfig(num_workers=2, use_gpu=True), {"CPU": 4.9, "GPU": 8.0}, 1),
    ],
)
def test_trunks_side_by_side_by_hand(execution, cluster, expected):
    assert max_concurrent(execution, cluster) == expected


@pytest.mark.parametrize(
    ("execution", "cluster", "needs", "has"),
    [
        (ExecutionConfig(), {"CPU": 1.0}, "1.5 CPUs (1 workers", "1 CPUs and 0 GPUs"),
        (ExecutionConfig(), {}, "1.5 CPUs (1 workers", "0 CPUs and 0 GPUs"),
        (ExecutionConfig(num_workers=4, cpus_per_worker=2), {"CPU": 8.0}, "8.5 CPUs (4 workers", "8 CPUs and 0 GPUs"),
        (ExecutionConfig(use_gpu=True), {"CPU": 8.0}, "1.5 CPUs and 1 GPUs (1 workers", "8 CPUs and 0 GPUs"),
        (
            ExecutionConfig(num_workers=3, use_gpu=True),
            {"CPU": 64.0, "GPU": 2.0},
            "3.5 CPUs and 3 GPUs (3 workers",
            "64 CPUs and 2 GPUs",
        ),
    ],
)
def test_a_trunk_that_never_fits_is_refused_with_both_sides(execution, cluster, needs, has):
    with pytest.raises(InputError) as caught:
        max_concurrent(execution, cluster)
    [problem] = caught.value.problems
    assert problem.startswith(f"one trunk needs {needs}")
    assert problem.endswith(f"the cluster has {has}")
