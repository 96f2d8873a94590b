"""Prior correction against Bayes' rule on a table of probabilities."""

import pytest
import torch

from behavegpt.loss.config import Chi2, ClassBalanced, Cvar, Doro, Focal, Ldam, LogitAdjusted
from behavegpt.loss.prior import PRIOR_SUM, correct_prior, trained_prior

COUNTS = torch.tensor([60, 30, 10, 0])


def bayes(likelihood_XG: torch.Tensor, prior_G: torch.Tensor) -> torch.Tensor:
    """Return p(b|x), (X, G), from p(x|b) and p(b)."""
    joint = likelihood_XG * prior_G
    return joint / joint.sum(dim=1, keepdim=True)


def test_a_full_correction_is_bayes_rule_under_the_other_prior():
    likelihood = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]]).double()
    trained, wanted = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.7, 0.2, 0.1]).double()
    logits = bayes(likelihood, trained).log() + 4.0
    corrected = correct_prior(logits, trained, wanted, 1.0)
    torch.testing.assert_close(corrected.softmax(dim=1), bayes(likelihood, wanted))
    assert torch.equal(correct_prior(logits, trained, wanted, 0.0), logits)
    half = correct_prior(logits, trained, wanted, 0.5)
    torch.testing.assert_close(half, (logits + corrected) / 2)


def test_classes_without_an_estimate_keep_their_logit_and_float32_stays():
    logits = torch.zeros(2, 3, 4)
    corrected = correct_prior(logits, torch.tensor([0.5, 0.0, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.5, 0.0]), 1.0)
    expected = torch.tensor([0.5, 1.0, 2.0, 1.0]).log().expand(2, 3, 4)
    torch.testing.assert_close(corrected, expected)
    assert corrected.dtype == torch.float32


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (None, [0.6, 0.3, 0.1, 0.0]),
        (Focal(), [0.6, 0.3, 0.1, 0.0]),
        (Ldam(), [0.6, 0.3, 0.1, 0.0]),
        (LogitAdjusted(tau=0.0), [0.6, 0.3, 0.1, 0.0]),
        (LogitAdjusted(tau=1.0), [1 / 3, 1 / 3, 1 / 3, 0.0]),
        (LogitAdjusted(tau=2.0), [1 / 9, 2 / 9, 6 / 9, 0.0]),  # proportional to 1 / p
        (ClassBalanced(beta=0.0), [0.6, 0.3, 0.1, 0.0]),
        (Cvar(), [0.25, 0.25, 0.5, 0.0]),
        (Chi2(), [0.25, 0.25, 0.5, 0.0]),
        (Doro(), [0.25, 0.25, 0.5, 0.0]),
    ],
)
def test_the_prior_under_which_each_loss_trains(loss, expected):
    tensors = {PRIOR_SUM: torch.tensor([10.0, 10.0, 20.0, 0.0]).double()}
    torch.testing.assert_close(trained_prior(loss, COUNTS, tensors), torch.tensor(expected).double())


def test_logit_adjustment_is_undone_by_the_correction_to_p():
    """A model that fits CE(logits + tau log p) perfectly has logits log p(b|x) - tau log p(b)."""
    likelihood = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.8, 0.9]]).double()
    counts = COUNTS[:3]
    probs = counts.double() / 100
    for tau in (0.5, 1.0, 1.5):
        logits = bayes(likelihood, probs).log() - tau * probs.log()
        corrected = correct_prior(logits, trained_prior(LogitAdjusted(tau=tau), counts, {}), probs, 1.0)
        torch.testing.assert_close(corrected.softmax(dim=1), bayes(likelihood, probs))


def test_a_robust_loss_without_its_state_has_no_prior():
    with pytest.raises(KeyError, match="prior_sum"):
        trained_prior(Cvar(), COUNTS, {})
