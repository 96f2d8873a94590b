"""Causal self-attention, on flash-attn's kernel or on torch's; the only file that imports flash_attn.

In: the block's normed stream (B, I, D). Out: its update (B, I, D), where row i has read rows 0 .. i.
Legend: B windows, I inputs of a window, L positions that a cache holds, D width, H heads, K width of a head.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from behavegpt.errors import InputError
from behavegpt.model.config import AttentionChoice, ModelConfig
from behavegpt.model.linear import Linear

try:
    from flash_attn import flash_attn_func  # pyright: ignore[reportMissingImports]
except ImportError:
    flash_attn_func = None

Backend = Literal["flash", "sdpa"]


def resolve_attention(
    choice: AttentionChoice, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Backend:
    """Return the kernel that `choice` means here: "auto" is flash-attn where it can run, else torch's sdpa.

    Args:
        choice: `ModelConfig.attention`.
        device: Where the model will run.
        dtype: Type in which attention is computed (under autocast, autocast's type).

    Raises:
        InputError: "flash" was asked for, and cannot run; every reason is named.
    """
    if choice == "sdpa":
        return "sdpa"
    problems = []
    if torch.device(device).type != "cuda":
        problems.append(f"the device is {device}, flash-attn needs CUDA")
    if dtype not in (torch.bfloat16, torch.float16):
        problems.append(f"the dtype is {dtype}, flash-attn needs bfloat16 or float16")
    if flash_attn_func is None:
        problems.append("flash_attn cannot be imported, install behavegpt[gpu]")
    if choice == "flash" and problems:
        raise InputError(f"model.attention is 'flash', but {'; '.join(problems)}; or choose 'auto' or 'sdpa'")
    return "sdpa" if problems else "flash"


def causal_attention(q_BIHK: Tensor, k_BIHK: Tensor, v_BIHK: Tensor, backend: Backend, dropout: float = 0.0) -> Tensor:
    """Return softmax(q k^T / sqrt(K) + causal mask) v, shape (B, I, H, K).

    Neither kernel takes a padding mask: windows are right padded, and a causal model never looks to the right.
    """
    if backend == "flash":
        assert flash_attn_func is not None, "resolve_attention allows flash only where it imports"
        return flash_attn_func(q_BIHK, k_BIHK, v_BIHK, dropout_p=dropout, causal=True)
    q_BHIK, k_BHIK, v_BHIK = (x.transpose(1, 2) for x in (q_BIHK, k_BIHK, v_BIHK))
    return scaled_dot_product_attention(q_BHIK, k_BHIK, v_BHIK, dropout_p=dropout, is_causal=True).transpose(1, 2)


class CausalSelfAttention(nn.Module):
    """Multi-head attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ModelConfig, backend: Backend) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.backend: Backend = backend
        self.dropout = config.dropout
        self.qkv = Linear(config.width, 3 * config.width)
        self.output = Linear(config.width, config.width)

    def forward(self, x_BID: Tensor) -> Tensor:
        """Return the update (B, I, D)."""
        return self.read(x_BID)[0]

    def read(self, x_BID: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the update (B, I, D), and the keys and values (B, I, H, K) that it was made of."""
        q_BIHK, k_BIHK, v_BIHK = self.qkv(x_BID).unflatten(-1, (3, self.num_heads, -1)).unbind(dim=2)
        dropout = self.dropout if self.training else 0.0
        mixed_BIHK = causal_attention(q_BIHK, k_BIHK, v_BIHK, self.backend, dropout)
        return self.output(mixed_BIHK.flatten(2)), k_BIHK, v_BIHK

    def read_at(self, x_BID: Tensor, at_B: Tensor) -> Tensor:
        """Return the update (B, D) of one position a row, which reads what `forward` reads there."""
        q_BIHK, k_BIHK, v_BIHK = self.qkv(x_BID).unflatten(-1, (3, self.num_heads, -1)).unbind(dim=2)
        q_BHK = q_BIHK[torch.arange(len(at_B), device=at_B.device), at_B]
        seen_BI = torch.arange(x_BID.shape[1], device=at_B.device) <= at_B[:, None]
        mixed_BHK = scaled_dot_product_attention(
            q_BHK[:, :, None], k_BIHK.transpose(1, 2), v_BIHK.transpose(1, 2), attn_mask=seen_BI[:, None, None]
        )
        return self.output(mixed_BHK.flatten(1))

    def extend(self, x_BD: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, at_B: Tensor) -> Tensor:
        """Return the update (B, D) of one new event a row, whose key and value are written at its place in the cache.

        Args:
            k_BLHK: Keys of what the rows have read, at their first at_B[b] places; changed in place, as the values.
            at_B: int64 place of the new event; what lies beyond it is not looked at.
        """
        q_BHK, k_BHK, v_BHK = self.qkv(x_BD).unflatten(-1, (3, self.num_heads, -1)).unbind(dim=1)
        rows_B = torch.arange(len(at_B), device=at_B.device)
        k_BLHK[rows_B, at_B] = k_BHK
        v_BLHK[rows_B, at_B] = v_BHK
        seen_BL = torch.arange(k_BLHK.shape[1], device=at_B.device) <= at_B[:, None]
        mixed_BHK = scaled_dot_product_attention(
            q_BHK[:, :, None], k_BLHK.transpose(1, 2), v_BLHK.transpose(1, 2), attn_mask=seen_BL[:, None, None]
        )
        return self.output(mixed_BHK.flatten(1))
