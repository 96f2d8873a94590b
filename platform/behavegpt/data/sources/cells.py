"""Coordinates become cells of the H3 grid.

In: columns of latitude and longitude. Out: ids of cells; https://h3geo.org describes the grid.
"""

# Arrow makes its compute functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import numpy as np
import pyarrow as pa

from behavegpt.data.sources.ids import encode_ids, to_numbers


def encode_cells(latitude: pa.Array, longitude: pa.Array, resolution: int) -> tuple[pa.DictionaryArray, int]:
    """Return the cell of every row as a dictionary, and how many rows have coordinates that are none.

    A row without coordinates has a missing cell; one with coordinates that are no place on earth too, and is counted.
    """
    # Only here, so that logs without coordinates need no grid library.
    from h3.api.basic_int import latlng_to_cell

    degrees = np.stack([to_numbers(latitude), to_numbers(longitude)], axis=1)
    valid = (np.abs(degrees) <= (90, 180)).all(axis=1)
    # Two floats as one structured value, so that sorting finds the distinct places.
    places, place = np.unique(degrees[valid].view("f8,f8").ravel(), return_inverse=True)
    cells = np.array([latlng_to_cell(lat, lon, resolution) for lat, lon in places.tolist()], np.uint64)
    distinct, cell = np.unique(cells, return_inverse=True)
    codes = np.zeros(len(degrees), np.int32)
    codes[valid] = cell[place]
    texts = pa.array([f"{number:x}" for number in distinct.tolist()], pa.string())
    encoded = pa.DictionaryArray.from_arrays(pa.array(codes, mask=~valid), texts)
    return encoded, int((~valid & ~(_empty(latitude) & _empty(longitude))).sum())


def _empty(values: pa.Array) -> np.ndarray:
    """Return which cells are null or blank."""
    return np.asarray(encode_ids(values).is_null())
