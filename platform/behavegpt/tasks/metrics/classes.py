"""Precision and recall from counts per class: weighted, macro, and as the paper's equations 6 and 7 print them.

In: how often each class was predicted rightly, was predicted, and was the truth. Leading axes may hold bootstrap draws.
Legend: D draws, V classes.

    Prec_b = TP_b / (TP_b + FP_b)         Rec_b = TP_b / (TP_b + FN_b)        n_b = TP_b + FN_b, N = sum n_b
    weighted: sum n_b Prec_b / N          sum n_b Rec_b / N = accuracy
    macro:    mean of Prec_b              mean of Rec_b          over all classes: absent or never predicted counts 0
    eq. 6, 7: sum TP_b Prec_b / sum (TP_b + FP_b)       sum TP_b Rec_b / sum (TP_b + FN_b)

Equations 6 and 7 of BehaveGPT (arXiv 2505.17631) weigh by what was right and are never larger than the usual forms of
the same name, so they are kept under their own names.
"""

from typing import NamedTuple

import numpy as np


class ClassCounts(NamedTuple):
    """Counts per class, each (..., V)."""

    hits: np.ndarray
    """TP: predicted, and the truth."""
    predicted: np.ndarray
    """TP + FP."""
    actual: np.ndarray
    """TP + FN."""


def count_classes(targets: np.ndarray, predictions: np.ndarray, num_classes: int) -> ClassCounts:
    """Return the counts over all targets, each (V,)."""
    right = targets[targets == predictions]
    return ClassCounts(*(np.bincount(x, minlength=num_classes) for x in (right, predictions, targets)))


def precision(counts: ClassCounts, undefined: np.ndarray | float = 0.0) -> np.ndarray:
    """Return (..., V) precision of each class; `undefined` where it was never predicted."""
    return _ratio(counts.hits, counts.predicted, undefined)


def recall(counts: ClassCounts, undefined: np.ndarray | float = 0.0) -> np.ndarray:
    """Return (..., V) recall of each class; `undefined` where it never was the truth."""
    return _ratio(counts.hits, counts.actual, undefined)


def weighted(per_class: np.ndarray, counts: ClassCounts) -> np.ndarray:
    """Return (...) the mean of a figure of each class, weighted by how often the class is the truth."""
    return (per_class * counts.actual).sum(axis=-1) / counts.actual.sum(axis=-1)


def precision_eq6(counts: ClassCounts) -> np.ndarray:
    """Return (...) equation 6 as printed."""
    return (counts.hits * precision(counts)).sum(axis=-1) / counts.predicted.sum(axis=-1)


def recall_eq7(counts: ClassCounts) -> np.ndarray:
    """Return (...) equation 7 as printed."""
    return (counts.hits * recall(counts)).sum(axis=-1) / counts.actual.sum(axis=-1)


def _ratio(part: np.ndarray, whole: np.ndarray, undefined: np.ndarray | float) -> np.ndarray:
    empty = whole == 0
    return np.where(empty, undefined, part / np.where(empty, 1, whole))
