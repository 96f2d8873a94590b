"""What the training benchmark prints of its measurements: rates over rates, each with what it is compared with.

In: seconds and bytes of each side, turn by turn. Out: figures; a ratio is the median of the turns' own ratios.
"""

from collections.abc import Iterator
from statistics import median

import torch

from behavegpt.bench.bare import GPU_SQUARE, SQUARE
from behavegpt.bench.figures import Figure, gibibytes
from behavegpt.model.config import ModelConfig
from behavegpt.model.sizing import count_params, flops_per_window
from behavegpt.schema import NUM_INPUTS

Sides = tuple[dict[str, list[float]], dict[str, list[float]]]
"""What the bare loop and a worker group found, turn by turn: seconds of a step, and peak bytes."""
LIMITS = {"0.1M": ">= 0.45", "4.8M": ">= 0.7"}
PATHS = {"0.1M": ">= 0.9", "0.8M": ">= 0.97", "4.8M": ">= 0.97"}


def limit_figures(
    size: str, model: ModelConfig, bare: dict[str, list[float]], windows: int, gpu: bool
) -> Iterator[Figure]:
    """Yield the bare loop's counted FLOP/s over the rate of a large square product; then over its own products'."""
    flops, counts = flops_per_window(model).training * windows, count_params(model)
    square = 2 * (GPU_SQUARE if gpu else SQUARE) ** 3
    device = torch.cuda.get_device_name() if gpu else "one thread"
    rates = [flops / s for s in bare["step_cpu_s"][1:]]
    squares = [square / s for s in bare["square_s"][1:]]
    yield Figure(
        name=f"{size} ({counts.non_embedding:,}), batch {windows}, counted FLOP/s of the bare loop on {device}",
        ours=f"{median(rates) / 1e9:,.1f} G",
        other=f"{median(squares) / 1e9:,.1f} G, large square product",
        value=median(rate / peak for rate, peak in zip(rates, squares, strict=True)),
        wanted="" if gpu else LIMITS.get(size, ""),
    )
    linear = flops - 3 * windows * flops_per_window(model).attention
    own = [linear / s for s in bare["own_s"][1:]]
    yield Figure(
        name=f"{size}, the same over the rate of its own linear layers' products",
        ours=f"{median(rates) / 1e9:,.1f} G",
        other=f"{median(own) / 1e9:,.1f} G, own products",
        value=median(rate / peak for rate, peak in zip(rates, own, strict=True)),
    )


def path_figures(
    size: str, bare: dict[str, list[float]], full: dict[str, list[float]], windows: int
) -> Iterator[Figure]:
    """Yield the full path's speed over the bare loop's, and both peaks of memory."""
    events = windows * NUM_INPUTS
    ours, other = full["step_s"][1:], bare["step_s"][1:]
    yield Figure(
        name=f"{size}, full path: Ray Data, Ray Train worker, DeepSpeed engine",
        ours=f"{events / median(ours):,.0f} events/s",
        other=f"{events / median(other):,.0f} events/s, bare loop",
        value=median(o / f for o, f in zip(other, ours, strict=True)),
        wanted=PATHS.get(size, ""),
    )
    peak, bare_peak = full["peak"][0], bare["peak"][0]
    yield Figure(
        name=f"{size}, peak memory of the worker",
        ours=f"{gibibytes(int(peak)):.2f} GiB",
        other=f"{gibibytes(int(bare_peak)):.2f} GiB, bare loop",
        value=peak / bare_peak,
    )


def worker_figures(size: str, one: Sides, two: Sides) -> Iterator[Figure]:
    """Yield the speed of two workers over that of one on the same global batch, both as multiples of the bare loop's.

    Args:
        one: What the bare loop and one worker found in turns; two: what it and two workers did.
    """
    speeds = [
        median(b / g for b, g in zip(bare["step_s"][1:], group["step_s"][1:], strict=True))
        for bare, group in (one, two)
    ]
    yield Figure(
        name=f"{size}, two workers of one thread over one",
        ours=f"{speeds[1]:.2f} bare loops",
        other=f"{speeds[0]:.2f} bare loops, one worker",
        value=speeds[1] / speeds[0],
        wanted=">= 1.8",
    )
