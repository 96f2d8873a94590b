"""How near sequences of behaviours are to others: distances of distributions, BLEU, and diversity.

In: sequences of classes, numbered by their frequency in training, most frequent first. Out: one number each. The
statistics are scipy's and sacrebleu's; here is what they are applied to.

KS and Wasserstein depend on the order of the classes, which the numbering fixes; JSD does not.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sacrebleu import corpus_bleu
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance

Sequences = Sequence[Sequence[int]] | np.ndarray


def ks_statistic(classes: np.ndarray, others: np.ndarray) -> float:
    """Return max |F(x) - G(x)| of the two samples' distribution functions over class numbers."""
    result: Any = ks_2samp(np.ravel(classes), np.ravel(others), method="asymp")
    return float(result.statistic)


def wasserstein(classes: np.ndarray, others: np.ndarray) -> float:
    """Return sum |F(x) - G(x)|: how far, in class numbers, the mass of one sample is moved to give the other."""
    return float(wasserstein_distance(np.ravel(classes), np.ravel(others)))


def js_divergence(classes: np.ndarray, others: np.ndarray, num_classes: int) -> float:
    """Return the Jensen-Shannon divergence in bits, 0 to 1, of two samples' class frequencies.

    scipy gives the distance, which is its root.
    """
    p, q = (np.bincount(np.ravel(x), minlength=num_classes) for x in (classes, others))
    return float(jensenshannon(p, q, base=2) ** 2)


def bleu(generated: Sequences, references: Sequences) -> float:
    """Return the corpus BLEU, 0 to 1: n-grams to length 4, one reference each, classes as words, no smoothing."""
    hypotheses, truths = ([" ".join(map(str, sequence)) for sequence in part] for part in (generated, references))
    return corpus_bleu(hypotheses, [truths], smooth_method="none", tokenize="none", force=True).score / 100


def distinct_2(sequences: Sequences) -> float:
    """Return the mean over sequences of distinct bigrams / bigrams; 0 for a sequence without one.

    Pooled over many sequences, as some papers do, it would tend to 0 with their number. Nearer to the real sequences'
    own value is better, not higher.
    """
    shares = []
    for sequence in sequences:
        bigrams = list(pairwise(sequence))
        shares.append(len(set(bigrams)) / len(bigrams) if bigrams else 0.0)
    return float(np.mean(shares))
