"""The plain torch loop that training is compared with, and the matrix products that the loop is compared with.

In: a model's shape and batches that lie in memory. Out: seconds of each. The loop is what anyone would write: forward,
cross-entropy, backward, clip, AdamW, with the platform's model, optimiser and clipping; no engine, stream or curve.
"""

import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from behavegpt.bench.alone import peak_bytes
from behavegpt.bench.turns import Turns
from behavegpt.data.manifest import read_manifest
from behavegpt.data.plan import plan_reads
from behavegpt.data.stream import local_tables, stream_batches
from behavegpt.model.attention import resolve_attention
from behavegpt.model.config import ModelConfig
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.study.recipe import train_config
from behavegpt.train.evaluate import features
from behavegpt.train.optim import build_optimizer, clip_gradients
from behavegpt.train.process import settle

SQUARE = 1024
"""Side of the square matrices whose product gives the machine's rate: no shape of a model's is faster on a CPU."""
GPU_SQUARE = 8192
PRODUCTS = 12


def clock(device: torch.device) -> float:
    """Return the seconds of this thread where it computes itself, else the clock's, once the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


class BareLoop:
    """A model, its optimiser, and batches that the loop goes through again and again."""

    def __init__(self, config: ModelConfig, dataset: Path, windows: int, device: torch.device) -> None:
        train = train_config(config, schedule="cosine", seed=0)
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.model = BehaveGPT(config, resolve_attention(config.attention, device, self._dtype))
        initialise(self.model, train.seed)
        self._optimizer = build_optimizer(self.model.to(device), train)
        self._parameters, self._clip_norm = list(self.model.parameters()), train.clip_norm
        self._batches = cycle(read_batches(dataset, windows, device))

    def step(self) -> None:
        """Train on the next batch."""
        inputs, targets = next(self._batches)
        with torch.autocast(targets.device.type, self._dtype, enabled=self._dtype != torch.float32):
            loss = cross_entropy(self.model(*inputs).flatten(0, 1), targets.flatten(), ignore_index=-1)
        self._optimizer.zero_grad()
        loss.backward()
        clip_gradients(self._parameters, self._clip_norm)
        self._optimizer.step()


def read_batches(dataset: Path, windows: int, device: torch.device, most: int = 8) -> list[tuple[list[Tensor], Tensor]]:
    """Return inputs and targets of the first batches of the train split."""
    manifest = read_manifest(dataset)
    last = min(most, manifest.splits["train"].num_windows // windows) * windows
    plan = plan_reads(dataset, manifest, "train", [(0, last)], 0, 1)
    spans = [(first, first + windows) for first in range(0, last, windows)]
    return [
        (features(batch, device), torch.from_numpy(batch.targets).to(device))
        for batch in stream_batches(plan, local_tables(plan), spans)
    ]


def product(rows: int, inner: int, columns: int, device: torch.device) -> Callable[[], None]:
    """Return a function that multiplies two matrices into a third."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.ones(shape, device=device, dtype=dtype) for shape in ((rows, inner), (inner, columns)))
    out = torch.empty(rows, columns, device=device, dtype=dtype)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return multiply


def own_products(model: ModelConfig, windows: int, device: torch.device) -> list[tuple[Callable[[], None], int]]:
    """Return the products of a training step's linear layers, each with how often a step runs it.

    A layer from m to n numbers has three over P positions: (P, m)(m, n), (P, n)(n, m) and (m, P)(P, n).
    """
    positions, width = windows * model.num_positions, model.width
    layers = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    often = [(m, n, model.depth) for m, n in layers] + [(width, width, 1), (width, model.num_classes, 1)]
    shapes = [((positions, m, n), (positions, n, m), (m, positions, n), times) for m, n, times in often]
    return [(product(*shape, device), times) for *three, times in shapes for shape in three]


def measure_bare(
    turns: Turns, model: ModelConfig, dataset: Path, windows: int, steps: int, gpu: bool
) -> dict[str, list[float]]:
    """Return the seconds of each turn's steps, and beside them those of products; run in a process of its own.

    Returns:
        step_s: by the clock, of one step; step_cpu_s: of the thread that computes; square_s: of one product of squares;
        own_s: of the products that one step's linear layers consist of; peak: bytes of the process.
    """
    settle(threads=1)
    device = torch.device("cuda" if gpu else "cpu")
    loop = BareLoop(model, dataset, windows, device)
    side = GPU_SQUARE if gpu else SQUARE
    square, own = product(side, side, side, device), own_products(model, windows, device)
    found: dict[str, list[float]] = {name: [] for name in ("step_s", "step_cpu_s", "square_s", "own_s")}
    for round_number in range(turns.rounds):
        turns.wait(round_number)
        found["square_s"].append(median_s(square, PRODUCTS, device))
        begin, begin_cpu = time.perf_counter(), clock(device)
        for _ in range(steps):
            loop.step()
        found["step_cpu_s"].append((clock(device) - begin_cpu) / steps)
        found["step_s"].append((time.perf_counter() - begin) / steps)
        found["own_s"].append(sum(times * median_s(multiply, 3, device) for multiply, times in own))
        turns.end(round_number)
    return found | {"peak": [float(peak_bytes())]}


def median_s(call: Callable[[], None], times: int, device: torch.device) -> float:
    """Return the seconds of a call."""
    seconds = []
    for _ in range(times):
        begin = clock(device)
        call()
        seconds.append(clock(device) - begin)
    return median(seconds)
