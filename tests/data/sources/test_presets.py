"""Presets: public logs in their published formats."""

import h3
import pytest

from behavegpt.data.sources.blocks import (
    TIME_MISSING,
    TIME_OK,
    TIME_OUT_OF_RANGE,
    TIME_UNREADABLE,
    find_source_problems,
)
from behavegpt.data.sources.presets import preset_spec


def test_tsinghua_app_usage(write, rows_of) -> None:
    trace = write(
        "App_usage_trace.txt", "0 20160420000000 7 143 1024.5\n0 20160426235959 7 9 0\n1\t20160420120000\t12\t9\t3\n"
    )
    table = write("App2Category.txt", "143\t1\n9\t17\n")
    rows = rows_of(preset_spec("tsinghua-app-usage", (trace,), behavior_table=table))
    assert rows["user"] == ["0", "0", "1"]
    assert (rows["event"], rows["behavior"], rows["location"]) == (
        ["143", "9", "9"],
        ["1", "17", "17"],
        ["7", "7", "12"],
    )
    # Shanghai is eight hours ahead: its 20 April 2016 began at 16:00 UTC the day before, a Wednesday.
    assert rows["seconds"] == [1_461_081_600, 1_461_081_600 + 7 * 86_400 - 1, 1_461_081_600 + 43_200]
    assert rows["week_slot"] == [96, 95, 96 + 24]
    assert rows_of(preset_spec("tsinghua-app-usage", (trace,)))["behavior"] == ["143", "9", "9"]


def test_foursquare_tsmc2014(write, rows_of) -> None:
    lines = [
        "470\t49bbd6c0f964a520f4531fe3\t4bf58dd8d48988d127951735\tArts & Crafts Store\t40.719810375488535\t"
        "-74.00258103213994\t-240\tTue Apr 03 18:00:09 +0000 2012",
        '979\t4a43c0aef964a520c6a61fe3\t4bf58dd8d48988d16d941735\tCaf\xe9 "\t40.60679958140643\t-74.04416981025437'
        "\t-240\tTue Apr 03 18:00:25 +0000 2012",
    ]
    rows = rows_of(
        preset_spec("foursquare-tsmc2014", (write("dataset_TSMC2014_NYC.txt", "\n".join(lines).encode("latin-1")),))
    )
    assert rows["user"] == ["470", "979"]
    assert rows["event"] == ["49bbd6c0f964a520f4531fe3", "4a43c0aef964a520c6a61fe3"]
    assert rows["behavior"] == ["4bf58dd8d48988d127951735", "4bf58dd8d48988d16d941735"]
    assert rows["location"][0] == h3.latlng_to_cell(40.719810375488535, -74.00258103213994, 8)
    assert rows["seconds"] == [1_333_476_009, 1_333_476_025]
    # 14:00 on a Tuesday in New York.
    assert rows["week_slot"] == [48 + 28] * 2


def test_lsapp(write, rows_of) -> None:
    text = "user_id\tsession_id\ttimestamp\tapp_name\tevent_type\n"
    text += "0\t1\t2018-01-16 06:01:05\tMinesweeper Classic (Mines)\tOpened\n"
    text += '0\t1\t2018-01-16 06:01:05\tThe "App"\tClosed\n'
    rows = rows_of(preset_spec("lsapp", (write("lsapp.tsv", text),)))
    assert rows["event"] == ["Minesweeper Classic (Mines)", 'The "App"']
    assert rows["seconds"] == [1_516_082_465] * 2
    # 06:01 on a Tuesday.
    assert rows["week_slot"] == [48 + 12] * 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n"),
        ("u.data", "1\t1193\t5\t978300760\n1\t661\t3\t978302109\n"),
    ],
)
def test_movielens(write, rows_of, name: str, text: str) -> None:
    rows = rows_of(preset_spec("movielens", (write(name, text),)))
    assert (rows["user"], rows["event"], rows["behavior"]) == (["1", "1"], ["1193", "661"], ["5", "3"])
    assert rows["seconds"] == [978_300_760, 978_302_109]


def test_honor_and_rows_that_contradict_themselves(write, rows_of, blocks_of) -> None:
    text = "user,weekday,slot,location,event,behavior,day\n"
    text += "a,1,1,home,open,chat,0\na,2,48,,open,chat,8\nb,3,5,work,pay,,1\nb,1,0,x,y,z,0\nb,1,49,x,y,z,0\n"
    text += "b,1,,x,y,z,0\nb,1,1.5,x,y,z,0\nb,1,1,x,y,z,70000\n"
    spec = preset_spec("honor", (write("honor.csv", text),))
    rows = rows_of(spec)
    # Day 0 is Monday, 1 January 2001; day 8 is the Tuesday a week later; day 1 is no Wednesday.
    monday = 978_307_200
    assert rows["seconds"] == [monday, monday + 8 * 86_400 + 47 * 1800, *[None] * 6]
    assert rows["week_slot"][:2] == [0, 48 + 47]
    assert rows["status"] == [
        *[TIME_OK] * 2,
        *[TIME_UNREADABLE] * 3,
        TIME_MISSING,
        TIME_UNREADABLE,
        TIME_OUT_OF_RANGE,
    ]
    assert (rows["location"][:2], rows["behavior"][:3]) == (["home", None], ["chat", "chat", None])
    (block,) = blocks_of(spec)
    assert block.counts["weekday_contradictions"] == 1
    assert find_source_problems(spec) == []
