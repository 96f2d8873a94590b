"""The worst distribution over classes in an uncertainty set around the training distribution, in closed form or nearly.

    argmax_q sum_b q(b) s(b)   over the q of a set around p

In: scores s_G (what counts as loss) and training distribution p_G. Out: q_G. All functions are pure, give 0 to classes
with p = 0, and return p itself, bit for bit, where the set holds nothing else. p sums to 1; tensors are float64 and on
the CPU (a few thousand numbers at most). Legend: G groups, here the model's classes.
"""

import math

import torch
from torch import Tensor

MAX_NEWTON_STEPS = 200
"""Of a root that quadratic convergence finds in about ten; doubling and halving take the rest in degenerate cases."""


def worst_cvar(scores_G: Tensor, probs_G: Tensor, eps: float | Tensor) -> Tensor:
    """Return the worst q under eps q(b) <= p(b): eq. 4 of BehaveGPT (arXiv 2505.17631) as its authors mean it.

    The set of Oren, Sagawa, Hashimoto, Liang, "Distributionally Robust Language Modeling" (EMNLP 2019), with behaviours
    for topics: q is any part of the training data that makes up at least a share eps of it. The linear programme has a
    closed form: from the highest score down, each class takes its cap p(b) / eps until the mass 1 is spent, so that at
    most one class is filled in part. Equal scores go by class id (most frequent first).

    Args:
        eps: In (0, 1], for all classes or (G,) for each (`class_eps`); at 1 the answer is `probs_G`.
    """
    if isinstance(eps, float | int) and eps == 1:
        return probs_G
    order_G = torch.argsort(torch.where(probs_G > 0, scores_G, -torch.inf), descending=True, stable=True)
    caps_G = (probs_G / eps)[order_G].clamp(max=1.0)
    given_before_G = caps_G.cumsum(0) - caps_G
    filled_G = torch.minimum(caps_G, (1.0 - given_before_G).clamp(min=0.0))
    return torch.zeros_like(filled_G).scatter(0, order_G, filled_G)


def class_eps(counts_G: Tensor, eps: float, exponent: float) -> Tensor:
    """Return an eps for each class, by its targets n: 1 - (1 - eps) (n_min / n)^exponent.

    Our reading of "tail-class behaviours have fewer data [...] leading to a larger uncertainty set" (BehaveGPT, section
    3.2): the rarest class has eps itself, a frequent one nearly 1, so that its cap p / eps leaves it no freedom.

    Args:
        counts_G: Training targets of each class; where there are none, the class has p = 0 and its eps no effect.
        exponent: 0 gives every class `eps`.
    """
    least = counts_G[counts_G > 0].min()
    return 1.0 - (1.0 - eps) * (least / counts_G.clamp(min=least)) ** exponent


def worst_smoothed_cvar(scores_G: Tensor, probs_G: Tensor, eps: float | Tensor, temperature: float) -> Tensor:
    """Return the worst q of KL-regularised CVaR: argmax sum_b q s - temperature KL(q || p) under eps q <= p.

    q(b) = p(b) min(1 / eps(b), exp((s(b) - eta) / temperature)) with eta such that q sums to 1 (the "KL-regularised
    CVaR" of Levy, Carmon, Duchi, Sidford, NeurIPS 2020, over classes). Classes reach their cap in the order of
    s / temperature + log eps; eta has a closed form for every number of capped classes, and the first one that leaves
    the next class below its cap is right.
    """
    if isinstance(eps, float | int) and eps == 1:
        return probs_G
    eps_G = torch.as_tensor(eps, dtype=probs_G.dtype).expand_as(probs_G)
    known_G = probs_G > 0
    scaled_G = torch.where(known_G, scores_G, -torch.inf) / temperature
    order_G = torch.argsort(scaled_G + eps_G.log(), descending=True, stable=True)
    caps_G, scaled_G, logs_G = (probs_G / eps_G)[order_G], scaled_G[order_G], probs_G.log()[order_G]
    capped_G = caps_G.cumsum(0) - caps_G
    below_G = torch.where(known_G[order_G], logs_G + scaled_G, -torch.inf).flip(0).logcumsumexp(0).flip(0)
    eta_G = below_G - (1.0 - capped_G).clamp(min=0.0).log()
    first_fits = int(((capped_G < 1) & (scaled_G + eps_G[order_G].log() <= eta_G)).int().argmax())
    log_q_G = torch.minimum(-eps_G[order_G].log(), scaled_G - eta_G[first_fits])
    return torch.zeros_like(probs_G).scatter(0, order_G, probs_G[order_G] * log_q_G.exp())


