"""Times of a log that has no timestamps: weekday, half hour of the day, and number of the day.

In: three columns of whole numbers and the date of day 0. Out: `Times`. A row whose weekday is not that of its day's
date is unreadable, because either may be the wrong one.
"""

from datetime import date

import numpy as np
import pyarrow as pa

from behavegpt.data.sources.ids import encode_ids, to_numbers
from behavegpt.data.sources.spec import EARLIEST
from behavegpt.data.sources.times import TIME_MISSING, TIME_OK, TIME_OUT_OF_RANGE, TIME_UNREADABLE, Clock, Times
from behavegpt.data.sources.zones import DAY, HALF_HOUR, MICROS, local_to_instants

_MAX_DAY = 100_000


def read_calendar_times(
    weekday: pa.Array, slot: pa.Array, day: pa.Array, first_date: str, clock: Clock
) -> tuple[Times, int]:
    """Return the times of rows, at the start of their half hours, and how many rows contradict themselves.

    Args:
        weekday: (R,) 1 Monday .. 7 Sunday.
        slot: (R,) 1 from 00:00 .. 48.
        day: (R,) days since `first_date`.
    """
    columns = [to_numbers(values) for values in (weekday, slot, day)]
    missing = np.logical_or.reduce([np.asarray(encode_ids(values).is_null()) for values in (weekday, slot, day)])
    readable = np.logical_and.reduce([values == np.floor(values) for values in columns])
    limits = ((1, 7), (1, 48), (-_MAX_DAY, _MAX_DAY))
    for values, (low, high) in zip(columns, limits, strict=True):
        readable &= (values >= low) & (values <= high)
    numbers = [
        np.where(readable, values, low).astype(np.int64) for values, (low, _) in zip(columns, limits, strict=True)
    ]
    days = (date.fromisoformat(first_date) - date(1970, 1, 1)).days + numbers[2]
    # 1970-01-01 was a Thursday, weekday 4.
    contradicts = readable & ((days + 3) % 7 + 1 != numbers[0])
    local = days * DAY + (numbers[1] - 1) * HALF_HOUR
    instants, twice, never = local_to_instants(local, clock.timezone)
    outside = (instants < EARLIEST) | (instants >= clock.latest)
    status = np.select(
        [missing, ~readable | contradicts, outside], [TIME_MISSING, TIME_UNREADABLE, TIME_OUT_OF_RANGE], TIME_OK
    ).astype(np.uint8)
    ok = status == TIME_OK
    week_slot = np.where(ok, (numbers[0] - 1) * 48 + numbers[1] - 1, 0).astype(np.uint16)
    counts = {"times_without_offset": int(ok.sum()), "times_shown_twice": twice, "times_never_shown": never}
    times = Times(micros=np.where(ok, instants * MICROS, 0), week_slot=week_slot, status=status, counts=counts)
    return times, int((contradicts & ~missing).sum())
