"""How near generated behaviours are to the true ones: the metrics of the paper's Table 4, and what real users score.

In: behaviours of U users, N each, as ids, generated and true. Out: one number for each name of METRICS.

Pooled metrics are of all users' behaviours together: a generator that knows only the population can have them right.
Those "of a user" are means over users of the metric of the user's own N behaviours, and have a floor: two samples of N
from one distribution differ. So real users are set beside every generator: `real_halves` scores the true behaviours of
half of the users against those of the other half, as a perfect generator would do that knows nothing of the user, on
half as many users and so with more noise.

KS and Wasserstein depend on the order of the classes: ids, so by frequency in training. Divergences are in bits.

Legend: U users, N behaviours, V classes.
"""

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import jensenshannon

from behavegpt.schema import NUM_SLOTS
from behavegpt.tasks.metrics.sequences import bleu, distinct_2, js_divergence, ks_statistic, wasserstein

METRICS = (
    *("ks", "wasserstein", "jsd", "jsd_bigrams", "jsd_slots"),
    *("bleu", "distinct_2", "ks_user", "wasserstein_user", "jsd_user"),
)
NUM_SPLITS = 20
"""Of the users into halves."""
Behaviors = Mapping[str, np.ndarray]
"""(U, N) ids of behavior and slot."""


def figures(generated: Behaviors, truth: Behaviors, num_ids: int) -> dict[str, float]:
    """Return every metric of METRICS.

    Args:
        truth: Of the same user in each row, but where two real users are compared.
        num_ids: Of behaviours.
    """
    drawn, true = generated["behavior"], truth["behavior"]
    bigrams = np.stack([x[:, :-1] * num_ids + x[:, 1:] for x in (drawn, true)])
    kinds, numbered = np.unique(bigrams, return_inverse=True)
    drawn_bigrams, true_bigrams = numbered.reshape(bigrams.shape)
    return {
        "ks": ks_statistic(drawn, true),
        "wasserstein": wasserstein(drawn, true),
        "jsd": js_divergence(drawn, true, num_ids),
        "jsd_bigrams": js_divergence(drawn_bigrams, true_bigrams, len(kinds)) if len(kinds) else 0.0,
        "jsd_slots": js_divergence(generated["slot"], truth["slot"], NUM_SLOTS),
        "bleu": bleu(drawn, true),
        "distinct_2": distinct_2(drawn),
        **_of_users(drawn, true, num_ids),
    }


def real_halves(truth: Behaviors, num_ids: int, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the mean of each metric, and its standard deviation, over NUM_SPLITS of the users into random halves.

    Each user of one half is set beside one of the other.
    """
    rng, num_users = np.random.default_rng(seed), len(truth["behavior"])
    found = []
    for _ in range(NUM_SPLITS):
        order = rng.permutation(num_users)
        halves = (order[: num_users // 2], order[num_users // 2 : num_users // 2 * 2])
        of_half = [{name: values[half] for name, values in truth.items()} for half in halves]
        found.append(figures(of_half[0], of_half[1], num_ids))
    values = {name: [figure[name] for figure in found] for name in METRICS}
    means = {name: float(np.mean(v)) for name, v in values.items()}
    return means, {name: float(np.std(v, ddof=1)) for name, v in values.items()}


def _of_users(drawn: np.ndarray, true: np.ndarray, num_ids: int) -> dict[str, float]:
    """Return the means over users of their own KS, Wasserstein and JSD: scipy's, for all users at once."""
    p_UV, q_UV = (_shares(x, num_ids) for x in (drawn, true))
    gap_UV = np.abs(np.cumsum(p_UV - q_UV, axis=1))
    return {
        "ks_user": float(gap_UV.max(axis=1).mean()),
        "wasserstein_user": float(gap_UV.sum(axis=1).mean()),
        "jsd_user": float((jensenshannon(p_UV.T, q_UV.T, base=2) ** 2).mean()),
    }


def _shares(ids: np.ndarray, num_ids: int) -> np.ndarray:
    """Return (U, V) the share of each id in each row."""
    rows = np.arange(len(ids))[:, None] * num_ids
    counts = np.bincount((rows + ids).ravel(), minlength=len(ids) * num_ids)
    return counts.reshape(len(ids), num_ids) / ids.shape[1]
