"""A study that is killed again and again, and rerun with the same command, gives the table of an undisturbed one.

BEHAVEGPT_KILLS is the number of moments (2 by default, for the sake of CI), BEHAVEGPT_KILLS_SEED draws them.
"""

import os
import random
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from behavegpt.lease import check_free

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(1_500)]

KILLS = int(os.environ.get("BEHAVEGPT_KILLS", "2"))
SEED = int(os.environ.get("BEHAVEGPT_KILLS_SEED", "0"))
PHASES = {
    "starting": ("driver", "term"),
    "group": ("trial", "driver", "head"),
    "trunk": ("worker", "driver", "head", "trial", "term"),
    "branch": ("head", "trial", "worker", "driver", "term"),
    "cell": ("trial", "worker", "head", "term", "driver"),
    "results": ("driver", "term"),
    "report": ("term", "driver"),
}
"""From a run's first second to its last: what can be killed there, by SIGKILL or (the job's driver) by SIGTERM."""
PROCESSES = {"trial": rb"^ray::ImplicitFunc", "worker": rb"^ray::RayTrainWorker"}
HEAD = rb"bin/ray\0start|gcs/gcs_server|raylet/raylet"
"""What `clusters/local.sh start` began, and the two without which nothing goes on; the rest of a head lives on."""


def draw(number: int, chance: random.Random) -> list[tuple[str, str]]:
    """Return so many (phase, victim) in the order of the phases: all phases in turn, each kind of victim as often."""
    used = dict.fromkeys(("driver", "trial", "worker", "head", "term"), 0)
    names = list(PHASES)
    # From the middle on: fewer kills than phases spare the first and the last seconds.
    phases = sorted((names[(k + 2) % len(names)] for k in range(number)), key=names.index)
    drawn = []
    for phase in phases:
        victim = min(PHASES[phase], key=lambda v: (used[v], chance.random()))
        used[victim] += 1
        drawn.append((phase, victim))
    return drawn


@dataclass
class Disturbed:
    """A job under attack."""

    job: Any
    head: Any
    wait_for: Callable[..., Any]
    chance: random.Random
    process: Any = None
    """The run; None where there is none."""
    began: float = 0.0
    """When it was started."""
    heard: Counter[str] = field(default_factory=Counter)
    """Lines of the curves at the last kill, by phase."""
    killed: list[str] = field(default_factory=list)

    def now(self, phase: str) -> bool:
        """Return whether the run is in the phase; what happened before the last kill does not count."""
        job = self.job
        new = Counter(line["phase"] for line in job.lines()) - self.heard
        if phase == "starting":
            return True
        if phase == "group":
            return (job.study_dir / "lock").exists() and "trunk" not in new
        if phase in ("trunk", "branch", "cell"):
            return phase in new
        if phase == "results":
            return job.finished_cells() == job.num_cells
        results = job.study_dir / "results.parquet"
        cells = [p.stat().st_mtime for p in job.study_dir.glob("cells/*.json")]
        all_there = len(cells) >= job.num_cells and results.exists()
        return all_there and results.stat().st_mtime > max(self.began, *cells)

    def kill(self, phase: str, victim: str) -> None:
        if self.process is None:
            self.began = time.time()
            self.process = self.job.run()
        self.wait_for(lambda: self.now(phase) or self.process.poll() is not None, 240, f"{phase} to kill {victim}")
        if self.process.poll() is not None and phase not in ("starting", "results", "report"):
            print(f"nothing is left to train; {victim} lives", flush=True)
            self.process = None
            return
        time.sleep(self.chance.uniform(0.0, {"starting": 6.0, "group": 6.0, "report": 1.0}.get(phase, 0.5)))
        if victim in PROCESSES:
            find = lambda: self.head.processes(PROCESSES[victim])  # noqa: E731
            pid = self.chance.choice(self.wait_for(find, 60, f"a {victim}"))
            self.head.kill(pid)
        elif victim == "head":
            for pid in self.head.processes(HEAD):
                self.head.kill(pid)
        else:
            self.process.send_signal(signal.SIGTERM if victim == "term" else signal.SIGKILL)
        self.heard = Counter(line["phase"] for line in self.job.lines())
        print(f"{time.strftime('%X')} {phase}: killed {victim}, {self.job.finished_cells()} cells", flush=True)
        self.killed.append(victim)
        self.after(victim)

    def after(self, victim: str) -> None:
        """See how the job takes it; bring the head back."""
        if victim in PROCESSES:
            return
        began = time.monotonic()
        code = self.process.wait(timeout=120)
        print(f"    exit code {code} after {time.monotonic() - began:.1f} s", flush=True)
        self.process = None
        if victim == "driver":
            assert code in (-signal.SIGKILL, 4)  # 4: it had just come to its end
        elif victim == "term":
            if code not in (4, -signal.SIGTERM):  # the latter: it had not come to its first line yet
                assert code == 143 and "terminated; resume with: python" in self.job.log().splitlines()[-1]
            assert not (self.job.study_dir / "lock").exists()
        else:
            assert code == 5 and "; resume with: python" in self.job.log().splitlines()[-1]
            check_free(self.job.study_dir)  # a job that a call into Ray held leaves the lock of a dead process
            self.head.start()

    def finish(self) -> None:
        if self.process is None:
            self.process = self.job.run()
        code = self.process.wait(timeout=240)
        if self.job.finished_cells() < self.job.num_cells:  # the last kill left rows with a reason
            code = self.job.run().wait(timeout=240)
        assert code == 4, self.job.log()[-3000:]  # two sizes are too few for a law


def test_a_study_survives_any_death(make_head, make_job, wait_for):
    head = make_head()
    quiet = make_job("undisturbed", head)
    first = quiet.run()
    wait_for((quiet.study_dir / "lock").exists, 120, "the first run")
    check_second_run(quiet, first.pid)
    assert first.wait(timeout=240) == 4, quiet.log()[-3000:]
    expected = quiet.results()
    assert [row["status"] for row in expected] == ["completed"] * quiet.num_cells

    job, chance = make_job("disturbed", head), random.Random(SEED)
    disturbed = Disturbed(job, head, wait_for, chance)
    drawn = draw(KILLS, chance)
    print(*drawn, sep="\n", flush=True)
    for phase, victim in drawn:
        disturbed.kill(phase, victim)
    disturbed.finish()
    assert set(disturbed.killed) == {victim for _, victim in drawn}
    assert job.results() == expected
    assert job.litter() == []


def check_second_run(job, first: int) -> None:
    """A second run on the directory says at once who works there."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = len(job.log())
    assert job.run().wait(timeout=60) == 3
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of its own time: on a loaded machine the clock on the wall tells of others.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 5.0
    assert f"process {first} on {socket.gethostname()} is working here" in job.log()[size:]
