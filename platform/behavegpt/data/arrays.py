"""Read arrays that numpy saved, from several threads at a time.

numpy parses the header of a .npy file as Python source, and CPython's parser keeps a counter per interpreter, not per
thread: two threads in it at once now and then end in `SystemError: AST constructor recursion depth mismatch`.
"""

import threading
from pathlib import Path

import numpy as np

_ONE_AT_A_TIME = threading.Lock()


def load_array(path: Path) -> np.ndarray:
    """Return the array as a read-only map of the file; only its header is read."""
    with _ONE_AT_A_TIME:
        return np.load(path, mmap_mode="r")
