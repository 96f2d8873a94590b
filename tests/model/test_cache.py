"""One event at a time from the cache gives what the whole window gives, and the same bits in any company."""

import pytest
import torch
from torch import Tensor

from behavegpt.model.cache import ROWS, WINDOWS
from behavegpt.model.config import ModelConfig, for_width
from behavegpt.model.transformer import BehaveGPT, initialise

SIZES = {"weekday": 8, "slot": 49, "location": 30, "event": 20, "behavior": 40}
NAMES = ("weekday", "slot", "location", "event")
CONFIG = for_width(32, vocabulary_sizes=SIZES)


def make_model(config: ModelConfig = CONFIG) -> BehaveGPT:
    model = BehaveGPT(config)
    initialise(model, 0)
    return model.eval()


def random_ids(num_windows: int, length: int = 90, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, SIZES[name], (num_windows, length), generator=generator) for name in NAMES]


def generate(model: BehaveGPT, ids: list[Tensor], lengths: Tensor, steps: int) -> Tensor:
    """Return (B, 1 + steps, V): the logits after the history, and after each event that follows it in `ids`."""
    longest = int(lengths.max())
    logits, cache = model.prefill(*(given[:, :longest] for given in ids), lengths=lengths)
    rows = torch.arange(len(lengths))
    every = [logits]
    for step in range(steps):
        every.append(model.extend(cache, *(given[rows, lengths + step] for given in ids)))
    return torch.stack(every, dim=1)


@torch.no_grad()
def test_rows_of_any_length_get_the_logits_of_the_whole_window():
    model, steps = make_model(), 12
    lengths = torch.tensor([1, 2, 40, 77, 78, 5, 31, 78, 64, 10])
    ids = random_ids(len(lengths))
    whole = model(*ids)
    for row, cached in enumerate(generate(model, ids, lengths, steps)):
        expected = whole[row, lengths[row] - 1 : lengths[row] + steps]
        torch.testing.assert_close(cached, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_lies_beyond_a_history_is_not_read():
    model, lengths = make_model(), torch.tensor([3, 9])
    ids, other = random_ids(2, 9), random_ids(2, 9, seed=1)
    mixed = [torch.where(torch.arange(9) < lengths[:, None], a, b) for a, b in zip(ids, other, strict=True)]
    assert torch.equal(model.prefill(*ids, lengths=lengths)[0], model.prefill(*mixed, lengths=lengths)[0])


@pytest.mark.parametrize("width", [12, 32, 128])
@torch.no_grad()
def test_a_row_has_the_same_bits_in_a_batch_of_any_size(width: int):
    model = make_model(for_width(width, vocabulary_sizes=SIZES))
    num, steps = ROWS + WINDOWS + 3, 4
    ids = random_ids(num)
    lengths = torch.randint(1, 80, (num,), generator=torch.Generator().manual_seed(1))
    together = generate(model, ids, lengths, steps)
    backwards = torch.arange(num).flip(0)
    assert torch.equal(
        generate(model, [given[backwards] for given in ids], lengths[backwards], steps), together.flip(0)
    )
    for size in (1, 2, 7, ROWS):
        for first in range(0, num, size):
            part = slice(first, min(first + size, num))
            alone = generate(model, [given[part] for given in ids], lengths[part], steps)
            assert torch.equal(alone, together[part])
            if size < 7 and first > 4:
                break


@torch.no_grad()
def test_a_cache_says_how_many_events_it_still_takes():
    model = make_model()
    ids = random_ids(2)
    _, cache = model.prefill(*(given[:, :88] for given in ids), lengths=torch.tensor([88, 3]))
    assert cache.room == 2
    for _ in range(2):
        model.extend(cache, *(given[:, 0] for given in ids))
    assert (cache.room, cache.lengths.tolist()) == (0, [90, 5])
    with pytest.raises(ValueError, match="filled the 90 positions"):
        model.extend(cache, *(given[:, 0] for given in ids))
    with pytest.raises(ValueError, match="3 events were given for 2 histories"):
        model.extend(cache, *(given[:, 0] for given in random_ids(3)))


@pytest.mark.parametrize(
    ("lengths", "columns", "problem"),
    [
        ([0, 3], 3, "0 to 3 events in 3 columns"),
        ([1, 4], 3, "1 to 4 events in 3"),
        ([1], 3, "2 histories"),
        ([1, 91], 91, "1 to 90"),
    ],
)
def test_histories_that_cannot_be_read_are_named(lengths: list[int], columns: int, problem: str):
    with pytest.raises(ValueError, match=problem):
        make_model().prefill(*random_ids(2, columns), lengths=torch.tensor(lengths))
