"""A small generated dataset, a small ingested one, and any outcomes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.synthetic.generator import GeneratorConfig, write_generated
from behavegpt.tasks.outcomes import Outcomes

NUM_CLASSES = 9
SMALL = GeneratorConfig(num_users=40, num_train_events=9_000, num_val_windows=24, num_test_windows=8)


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 9,000 training targets of 40 users; val has windows of 24 of them."""
    out = tmp_path_factory.mktemp("tasks") / "small"
    write_generated(out, SMALL, "small")
    return out


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the log of 5 users of 150, 190, 230, 270 and 310 events; every seventh event has no behaviour.

    The event is the user's place in the log, so that histories can be told apart.
    """
    folder = tmp_path_factory.mktemp("log")
    rows = ["user,time,event,kind,place"]
    for user in range(5):
        for i in range(150 + 40 * user):
            kind = "" if i % 7 == 3 else f"k{(i * i + user) % 5}"
            rows.append(f"u{user},{1_600_000_000 + 7_200 * i + user},e{user}-{i},{kind},p{i % 11}")
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    columns = Columns(user="user", timestamp="time", event="event", behavior="kind", location="place")
    spec = LogSpec(inputs=(str(folder / "log.csv"),), columns=columns, timezone="UTC")
    options = IngestOptions(min_users=1, key_file=folder / "user.key")
    ingest(spec, folder / "set", options=options, run=local_executor(options.num_workers))
    return folder / "set"


@pytest.fixture
def outcomes() -> Callable[[int], Outcomes]:
    """Return a maker of random outcomes of 12 users and 200 targets; class 8 is neither a target nor predicted."""

    def make(seed: int) -> Outcomes:
        rng = np.random.default_rng(seed)
        users = np.sort(rng.integers(0, 12, 200)).astype(np.uint64) * np.uint64(10**15)
        target = (rng.random(200) ** 2 * (NUM_CLASSES - 1)).astype(np.int32)
        rank = rng.integers(1, NUM_CLASSES + 1, 200).astype(np.int32)
        wrong = (target + 1 + rng.integers(0, NUM_CLASSES - 3, 200)) % (NUM_CLASSES - 1)
        return Outcomes(
            user=users,
            target=target,
            prediction=np.where(rank == 1, target, wrong).astype(np.int32),
            rank=rank,
            confidence=rng.random(200).astype(np.float32),
            nats=rng.exponential(size=200).astype(np.float32),
        )

    return make
