"""A value that a vocabulary shows is one that at least k users have in training, counted again from the raw rows."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.vocab import read_vocabulary
from behavegpt.errors import InputError

Row = tuple[str, int, str, str, str]

ROW = st.tuples(
    st.sampled_from("ABCDEFG"),
    st.integers(0, 60),
    st.sampled_from(("x", "y", "z", "w")),
    st.sampled_from(("", "p", "q", "r")),
    st.sampled_from(("", "m", "n")),
)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "user.key"
    path.touch(mode=0o600)
    path.write_text("5a" * 32)
    return path


def users_in_training(
    rows: list[Row], column: int, begin_of_val: int, staying: set[str]
) -> Iterator[tuple[str, set[str]]]:
    """Yield each value with the users who stay and have it in a row before val begins."""
    distinct = set(rows)
    for value in {str(row[column]) for row in distinct} - {""}:
        yield (
            value,
            {row[0] for row in distinct if row[column] == value and row[0] in staying and row[1] < begin_of_val},
        )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(rows=st.lists(ROW, min_size=12, max_size=60), k=st.integers(1, 4))
def test_known_values_are_those_of_k_training_users(key_file: Path, rows: list[Row], k: int) -> None:
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log.csv"
        lines = [f"{user},{1_600_000_000 + 60 * minute},{','.join(rest)}" for user, minute, *rest in rows]
        log.write_text("\n".join(["user,time,event,place,kind", *lines]) + "\n")
        columns = Columns(user="user", timestamp="time", event="event", location="place", behavior="kind")
        try:
            manifest = ingest(
                LogSpec(inputs=(str(log),), columns=columns),
                Path(folder) / "set",
                options=IngestOptions(min_users=k, key_file=key_file, split=(0.6, 0.2, 0.2)),
                run=local_executor(1),
            )
        except InputError as error:
            assume(not any(words in str(error) for words in ("--split", "--min-users", "--user", "--behavior")))
            raise
        begin_of_val = (int(datetime.fromisoformat(manifest.cutoffs["val"]).timestamp()) - 1_600_000_000) // 60
        staying = {user for user in "ABCDEFG" if sum(row[0] == user for row in set(rows)) >= 2}
        shown = {}
        for name, column in (("event", 2), ("location", 3)):
            values = users_in_training(rows, column, begin_of_val, staying)
            shown[name] = {value for value, users in values if len(users) >= k}
        folded = [row for row in rows if row[2] not in shown["event"] and row[4]]
        kinds = users_in_training(folded, 4, begin_of_val, staying)
        shown["event"] |= {f"other: {kind}" for kind, users in kinds if len(users) >= k}
        for name, values in shown.items():
            assert set(read_vocabulary(Path(folder) / "set" / "vocab" / f"{name}.parquet").values) == values
