"""Saved arrays are read by many threads at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from behavegpt.data.arrays import load_array


def test_many_threads_read_the_headers_of_structured_arrays(tmp_path: Path) -> None:
    saved = np.zeros(3, np.dtype([(f"c{i}", np.uint8, (91,)) for i in range(10)]))
    saved["c3"] = 7
    np.save(tmp_path / "a.npy", saved)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load_array(tmp_path / "a.npy"), range(500)))
    assert all((array == saved).all() for array in found)
