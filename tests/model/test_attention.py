"""The attention kernel against the written-out formula, and the choice of kernel."""

import math

import pytest
import torch

from behavegpt.errors import InputError
from behavegpt.model import attention
from behavegpt.model.attention import CausalSelfAttention, causal_attention, resolve_attention
from behavegpt.model.config import ModelConfig


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(K) + mask) V, one window, head and row at a time, in float64."""
    out = torch.zeros_like(v, dtype=torch.float64)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            for i in range(q.shape[1]):
                past = slice(0, i + 1)
                scores = k[b, past, h].double() @ q[b, i, h].double() / math.sqrt(q.shape[-1])
                weights = torch.exp(scores - scores.max())
                out[b, i, h] = (weights / weights.sum()) @ v[b, past, h].double()
    return out


@pytest.mark.parametrize(("length", "heads", "head_width"), [(1, 1, 4), (17, 3, 16), (90, 2, 8)])
def test_sdpa_equals_the_formula(length, heads, head_width):
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, length, heads, head_width, generator=generator) for _ in range(3))
    mixed = causal_attention(q, k, v, "sdpa")
    torch.testing.assert_close(mixed.double(), written_out(q, k, v), atol=1e-5, rtol=0)


def test_heads_read_their_own_part_of_the_fused_projection():
    config = ModelConfig(width=8, depth=1, num_heads=2, num_locations=4, num_event_ids=4, num_behavior_ids=4)
    layer = CausalSelfAttention(config, "sdpa")
    x = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        layer.output.weight.copy_(torch.eye(8))
        layer.output.bias.zero_()
        fused = x @ layer.qkv.weight.T + layer.qkv.bias
        heads = []
        for h in range(2):  # columns: queries 0-7, keys 8-15, values 16-23; head h has four of each
            q, k, v = (fused[:, :, part * 8 + h * 4 : part * 8 + h * 4 + 4, None].transpose(2, 3) for part in range(3))
            heads.append(written_out(q, k, v)[:, :, 0])
        torch.testing.assert_close(layer(x).double(), torch.cat(heads, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_flash_equals_the_formula_in_bfloat16():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("flash_attn", reason="flash_attn is not installed")
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 90, 4, 16, generator=generator).to("cuda", torch.bfloat16) for _ in range(3))
    mixed = causal_attention(q, k, v, "flash").cpu().double()
    torch.testing.assert_close(mixed, written_out(q.cpu(), k.cpu(), v.cpu()), atol=2e-2, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["sdpa", "flash"])
def test_gradients_on_a_gpu_are_those_of_the_formula(backend: attention.Backend):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if backend == "flash":
        pytest.importorskip("flash_attn", reason="flash_attn is not installed")
    check_gradients(backend, "cuda", torch.bfloat16, 3e-2)


def test_gradients_of_sdpa_are_those_of_the_formula():
    check_gradients("sdpa", "cpu", torch.float32, 1e-5)


def check_gradients(backend: attention.Backend, device: str, dtype: torch.dtype, most: float) -> None:
    generator = torch.Generator().manual_seed(4)
    inputs = [torch.randn(2, 23, 2, 16, generator=generator).to(dtype) for _ in range(3)]
    weights = torch.randn(2, 23, 2, 16, generator=generator).to(dtype)
    ours = [x.to(device).detach().clone().requires_grad_() for x in inputs]
    (causal_attention(*ours, backend=backend) * weights.to(device)).sum().backward()
    exact = [x.double().detach().clone().requires_grad_() for x in inputs]
    q, k, v = (x.transpose(1, 2) for x in exact)
    scores = q @ k.transpose(2, 3) / math.sqrt(16) + torch.full((23, 23), -math.inf).triu(1)
    ((scores.softmax(dim=-1) @ v).transpose(1, 2) * weights.double()).sum().backward()
    for a, b in zip(ours, exact, strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad.cpu().double(), b.grad, atol=most, rtol=most)


def test_resolution(monkeypatch):
    monkeypatch.setattr(attention, "flash_attn_func", lambda *args, **kwargs: None)
    assert resolve_attention("auto", "cuda:0", torch.bfloat16) == "flash"
    assert resolve_attention("flash", "cuda", torch.float16) == "flash"
    assert resolve_attention("auto", "cuda", torch.float32) == "sdpa"
    assert resolve_attention("auto", torch.device("cpu"), torch.bfloat16) == "sdpa"
    assert resolve_attention("sdpa", "cuda", torch.bfloat16) == "sdpa"
    monkeypatch.setattr(attention, "flash_attn_func", None)
    assert resolve_attention("auto", "cuda", torch.bfloat16) == "sdpa"


def test_flash_that_cannot_run_is_refused_with_every_reason(monkeypatch):
    monkeypatch.setattr(attention, "flash_attn_func", None)
    with pytest.raises(InputError) as caught:
        resolve_attention("flash", "cpu", torch.float32)
    (problem,) = caught.value.problems
    for part in ("device is cpu", "torch.float32", "behavegpt[gpu]", "'auto' or 'sdpa'"):
        assert part in problem
