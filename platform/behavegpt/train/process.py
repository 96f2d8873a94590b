"""What a process that trains sets once, before its first tensor. None of it changes a number that training computes.

Activations are freed at the end of each step and asked for again in the next. As glibc comes, it hands such memory back
to the kernel and gets it anew, page by page, each of them zeroed.
"""

import ctypes

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Names of options in glibc's malloc.h."""
KEEP_BYTES = 2**31 - 1
GROW_BYTES = 64 << 20

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(KEEP_BYTES),
    "MALLOC_TOP_PAD_": str(GROW_BYTES),
    "MALLOC_MMAP_MAX_": "0",
}
"""The same for a process that is not started yet. There it also holds for threads, such as the one in which Ray Train
runs its function: each would have an arena of its own, cut into heaps of 64 MB that are returned whatever is set."""


def settle(threads: int) -> None:
    """Set the threads of this process, that it takes tiny numbers for 0, and that it keeps memory it has had."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TOP_PAD, GROW_BYTES)
