"""The estimate of a worker's memory against sums by hand, and the refusals that name what fits."""

from dataclasses import replace

import pytest

from behavegpt.errors import InputError
from behavegpt.model.sizing import count_params
from behavegpt.train.config import ExecutionConfig, TrunkJob
from behavegpt.train.memory import estimate_memory, micro_windows
from behavegpt.train.trainable import Lora, Trainable


@pytest.fixture
def job(make_job) -> TrunkJob:
    """Return a job on eight workers with 64 windows a batch."""
    return make_job(batch_ramp=((0, 64),), execution=ExecutionConfig(num_workers=8))


def states(job: TrunkJob, **execution) -> tuple[float, float, float]:
    """Return weights, gradients and optimiser in bytes per parameter."""
    memory = estimate_memory(replace(job, execution=replace(job.execution, **execution)))
    total = count_params(job.model).total
    return tuple(value / total for value in (memory.weights, memory.gradients, memory.optimizer))  # pyright: ignore


def test_states_by_hand(job):
    # fp32: 4 + 4 + 8 bytes whole; ZeRO adds a float32 copy and the worker's own part of the reduced gradients.
    assert states(job, engine="torch") == states(job) == (4, 4, 8)
    assert states(job, zero_stage=1) == (4, 4 + 4 / 8, 12 / 8)
    assert states(job, zero_stage=2) == (4, 4 / 8 + 4 / 8, 12 / 8)
    assert states(job, zero_stage=3) == (4 / 8, 4 / 8 + 4 / 8, 12 / 8)
    # bf16: 2 + 2 bytes that compute, 4 + 8 in float32.
    half = replace(job, train=replace(job.train, precision="bf16"))
    assert states(half) == (2, 2 + 4, 12)
    assert states(half, zero_stage=3) == (2 / 8, 2 / 8 + 4 / 8, 12 / 8)
    assert states(half, zero_stage=2, use_gpu=True, offload="optimizer") == (2, 2 / 8 + 4 / 8, 0)
    assert states(half, zero_stage=3, use_gpu=True, offload="parameters") == (0, 2 / 8 + 4 / 8, 0)


def test_frozen_parameters_have_neither_gradients_nor_moments(job):
    # Width 16, two blocks: low-rank updates of rank 2 have 2 x 2 x 2 x 16 in each; the norms 2 x 4 x 16 + 2 x 16.
    moving = Trainable(parts=("norms",), lora=Lora(rank=2))
    frozen = estimate_memory(replace(job, train=replace(job.train, trainable=moving)))
    trained = 2 * 2 * 2 * 2 * 16 + 2 * 4 * 16 + 2 * 16
    assert (frozen.gradients, frozen.optimizer) == (4 * trained, 8 * trained)
    assert frozen.weights == estimate_memory(job).weights


def test_activations_by_hand(job):
    # Eight windows of 90 positions; 18 values a block and 8 in the backward pass per unit of width, 4 per class.
    model = job.model
    per_window = 90 * 4 * ((18 * 2 + 8) * 16 + 4 * model.num_classes)
    assert estimate_memory(job).activations == 8 * per_window
    assert estimate_memory(job, windows=3).activations == 3 * per_window
    recomputed = replace(job, execution=replace(job.execution, recompute=True))
    tensors = 8 * 90 * 4 * ((2 + 18 + 8) * 16 + 4 * model.num_classes)
    assert estimate_memory(recomputed).activations == 2 * tensors
    on_gpu = replace(recomputed, execution=replace(recomputed.execution, use_gpu=True))
    assert estimate_memory(on_gpu).activations == tensors


def test_the_micro_batch_is_the_largest_that_fits(job):
    whole = estimate_memory(job).total
    assert micro_windows(job, whole) is None
    for windows in (1, 3, 7):
        assert micro_windows(job, estimate_memory(job, windows).total + 1) == windows
    given = replace(job, execution=replace(job.execution, micro_windows=5))
    assert micro_windows(given, whole) == 5


@pytest.mark.parametrize(
    ("spare", "words"),
    [
        ({"recompute": True}, "with recompute it needs"),
        ({"zero_stage": 1}, "with zero_stage 1 it needs"),
        ({"zero_stage": 3}, "with zero_stage 3 it needs"),
        ({"zero_stage": 3, "recompute": True}, "with zero_stage 3 and recompute it needs"),
    ],
)
def test_a_refusal_names_the_first_that_fits(job, spare, words):
    # Wide and deep enough for states and recomputation to matter; nothing is built.
    wide = replace(job.model, width=1_024, depth=12)
    job = replace(job, model=wide, execution=replace(job.execution, micro_windows=1))
    limit = estimate_memory(replace(job, execution=replace(job.execution, **spare)), 1).total
    with pytest.raises(InputError) as refused:
        micro_windows(job, limit)
    assert f"{words} {limit / 1e9:.2f} GB, which fits" in str(refused.value)


def test_a_refusal_says_where_nothing_fits(job):
    with pytest.raises(InputError, match="no ZeRO stage fits on 8 workers: take more workers or a smaller model"):
        micro_windows(job, 6e8)


@pytest.mark.parametrize(
    ("execution", "word"),
    [
        ({"offload": "optimizer", "zero_stage": 2}, "use_gpu is not set"),
        ({"offload": "optimizer", "use_gpu": True}, "zero_stage is 0; it takes DeepSpeed with stage >= 1"),
        ({"offload": "parameters", "use_gpu": True, "zero_stage": 2}, "stage >= 3"),
        ({"engine": "torch", "zero_stage": 2}, "engine is torch and zero_stage is 2; only DeepSpeed has"),
        ({"engine": "torch", "use_gpu": True}, "engine is torch and use_gpu is set"),
        ({"micro_windows": 0}, "micro_windows is 0"),
        ({"memory_gb": float("nan")}, "memory_gb is nan"),
    ],
)
def test_an_impossible_execution_is_named(execution, word):
    with pytest.raises(InputError, match=word):
        ExecutionConfig(**execution)
