"""What a recipe freezes stays bit for bit, what it moves moves; low-rank updates by hand, and added in at the end."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from behavegpt.data.stream import local_tables
from behavegpt.errors import InputError
from behavegpt.model.config import ModelConfig, for_width
from behavegpt.model.sizing import count_params
from behavegpt.model.transformer import BehaveGPT, initialise
from behavegpt.train import loop
from behavegpt.train.config import ExecutionConfig
from behavegpt.train.engine import build_engine
from behavegpt.train.export import export_model, read_checked, read_plain_weights
from behavegpt.train.lora import LoraProjection, initialise_updates, merged, restrict
from behavegpt.train.saved import load_model
from behavegpt.train.trainable import PARTS, Lora, Trainable, count_parts, count_trained, part_of, read_trainable

SIZES = {"weekday": 8, "slot": 49, "location": 20, "event": 30, "behavior": 9}
CONFIG = for_width(16, 3, vocabulary_sizes=SIZES)
LORA = Trainable(parts=("embeddings", "head_output"), lora=Lora(rank=3, alpha=12.0))
IDS = [torch.randint(1, size, (4, 20), generator=torch.Generator().manual_seed(size)) for size in (8, 49, 20, 30)]


def build(config: ModelConfig, trainable: Trainable | None) -> BehaveGPT:
    model = BehaveGPT(config)
    initialise(model, 0)
    restrict(model, trainable)
    initialise_updates(model, 0)
    return model


def projection(model: BehaveGPT, block: int) -> LoraProjection:
    found = model.get_submodule(f"blocks.{block}.attention.qkv")
    assert isinstance(found, LoraProjection)
    return found


def with_updates(seed: int) -> BehaveGPT:
    """Return a model whose updates are not zero any more, as after training."""
    model, generator = build(CONFIG, LORA), torch.Generator().manual_seed(seed)
    for block in range(CONFIG.depth):
        for up in (projection(model, block).q_up, projection(model, block).v_up):
            nn.init.normal_(up.weight, generator=generator)
    return model


def test_every_parameter_belongs_to_one_part_and_the_parts_are_counted_right():
    counted = dict.fromkeys(PARTS, 0)
    for name, parameter in BehaveGPT(CONFIG).named_parameters():
        counted[part_of(name)] += parameter.numel()
    assert counted == count_parts(CONFIG)
    assert sum(counted.values()) == count_params(CONFIG).total == count_trained(CONFIG, None)
    # By hand, at width 16 with 3 blocks and 8 classes: four projections of 16 x 16 + 16 a block, and so on.
    assert counted["attention"] == 3 * 4 * (16 * 16 + 16)
    assert counted["feed_forward"] == 3 * (16 * 64 + 64 + 64 * 16 + 16)
    assert counted["norms"] == 3 * 2 * 32 + 32
    assert (counted["head_hidden"], counted["head_output"]) == (272, 16 * 8 + 8)
    assert counted["embeddings"] == (8 + 49 + 20 + 30) * 4


@pytest.mark.parametrize("trainable", [LORA, Trainable(parts=("norms", "positions")), Trainable(parts=PARTS)])
def test_as_many_parameters_move_as_are_counted(trainable):
    moving = [p for p in build(CONFIG, trainable).parameters() if p.requires_grad]
    assert sum(p.numel() for p in moving) == count_trained(CONFIG, trainable)


def test_low_rank_updates_by_hand():
    model = with_updates(1)
    layer = projection(model, 1)
    x = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    parts = {name: getattr(layer, name).weight.detach().numpy() for name in ("q_down", "q_up", "v_down", "v_up")}
    assert (parts["q_down"].shape, parts["q_up"].shape) == ((3, 16), (16, 3))
    q = x @ w[:16].T + b[:16] + 4.0 * (x @ parts["q_down"].T) @ parts["q_up"].T  # alpha / rank = 12 / 3
    k = x @ w[16:32].T + b[16:32]
    v = x @ w[32:].T + b[32:] + 4.0 * (x @ parts["v_down"].T) @ parts["v_up"].T
    found = layer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, np.concatenate([q, k, v], axis=1), rtol=1e-5, atol=1e-5)


def test_updates_start_at_nothing_from_the_seed_alone():
    plain, updated = build(CONFIG, None), build(CONFIG, LORA)
    assert torch.equal(plain(*IDS), updated(*IDS))
    down = [projection(build(CONFIG, LORA), 0).q_down.weight for _ in range(2)]
    assert torch.equal(down[0], down[1]) and 0.2 < float(down[0].detach().abs().max()) <= 0.25  # 1 / sqrt(16)


def test_merged_weights_are_a_plain_model_that_computes_the_same():
    model = with_updates(2)
    weights = merged(model.state_dict(), LORA)
    plain = BehaveGPT(CONFIG)
    plain.load_state_dict(weights)
    assert not torch.allclose(plain(*IDS), build(CONFIG, None)(*IDS), atol=1e-2)  # the updates do something
    torch.testing.assert_close(plain(*IDS), model(*IDS), rtol=1e-4, atol=1e-4)
    keys = slice(16, 32)
    own = projection(model, 0).weight
    assert torch.equal(weights["blocks.0.attention.qkv.weight"][keys], own[keys])
    assert list(merged(plain.state_dict(), None)) == list(plain.state_dict())


@pytest.mark.parametrize("trainable", [None, LORA, Trainable(parts=("embeddings", "norms")), Trainable(parts=PARTS)])
def test_two_steps_move_exactly_what_moves(make_job, trainable):
    job = make_job(trainable=trainable)
    model = build(job.model, trainable)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine = build_engine(model, job.train, job.execution)
    for step in range(2):
        logits = engine.module(*[torch.full((2, 90), 2 + step) for _ in range(4)])
        engine.step((logits**2).sum(), 1.0)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    wanted = {n for n in before if trainable is None or "_up." in n or "_down." in n or part_of(n) in trainable.parts}
    assert moved == wanted
    # Weight decay moves matrices without a gradient too: nothing frozen may be in the optimiser at all.
    assert len(wanted) == sum(len(group["params"]) for group in engine._optimizer.param_groups)  # pyright: ignore


def test_a_checkpoint_keeps_no_moments_of_what_is_frozen_and_exports_a_plain_model(make_job, tmp_path):
    job = replace(make_job(sizes=(1_500,), trainable=LORA), keep_final=True)
    loop.train_trunk(job, local_tables, torch.device("cpu"))
    final = job.checkpoint_dir / "final-1500"
    names = {name.partition(".")[::2] for name in load_file(final / "engine-00000.safetensors")}
    of = {slot: {name for one, name in names if one == slot} for slot in ("weight", "exp_avg", "exp_avg_sq")}
    assert of["exp_avg"] == of["exp_avg_sq"] and len(of["weight"]) > len(of["exp_avg"])
    assert "blocks.0.attention.qkv.weight" in of["weight"] - of["exp_avg"]
    assert "blocks.0.attention.qkv.v_up.weight" in of["exp_avg"]

    trained = build(job.model, LORA)
    trained.load_state_dict(
        {n[7:]: w for n, w in load_file(final / "engine-00000.safetensors").items() if n[:7] == "weight."}
    )
    exported = load_model(export_model(final, job.dataset, tmp_path / "model"))
    ids = [torch.full((2, 9), 3) for _ in range(4)]
    torch.testing.assert_close(exported(*ids), trained(*ids), rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["train"]["trainable"]["lora"]["rank"] == 3
    again = read_plain_weights(final, read_checked(final))
    assert again.keys() == exported.state_dict().keys()


class Killed(BaseException):
    pass


def test_a_killed_run_with_frozen_parts_gives_the_undisturbed_bits(make_job, monkeypatch):
    often = ExecutionConfig(engine="torch", checkpoint_steps=3)

    def job(name):
        return replace(make_job(name, trainable=LORA, execution=often), keep_final=True)

    def files(one):
        return {p.relative_to(one.study_dir): p.read_bytes() for p in one.checkpoint_dir.glob("final-*/*.safetensors")}

    golden = job("golden")
    loop.train_trunk(golden, local_tables, torch.device("cpu"))
    assert len(files(golden)) == 4
    for steps in (7, 20):
        one, real, left = job(f"killed-{steps}"), loop.lr_factor, iter(range(steps))

        def factor(*args, real=real, left=left):
            if next(left, None) is None:
                raise Killed
            return real(*args)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(loop, "lr_factor", factor)
            loop.train_trunk(one, local_tables, torch.device("cpu"))
        loop.train_trunk(one, local_tables, torch.device("cpu"))
        assert files(one) == files(golden)
    other = replace(make_job("killed-7", trainable=Trainable(parts=("norms",)), execution=often), keep_final=True)
    for path in other.cell_dir.iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"train\.trainable\.lora"):
        loop.train_trunk(other, local_tables, torch.device("cpu"))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"parts": ["atention"], "lora": None}, "Did you mean 'attention'?"),
        ({"parts": [], "lora": None}, "at least one part"),
        ({"parts": ["norms", "norms"], "lora": None}, "each once"),
        ({"parts": ["attention"], "lora": {"rank": 2, "alpha": 1.0}}, "low-rank update is for a frozen one"),
        ({"parts": ["norms"], "lora": {"rank": 0, "alpha": 1.0}}, "lora.rank is 0"),
        ({"parts": ["norms"], "lora": {"rank": 2, "alpha": "high"}}, "lora.alpha is 'high'"),
        ({"parts": ["norms"], "lora": {"rang": 2}}, "rang"),
        ({"parts": ["norms"]}, "lora"),
        ([], "which parameters moved"),
    ],
)
def test_a_recipe_that_does_not_say_what_moved_is_refused_in_a_sentence(tmp_path, given, word):
    with pytest.raises(InputError) as refused:
        read_trainable(tmp_path, given)
    assert word in str(refused.value) and str(tmp_path) in str(refused.value)


def test_a_recipe_is_read_as_it_was_written(tmp_path):
    assert read_trainable(tmp_path, None) is None
    given = json.loads('{"parts": ["embeddings", "head_output"], "lora": {"rank": 3, "alpha": 12.0}}')
    assert read_trainable(tmp_path, given) == LORA
