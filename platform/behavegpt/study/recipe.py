"""How a model is trained, as rules of its size: nothing here is tuned by hand for one cell.

The constants were measured on generated logs with two blocks of width 16 to 96; a law is only as good as the recipe
behind it, so every study states these rules in its report.
"""

from typing import Literal

from behavegpt.loss.config import Loss
from behavegpt.model.config import ModelConfig
from behavegpt.train.config import Schedule, TrainConfig

LEARNING_RATE_X_WIDTH = 0.19
"""Peak rate = 0.19 / width. `jobs/calibrate.py` on the demo's log (rates of matrices and tables scaled together) finds
that the best rate falls as 1 / width (free exponents 1.20, 0.82, 0.92) and does not fall with D: best rate x width is
0.248 at D = 50 k, 0.343 at 200 k, 0.309 at 800 k. The valley is flat: the rule costs at most 0.0017 nats, where seeds
differ by 0.0016 to 0.0048, so it stays what it was before the tables had a rate of their own. Four times the rule
costs up to 0.008, a quarter of it 0.007 to 0.049."""
TABLE_RATE = 0.1
"""Peak rate of the lookup tables, at every width: the steps of a looked-up row do not add up over the width as those of
a matrix product do, so that only matrices need 1 / width (Yang et al. 2022, table 8). On generated phone logs at width
64 and 100 k events 0.024, 0.05, 0.1 give 1.808, 1.802, 1.795; 0.2 at width 16 costs 0.009, 0.05 at width 96 0.006.
Four times the rate of the matrices, 0.012 at width 64, costs 0.034 at 50 k."""
WARMUP_STEPS = 100
"""Steps to the peak rate. With 20, three seeds at width 40 and 50 k events gave 1.93 to 2.00; with 60, 1.94 to 1.96;
with 150, 1.92 to 1.93: batches of one window are noisy, and a fast start can cost what the whole run wins. Measured,
as the ramp below, with tables at four times the rate of the matrices and a head without its direct path."""
DECAY_SHARE = 0.2
"""The last share of a cell's events, over which the rate falls to zero."""
BATCH_RAMP = (
    (0, 1),
    (8_000, 2),
    (60_000, 4),
    (250_000, 8),
    *((1_000_000 * 4**k, 16 * 2**k) for k in range(5)),
)
"""Windows per batch by events seen, twice as many at four times the events: the useful batch grows as the loss falls
(McCandlish et al. 2018). At width 16 a constant 16 needs 0.4 nats more at 50 k events, a constant 4 needs 0.1 more
there and nothing at 200 k. Beyond 1 M events the ramp is the same rule continued, not measured."""


def train_config(
    model: ModelConfig,
    *,
    schedule: Schedule,
    seed: int,
    loss: Loss | None = None,
    learning_rate: float | None = None,
    rate_factor: float = 1.0,
    num_val_windows: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> TrainConfig:
    """Return the recipe for a model.

    Args:
        learning_rate: Peak rate; None takes the rule.
        rate_factor: Multiplies the peak rate.
    """
    peak = learning_rate if learning_rate is not None else LEARNING_RATE_X_WIDTH / model.width
    return TrainConfig(
        learning_rate=rate_factor * peak,
        embedding_lr_factor=TABLE_RATE * model.width / LEARNING_RATE_X_WIDTH,
        decay_share=DECAY_SHARE,
        warmup_steps=WARMUP_STEPS,
        batch_ramp=BATCH_RAMP,
        schedule=schedule,
        seed=seed,
        loss=loss,
        num_val_windows=num_val_windows,
        precision=precision,
    )
