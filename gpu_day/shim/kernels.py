"""Offers `get_kernel`, with which upstream's train.py fetches a flash attention kernel from a hub: here torch's own.

On a GPU a full window is scaled_dot_product_attention's flash kernel and a short one is flex attention, both within the
caller's compiled graph. Where Triton is missing, and on a processor, a mask does the same slowly.
"""

import importlib.util
from functools import cache
from types import SimpleNamespace

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's documentation has it
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

LENGTH = 2048  # upstream's rows; block masks are made before anything is compiled
SHORT = LENGTH // 2


def get_kernel(_repository: str) -> SimpleNamespace:
    """Return what upstream takes from the hub."""
    if torch.cuda.is_available() and importlib.util.find_spec("triton"):
        _blocks(LENGTH, SHORT)
        print("attention: shim (flash for full windows, flex for short ones)", flush=True)
    else:
        print("attention: shim (masks)", flush=True)
    return SimpleNamespace(flash_attn_interface=SimpleNamespace(flash_attn_func=flash_attn_func))


def flash_attn_func(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, window_size: tuple[int, int]
) -> torch.Tensor:
    """Attention of [B, T, H, D] to the last window_size[0] tokens and itself, as FlashAttention-3 counts them."""
    if not causal or window_size[1]:
        raise ValueError(f"causal={causal}, window_size={window_size}: this shim knows causal windows only")
    length, left = q.size(1), window_size[0]
    q, k, v = (x.transpose(1, 2).to(v.dtype) for x in (q, k, v))
    if left < 0 or left >= length:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    elif (length, left) in _MADE:
        y = flex_attention(q, k, v, block_mask=_MADE[length, left])
    else:
        places = torch.arange(length, device=q.device)
        distance = places[:, None] - places[None, :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=(distance >= 0) & (distance <= left))
    return y.transpose(1, 2)


_MADE: dict[tuple[int, int], object] = {}


@cache
def _blocks(length: int, left: int) -> None:
    """Make the block mask of one window."""

    def near(_batch: torch.Tensor, _head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (query >= key) & (query - key <= left)

    _MADE[length, left] = create_block_mask(near, None, None, length, length, device="cuda")
