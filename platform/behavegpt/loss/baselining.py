"""The loss of a weak model, by class: what a robust loss subtracts before it compares classes.

A rare class has a higher loss in any model; without a baseline its share of irreducible loss drives the worst case
(Oren et al., "Distributionally Robust Language Modeling", EMNLP 2019, section 4). The loss itself stays as it is.

In: counts of the training split, or the losses of a reference model. Out: base_G, nats. Legend: G classes.
"""

import numpy as np

from behavegpt.loss.counts import Transitions

MARKOV_PRIOR = 10.0
"""Pseudo-counts that every context has beforehand, spread over the classes as their frequencies are."""


def unigram_losses(counts: np.ndarray) -> np.ndarray:
    """Return -log p (G,), p the share of each class among the training targets; 0 where it is none."""
    return -np.log(np.where(counts > 0, counts / counts.sum(), 1.0))


def markov_losses(counts: np.ndarray, transitions: Transitions) -> np.ndarray:
    """Return the mean loss (G,) of the targets of each class under a first-order Markov chain; 0 where it has none.

    P(b | a) = (n_ab - 1 + k p_b) / (n_a - 1 + k), k = MARKOV_PRIOR: a Dirichlet prior around the unigram, and each
    target scored by the counts of all others, as the robust loss meets targets that the model has not trained on yet.
    """
    num_classes = len(counts)
    context, following = np.divmod(transitions.pairs, num_classes)
    of_context = np.bincount(context, weights=transitions.counts, minlength=num_classes + 1)
    share = counts / counts.sum()
    seen = transitions.counts - 1 + MARKOV_PRIOR * share[following]
    losses = -np.log(seen / (of_context[context] - 1 + MARKOV_PRIOR))
    sums = np.bincount(following, weights=transitions.counts * losses, minlength=num_classes)
    return sums / np.maximum(counts, 1)


def reference_losses(counts: np.ndarray, sums: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Return the mean loss (G,) of a reference model on a sample of the training targets, with one of the unigram's.

    The added one is all that a class has that the sample lacks: base = (sum + unigram) / (scored + 1).

    Args:
        sums: (G,) the model's losses on the sample's targets of each class.
        scored: (G,) their numbers.
    """
    return (sums + unigram_losses(counts)) / (scored + 1)
