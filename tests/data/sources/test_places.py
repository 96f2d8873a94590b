"""Behaviours from a second table, and grid cells from coordinates."""

import h3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavegpt.data.ingest.drops import find_reasons, first_rows
from behavegpt.data.sources.blocks import find_source_problems
from behavegpt.data.sources.spec import BehaviorTable, Columns

T0 = 1_339_437_960
PLACES = Columns(user="user", timestamp="time", event="event", latitude="lat", longitude="lon")


@pytest.mark.parametrize("name", ["apps.csv", "apps.tsv.gz", "apps.txt"])
def test_events_get_their_behaviour_from_a_table(write, spec_of, blocks_of, name: str) -> None:
    delimiter = "\t" if "tsv" in name else ","
    text = "kind,app\nmaps,1\nchat,007\nchat,2\n,3\nchat,2\n".replace(",", delimiter)
    table = BehaviorTable(input=write(name, text), event="app", behavior="kind")
    events = ["007", "2", "1", "3", "9", ""]
    path = write("log.csv", "user,time,event\n" + "".join(f"a,{T0},{event}\n" for event in events))
    (block,) = blocks_of(spec_of(path, behavior_table=table))
    assert block.behavior.to_pylist() == ["chat", "chat", "maps", None, None, None]
    assert block.event.to_pylist() == [*events[:-1], None]
    # Of the three without a behaviour, one has no event.
    assert block.counts["events_without_entry"] == 2


def test_table_with_two_behaviours_for_an_event_or_without_its_columns_is_refused(write, spec_of) -> None:
    log = write("log.csv", f"user,time,event\na,{T0},1\n")

    def problems(text: str) -> str:
        table = BehaviorTable(input=write("apps.csv", text), event="app", behavior="kind")
        return "\n".join(find_source_problems(spec_of(log, behavior_table=table)))

    assert "gives 1 events several behaviours ('1')" in problems("app,kind\n1,a\n1,b\n2,c\n")
    assert "has no column 'kind'. Did you mean 'kinds'?" in problems("app,kinds\n1,a\n")
    assert "row 3 has 1 value where the file has 2 columns" in problems("app,kind\n1,a\n2\n")
    assert "holds no event with a behaviour" in problems("app,kind\n")


def test_coordinates_become_cells_and_wrong_ones_are_counted(write, spec_of, blocks_of, tmp_path) -> None:
    text = [("40.7580", "-73.9855"), (" 40.7580", "-73.98550"), ("35.66", "139.7"), ("", ""), ("91", "0"), ("0", "181")]
    text += [("x", "1"), ("1", ""), ("nan", "nan"), ("-90", "180")]
    path = write("log.csv", "user,time,event,lat,lon\n" + "".join(f"a,{T0},b,{lat},{lon}\n" for lat, lon in text))
    (block,) = blocks_of(spec_of(path, columns=PLACES, h3_resolution=8))
    new_york, tokyo, pole = (h3.latlng_to_cell(*p, 8) for p in ((40.758, -73.9855), (35.66, 139.7), (-90, 180)))
    assert block.location.to_pylist() == [new_york, new_york, tokyo, *[None] * 6, pole]
    assert block.counts["invalid_coordinates"] == 5
    numbers = pa.table({"user": ["a"] * 3, "time": [T0] * 3, "event": ["b"] * 3, "lat": [40.758, 91, None]})
    numbers = numbers.append_column("lon", pa.array([-73.9855, 0, None], pa.float32()))
    pq.write_table(numbers, tmp_path / "log.parquet")
    (block,) = blocks_of(spec_of(str(tmp_path / "log.parquet"), columns=PLACES, h3_resolution=8))
    assert block.location.to_pylist() == [new_york, None, None]
    assert block.counts["invalid_coordinates"] == 1


def test_offset_of_the_row_in_minutes(write, spec_of, blocks_of) -> None:
    columns = Columns(user="user", timestamp="time", event="event", utc_offset="offset")
    rows = [(T0, "-240"), (T0, "330"), (T0, ""), (T0, "2000"), (T0, "?"), (T0, "-5.5")]
    path = write("log.csv", "user,time,event,offset\n" + "".join(f"a,{time},b,{offset}\n" for time, offset in rows))
    (block,) = blocks_of(spec_of(path, columns=columns))
    # 18:06 UTC on a Monday is 14:06 there, and 23:36 in India.
    assert block.week_slot.tolist() == [28, 47, 0, 0, 0, 0]
    assert block.counts["unusable_offsets"] == 4
    said = first_rows(block, find_reasons(block, frozenset()), spec_of(path, columns=columns))
    assert said == {
        "unreadable_time": f"{path}: column 'offset', row 4: is not whole minutes from UTC such as -300",
    }