def worst_kl(scores_G: Tensor, probs_G: Tensor, rho: float) -> Tensor:
    """Return the worst q with KL(q || p) = sum_b q log(q / p) <= rho.

    q is p exp(s / tau), normalised (Hu and Hong, "Kullback-Leibler divergence constrained distributionally robust
    optimization", 2013); 1 / tau is the root of KL = rho, by Newton's method on sqrt(2 KL), which is nearly linear in
    it, with bisection where that leaves the bracket. Where the ball reaches the worst class, q is that class (or those
    that tie, by p).
    """
    if rho == 0:
        return probs_G
    shifted_G, worst_G = _below_the_worst(scores_G, probs_G)
    if -math.log(float(worst_G.sum())) <= rho:
        return worst_G / worst_G.sum()
    logs_G = probs_G.log()
    low, high = 0.0, math.inf
    variance = float((probs_G * (shifted_G - (probs_G * shifted_G).sum()) ** 2).sum())
    inverse = math.sqrt(2 * rho / variance)  # as KL ~ variance / (2 tau^2)
    q_G = probs_G
    for _ in range(MAX_NEWTON_STEPS):
        tilted_G = logs_G + inverse * shifted_G
        q_G = (tilted_G - tilted_G.logsumexp(0)).exp()
        mean = float((q_G * shifted_G).sum())
        kl = inverse * mean - float(tilted_G.logsumexp(0))
        if abs(kl - rho) <= 1e-13 + 1e-11 * rho:
            break
        low, high = (inverse, high) if kl < rho else (low, inverse)
        slope = inverse * float((q_G * (shifted_G - mean) ** 2).sum())
        step = (math.sqrt(2 * rho) - math.sqrt(2 * max(kl, 0.0))) * math.sqrt(2 * max(kl, 0.0))
        newton = inverse + step / slope if slope > 0 else math.inf
        middle = 2 * inverse if high == math.inf else (low + high) / 2
        inverse = newton if low < newton < high and newton <= 4 * inverse else middle
    return q_G


def worst_chi2(scores_G: Tensor, probs_G: Tensor, rho: float) -> Tensor:
    """Return the worst q with sum_b (q - p)^2 / (2 p) <= rho.

    q is p max(s - eta, 0), normalised (Duchi and Namkoong, "Variance-based regularization with convex objectives",
    2019, and "Learning models with uniform performance", 2021). If the classes above eta have mass P, mean score m and
    variance V under p, then eta = m - sqrt(V / ((1 + 2 rho) P - 1)); classes enter by falling score, and the first such
    eta that lies above the next score is right. Where the ball reaches the worst class, q is that class (or those that
    tie, by p).
    """
    if rho == 0:
        return probs_G
    shifted_G, worst_G = _below_the_worst(scores_G, probs_G)
    if (1 + 2 * rho) * float(worst_G.sum()) >= 1:
        return worst_G / worst_G.sum()
    order_G = torch.argsort(shifted_G, descending=True, stable=True)
    sorted_G, p_G = shifted_G[order_G], probs_G[order_G]
    mass_G, tiny = p_G.cumsum(0), torch.finfo(p_G.dtype).tiny
    mean_G, square_G = ((p_G * power_G).cumsum(0) / mass_G.clamp(min=tiny) for power_G in (sorted_G, sorted_G**2))
    gap_G = (1 + 2 * rho) * mass_G - 1
    eta_G = mean_G - ((square_G - mean_G**2).clamp(min=0) / gap_G.clamp(min=tiny)).sqrt()
    next_G = torch.cat([sorted_G[1:], sorted_G.new_full((1,), -torch.inf)])
    eta = eta_G[int(((gap_G > 0) & (eta_G >= next_G)).int().argmax())]
    q_G = probs_G * (shifted_G - eta).clamp(min=0)
    return q_G / q_G.sum()


def _below_the_worst(scores_G: Tensor, probs_G: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores less the highest one (0 for classes with p = 0), and p of the classes that have it, else 0."""
    highest = scores_G[probs_G > 0].max()
    worst_G = torch.where((scores_G == highest) & (probs_G > 0), probs_G, 0.0)
    return torch.where(probs_G > 0, scores_G - highest, 0.0), worst_G
