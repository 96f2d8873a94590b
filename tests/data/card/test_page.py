"""The card's three files: the same numbers, nothing active, and values of a log that stay text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from behavegpt.data.card import write_card
from behavegpt.data.manifest import Floor
from behavegpt.data.shards import write_dataset
from behavegpt.data.vocab import Vocabulary
from behavegpt.data.windows import Windows
from behavegpt.errors import InputError
from behavegpt.schema import WINDOW_LENGTH

HOSTILE = (
    "<script>alert(1)</script>",
    "{{7*7}}",
    "a|b\nc",
    "`x` <img src=//e.vil/i.png onerror=x>",
    "[l](javascript:x)",
)
CHOSEN = "</title><b>x</b>"


def make_windows(num: int, *, begin: int) -> Windows:
    """Return windows of three events, all but the first with a behaviour."""
    shape = (num, WINDOW_LENGTH)
    position = np.arange(WINDOW_LENGTH)
    filled = np.broadcast_to(position < 3, shape)
    row = np.arange(num)[:, None]
    return Windows(
        weekday=np.where(filled, row % 7 + 1, 0).astype(np.uint8),
        slot=np.where(filled, row % 48 + 1, 0).astype(np.uint8),
        location=np.zeros(shape, np.uint8),
        event=np.where(filled, 2, 0).astype(np.uint8),
        behavior=np.where(filled & (position > 0), 2 + (row + position) % len(HOSTILE), 0).astype(np.uint8),
        timestamp=np.where(filled, begin + 60 * position + 7200 * row, 0),
        length=np.full(num, 3, np.uint8),
        first_target=np.ones(num, np.uint8),
        user=np.arange(num, dtype=np.uint64),
        number=np.zeros(num, np.uint32),
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset with its card; every text in it is an attack."""
    out, day = tmp_path_factory.mktemp("card") / "hostile", 86_400
    write_dataset(
        out,
        {
            "train": make_windows(100, begin=0),
            "val": make_windows(20, begin=40 * day),
            "test": make_windows(5, begin=50 * day),
        },
        {
            "location": Vocabulary((), ()),
            "event": Vocabulary((CHOSEN,), (300,)),
            "behavior": Vocabulary(HOSTILE, (40,) * len(HOSTILE)),
        },
        name=CHOSEN,
        source={"kind": "log", "columns": {"user": CHOSEN, "event": "a|b"}, "min_users": 20},
        counts={
            "rows_read": 400,
            "missing_user": 20,
            "duplicates": 5,
            "events_kept": 375,
            "users": 125,
            "events_val": 60,
        },
        cutoffs={"val": "1970-02-10T00:00:00Z", "test": "1970-02-20T00:00:00Z"},
        floor=Floor(entropy_nats=0.25, sampled_nats=0.26, sampled_stderr=0.01, num_targets=40),
        seed=0,
    )
    assert write_card(out) == out / "card.html"
    return out


class Page(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_inert_and_shows_values_as_text(dataset: Path) -> None:
    path = dataset / "card.html"
    assert path.stat().st_size < 2e6
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert not {"script", "img", "link", "iframe", "object", "a"} & page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name in ("href", "xlink:href", "src")]
    assert links and all(value.startswith("#") for value in links), "only parts of its own figures"
    assert any("default-src 'none'" in value for name, value in page.attributes if name == "content")
    text = "".join(page.text)
    assert all(value in text for value in (*HOSTILE, CHOSEN))
    assert path.read_text(encoding="utf-8").count("<svg") == 6


def test_markdown_keeps_its_tables(dataset: Path) -> None:
    lines = (dataset / "card.md").read_text(encoding="utf-8").splitlines()
    assert "<script" not in "\n".join(lines)
    tables = "\n".join(line if line.startswith("|") else "" for line in lines).split("\n\n")
    checked = 0
    for table in filter(None, (table.strip() for table in tables)):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table
        checked += 1
    assert checked >= 6
    row = next(line for line in lines if "{{7" in line)
    assert row.split(" | ")[1] == r"{{7\*7}}"


def test_numbers_by_hand(dataset: Path) -> None:
    card = json.loads((dataset / "card.json").read_text(encoding="utf-8"))
    assert card["table1"] == {
        "event_types": 1,
        "behaviors": 5,
        "locations": 0,
        "users": 125,
        "first_day": "1970-01-01",
        "last_day": "1970-02-20",
        "days": 51,
        "events": 375,
    }
    assert card["splits"]["train"]["events_in_windows"] == 300
    assert [b["train"] for b in card["long_tail"]["behaviors"]] == [40] * 5
    assert card["long_tail"]["head_to_tail"] == 1
    assert (card["long_tail"]["behaviors_for_half"], card["long_tail"]["behaviors_for_90_percent"]) == (3, 5)
    assert card["gaps"]["1 to 10 minutes"] == 250 == sum(card["gaps"].values())
    assert card["events_per_user"]["mean"] == 375 / 100
    # Five equally frequent behaviours and `other`: p = 40.5 / (200 + 3), whatever val holds.
    scores = card["baselines"]["scores"]["val"]
    assert scores["most_frequent"]["nats"] == pytest.approx(-np.log(40.5 / 203), rel=1e-12)
    assert card["floors"] == {"val": 0.25}
    html = (dataset / "card.html").read_text(encoding="utf-8")
    assert "floor of the generator" in html and "Every row is kept or counted here." in html


def test_made_again_it_is_the_same(dataset: Path) -> None:
    first = {name: (dataset / name).read_bytes() for name in ("card.html", "card.md", "card.json")}
    write_card(dataset)
    assert {name: (dataset / name).read_bytes() for name in first} == first
    assert not list(dataset.glob(".card*"))


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a dataset"):
        write_card(tmp_path)
