"""Logs whose behaviours are all missing: refused, with the name of what should give them."""

import pytest

from behavegpt.data.ingest.drops import refuse_no_behavior
from behavegpt.data.sources.spec import BehaviorTable, Columns, LogSpec
from behavegpt.errors import InputError

COLUMNS = {"user": "u", "timestamp": "t", "event": "app"}


def test_log_without_any_behaviour_is_refused_by_column_or_table() -> None:
    by_column = LogSpec(inputs=("a",), columns=Columns(**COLUMNS, behavior="kind"))
    table = BehaviorTable(input="kinds.csv", event="name", behavior="kind")
    by_table = LogSpec(inputs=("a",), columns=Columns(**COLUMNS), behavior_table=table)
    none = {"events_kept": 7, "missing_behavior": 7}
    with pytest.raises(InputError, match=r"^--behavior kind: the column is blank in every event"):
        refuse_no_behavior(none, by_column)
    with pytest.raises(InputError, match=r"^--behavior-table kinds.csv: its column 'name' has none .* column 'app'"):
        refuse_no_behavior(none, by_table)
    for spec in (by_column, by_table):
        refuse_no_behavior(none | {"missing_behavior": 6}, spec)
