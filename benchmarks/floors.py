"""What a machine can do at most: the floor under every row, measured, and the operations of a model, counted.

Shapes: b sequences, t tokens, h width, v vocabulary.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable

import torch
from transformers import PretrainedConfig

from benchmarks.harness import Floor
from evalsuite.llm.loading.matmul import onednn_agrees, onednn_linear


def matmul_rate(dtype: torch.dtype = torch.float32, device: str = "cpu", size: int = 2048) -> float:
    """Floating-point operations a second of the best of several square products, by torch's fastest library for it."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = _best(lambda: left @ right, device)
    if device == "cpu" and dtype == torch.float32 and onednn_agrees():
        seconds = min(seconds, _best(lambda: onednn_linear(left, right), device))
    return 2 * size**3 / seconds


def matmul_floor(flops: float, of: str = "", dtype: str = "float32", device: str = "cpu") -> Floor:
    """The seconds that so many operations (``of`` what) take at the rate of the best matrix product."""
    size = 2048 if device == "cpu" else 8192  # as large as it takes to be at the full rate
    rate = matmul_rate(getattr(torch, dtype), device, size)
    work = f"{flops / 1e9:.0f} GFLOP{of and ' of ' + of}"
    return Floor(flops / rate, f"{work} at {rate / 1e9:.0f} GFLOP/s of a {size:,}-square product")


def copy_bandwidth(device: str = "cpu", size: int = 2**28) -> float:
    """Bytes a second that are read and written while ``size`` bytes are copied, best of several."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _best(lambda: target.copy_(source), device)


def forward_flops(config: PretrainedConfig, lengths: Iterable[int], *, context: int = 0, logits: int = 0) -> float:
    """Operations of a decoder's forward pass over sequences of these ``lengths``, two for each multiply-add.

    2 for every weight of the layers a token, and 4 h a layer for every pair of tokens of which one sees the other
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1, with causal pairs counted once). ``context``: tokens before each
    sequence that are read from a cache. ``logits``: positions, of all sequences together, that get 2 h v more.
    Embedding look-ups, norms, rotations and the softmax are left out: a floor may be too low, not too high.
    """
    lengths = list(lengths)
    width, layers = config.hidden_size, config.num_hidden_layers
    pairs = sum(length * (length + 1) / 2 + length * context for length in lengths)
    attention = config.num_attention_heads * _head_width(config)
    count: float = (
        2.0 * layer_weights(config) * layers * sum(lengths)
        + 4.0 * attention * layers * pairs
        + 2.0 * width * config.vocab_size * logits
    )
    return count


def training_flops(config: PretrainedConfig, lengths: Iterable[int], logits: int, rank: int = 8) -> float:
    """Operations of LoRA training on sequences of these ``lengths`` that no exact gradient can do without.

    Forward as ``forward_flops`` has it; backward as much again for the gradients of the states, none for frozen
    weights; attention's backward pass takes twice its forward pass, since each of its two products has two gradients.
    6 more an adapter's weight and token. ``logits``: positions with a loss. Not needed, and not counted: the last layer
    at other positions but for its keys and values, and gradients of what the first layer reads.
    """
    lengths = list(lengths)
    tokens, weights, layers = sum(lengths), layer_weights(config), config.num_hidden_layers
    queries = config.hidden_size * config.num_attention_heads * _head_width(config)
    values = 2 * config.hidden_size * config.num_key_value_heads * _head_width(config)
    linear = weights * (layers - 1) * tokens + values * tokens + (weights - values) * logits
    attention = forward_flops(config, lengths) - 2.0 * weights * layers * tokens
    count: float = (
        2 * 2.0 * (linear + config.hidden_size * config.vocab_size * logits)
        - 2.0 * (queries + values) * tokens
        + 3 * attention * (layers - 1) / layers
        + 6.0 * adapter_weights(config, rank) * tokens * (layers - 1) / layers
    )
    return count


def adapter_weights(config: PretrainedConfig, rank: int = 8) -> int:
    """Weights of a LoRA adapter on all linear layers of Llama's form: rank * (in + out) each (arXiv 2106.09685)."""
    width, head = config.hidden_size, _head_width(config)
    queries, values = config.num_attention_heads * head, config.num_key_value_heads * head
    sides = 2 * (width + queries) + 2 * (width + values) + 3 * (width + config.intermediate_size)
    return int(rank * sides * config.num_hidden_layers)


def reading_flops(config: PretrainedConfig, lengths: Iterable[int], *, context: int = 0, wanted: int = 1) -> float:
    """Operations of a decoder's forward pass where the state of one token a sequence is wanted, or of none.

    ``forward_flops`` but for the last layer, of which keys and values are for all tokens and the rest is for one.
    """
    lengths = list(lengths)
    lower = forward_flops(without_top_layer(config), lengths, context=context)
    return lower + one_token_flops(config, lengths, context=context, wanted=wanted)


def one_token_flops(config: PretrainedConfig, lengths: Iterable[int], *, context: int = 0, wanted: int = 1) -> float:
    """Operations of a layer, forward, of which one token a sequence is read: all keys and values, the rest for one.
    ``context``: as in ``forward_flops``; ``wanted``: 0 where no token is.
    """
    lengths = list(lengths)
    head = _head_width(config)
    beside = 2 * config.hidden_size * config.num_key_value_heads * head
    attention = config.num_attention_heads * head
    count: float = (
        2.0 * beside * sum(lengths)
        + 2.0 * (layer_weights(config) - beside) * len(lengths) * wanted
        + 4.0 * attention * (sum(lengths) + context * len(lengths)) * wanted
    )
    return count


def without_top_layer(config: PretrainedConfig) -> PretrainedConfig:
    """The same shape with one layer less."""
    lower = copy.deepcopy(config)
    lower.num_hidden_layers -= 1
    return lower


def layer_weights(config: PretrainedConfig) -> int:
    """Weights of one layer of Llama's form that enter a matrix product: attention with grouped heads, gated MLP."""
    head = _head_width(config)
    queries, values = config.num_attention_heads * head, config.num_key_value_heads * head
    return int(config.hidden_size * (2 * queries + 2 * values + 3 * config.intermediate_size))


def _head_width(config: PretrainedConfig) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _best(work: Callable[[], object], device: str, rounds: int = 7) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
