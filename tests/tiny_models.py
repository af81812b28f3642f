"""Random tiny causal models, one an architecture that breaks in its own way, each written to a folder as a hub would.

All have a hidden width of 32, two or more layers and a byte-level BPE tokenizer of about 400 entries, so that any text
can be encoded and a forward pass takes a millisecond. They differ where real models differ: beginning-of-text mark or
not, padding token or not (Llama and Mistral have none, Qwen's is its end mark), sliding windows, recurrent layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
)

VOCABULARY = 400
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,  # wide enough that different inputs give clearly different logits
}
CORPUS = (
    "The quick brown fox jumps over the lazy dog.",
    "World news, sports results, business figures and science stories are classified by their text.",
    "Answer with one of the labels: World, Sports, Business, Science and Technology. Text: Label:",
    "A method for the treatment of water and an apparatus for the separation of solids from the liquid.",
    "The team won the match in the final minute; shares fell as the company cut its forecast.",
)


def tiny_tokenizer(
    *, bos: str | None, eos: str, pad: str | None, extra: tuple[str, ...] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``CORPUS``; ``bos`` is prepended to every encoded text, as Llama's tokenizer does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(token for token in (bos, eos, pad, *extra) if token))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad)


def tiny_llama(directory: Path) -> Path:
    """Llama 3's manners: a beginning mark, no padding token."""
    tokenizer = tiny_tokenizer(bos="<|begin_of_text|>", eos="<|end_of_text|>", pad=None)
    return _write(directory, LlamaForCausalLM, LlamaConfig(**SHAPE, **_ids(tokenizer)), tokenizer)


def tiny_mistral(directory: Path, window: int | None = 8) -> Path:
    """Every layer attends to the last ``window`` tokens only; no padding token."""
    tokenizer = tiny_tokenizer(bos="<s>", eos="</s>", pad=None)
    config = MistralConfig(**SHAPE, sliding_window=window, **_ids(tokenizer))
    return _write(directory, MistralForCausalLM, config, tokenizer)


def tiny_gemma3(directory: Path, window: int = 8) -> Path:
    """Sliding and full attention in turn; a padding token of its own; tied embeddings."""
    tokenizer = tiny_tokenizer(bos="<bos>", eos="<eos>", pad="<pad>")
    config = Gemma3TextConfig(
        **SHAPE,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=window,
        layer_types=["sliding_attention", "full_attention"],
        **_ids(tokenizer),
    )
    return _write(directory, Gemma3ForCausalLM, config, tokenizer)


def tiny_qwen(directory: Path, window: int | None = 8) -> Path:
    """No beginning mark, padding token = end mark; with ``window``, the last layer slides and the first does not."""
    tokenizer = tiny_tokenizer(bos=None, eos="<|endoftext|>", pad="<|endoftext|>", extra=("<|im_start|>", "<|im_end|>"))
    config = Qwen2Config(
        **SHAPE,
        use_sliding_window=window is not None,
        sliding_window=window,
        max_window_layers=1,
        **_ids(tokenizer),
    )
    return _write(directory, Qwen2ForCausalLM, config, tokenizer)


def tiny_hybrid(directory: Path) -> Path:
    """A linear-attention (recurrent) layer and a full one: no prompt prefix can be branched or masked."""
    tokenizer = tiny_tokenizer(bos=None, eos="<|endoftext|>", pad="<|endoftext|>")
    config = Qwen3_5TextConfig(
        **SHAPE,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        **_ids(tokenizer),
    )
    return _write(directory, Qwen3_5ForCausalLM, config, tokenizer)


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


def _write(
    directory: Path, architecture: type[PreTrainedModel], config: Any, tokenizer: PreTrainedTokenizerFast
) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = architecture(config)
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
