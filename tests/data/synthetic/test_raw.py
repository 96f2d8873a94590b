"""Raw logs: every event of the configuration once, as text, in each format; and ingest finds what was promised."""

import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.csv import ConvertOptions, read_csv

from behavegpt.data.ingest.executor import local_executor
from behavegpt.data.ingest.ingest import ingest
from behavegpt.data.ingest.options import IngestOptions
from behavegpt.data.sources.spec import Columns, LogSpec
from behavegpt.data.synthetic import chunks
from behavegpt.data.synthetic.config import GeneratorConfig
from behavegpt.data.synthetic.generator import generate
from behavegpt.data.synthetic.raw import write_raw_log
from behavegpt.errors import InputError

SMALL = GeneratorConfig(num_users=60, num_train_events=90 * 200, num_val_windows=50, num_test_windows=7)
# The splits have 200, 50 and 7 windows, and each user has one event more in each split that they are in.
NUM_ROWS = 90 * 257 + 60 + 50 + 7
COLUMNS = ("user", "timestamp", "event", "behavior", "location")


def read(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return read_csv(path, convert_options=ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())))


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_a_raw_log_holds_every_event_of_the_generated_windows_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    assert write_raw_log(path, SMALL) == NUM_ROWS
    table = read(path)
    assert table.column_names == list(COLUMNS)
    assert [p.name for p in path.parent.iterdir()] == [name]
    times = np.array([str(t).replace("+00:00", "").replace(" ", "T").rstrip("Z") for t in table["timestamp"]])
    seconds = times.astype("datetime64[s]").astype(int)
    texts = [table[column].to_pylist() for column in ("user", "event", "behavior", "location")]
    assert all(isinstance(value, str) for column in texts for value in (column[0], column[-1]))
    found = list(zip(seconds.tolist(), *texts, strict=True))
    expected = set()
    for windows in generate(SMALL).values.values():
        columns = (windows.event, windows.behavior, windows.location)
        for row, position in np.ndindex(*windows.event.shape):
            e, b, p = (column[row, position] for column in columns)
            who, when = windows.user[row], int(windows.timestamp[row, position])
            expected.add((when, f"user-{who:02d}", f"event-{e:03d}", f"behavior-{b:02d}", f"location-{p:04d}"))
    assert len(found) == len(set(found)) == NUM_ROWS
    assert set(found) == expected


def test_iso_texts_and_seconds_are_the_same_instants(tmp_path: Path) -> None:
    write_raw_log(tmp_path / "iso.csv", SMALL)
    write_raw_log(tmp_path / "epoch.csv", SMALL, epoch=True)
    write_raw_log(tmp_path / "epoch.parquet", SMALL, epoch=True)
    text = read(tmp_path / "iso.csv")["timestamp"].to_pylist()
    assert all(len(t) == 20 and t.endswith("Z") for t in text)
    seconds = np.array([t.removesuffix("Z") for t in text]).astype("datetime64[s]").astype(int).tolist()
    assert [int(t) for t in read(tmp_path / "epoch.csv")["timestamp"].to_pylist()] == seconds
    assert read(tmp_path / "epoch.parquet")["timestamp"].to_pylist() == seconds


def test_rows_lie_by_time_across_users_within_runs(tmp_path: Path) -> None:
    write_raw_log(tmp_path / "log.parquet", SMALL)
    table = read(tmp_path / "log.parquet")
    users = np.array(table["user"].to_pylist())
    assert (users[1:] != users[:-1]).mean() > 0.9
    seconds = table["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(seconds) < 0).sum() == 1  # val and test, then back to train


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_bytes_do_not_depend_on_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    work_in_small_steps(monkeypatch, 1 << 11)
    write_raw_log(tmp_path / "a" / name, SMALL)
    write_raw_log(tmp_path / "b" / name, SMALL, run=local_executor(3))
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    if name.endswith(".gz"):
        assert gzip.decompress((tmp_path / "a" / name).read_bytes()).startswith(b'"user","timestamp"')


def test_memory_does_not_grow_with_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in_small_steps(monkeypatch, 1 << 13)
    peaks = []
    for number, factor in enumerate((1, 2, 20)):  # The first one also fills caches.
        config = replace(SMALL, num_users=60 * factor, num_train_events=18_000 * factor)
        tracemalloc.start()
        write_raw_log(tmp_path / f"{number}.csv", config)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]


def work_in_small_steps(monkeypatch: pytest.MonkeyPatch, num_events: int) -> None:
    monkeypatch.setattr(chunks, "EVENTS_PER_CHUNK", num_events)
    monkeypatch.setattr(chunks.group_chunks, "__defaults__", (num_events,))


def test_ingest_finds_the_events_users_and_targets_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    write_raw_log(path, SMALL)
    spec = LogSpec(inputs=(str(path),), columns=Columns(**{name: name for name in COLUMNS}))
    manifest = ingest(spec, tmp_path / "dataset", options=IngestOptions(min_users=1), run=local_executor(1))
    counts = manifest.counts
    assert (counts["rows_read"], counts["events_kept"], counts["users"]) == (NUM_ROWS, NUM_ROWS, 60)
    assert counts["duplicates"] == counts["missing_behavior"] == 0
    # Each event is a target once, but for the first of each user.
    assert sum(split.num_targets for split in manifest.splits.values()) == NUM_ROWS - 60


def test_a_wrong_name_or_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    taken = tmp_path / "log.csv"
    taken.write_text("mine")
    for path, words in [(taken, "exists already"), (tmp_path / "log.txt", "allowed: .csv, .csv.gz, .parquet")]:
        with pytest.raises(InputError, match=words):
            write_raw_log(path, SMALL)
    assert taken.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def fails(task, items, label):
        yield task(items[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_raw_log(tmp_path / "log.parquet", SMALL, run=fails)
    assert list(tmp_path.iterdir()) == []
