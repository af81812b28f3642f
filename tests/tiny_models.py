"""Random tiny models, one an architecture that breaks in its own way, each written to a folder as a hub would.

All have a hidden width of 32, two or more layers and a tokenizer of at most 400 entries, byte-level but for BERT's, so
that any text can be encoded and a forward pass takes a millisecond. They differ where real models differ:
beginning-of-text mark or not, padding token or not (Llama and Mistral have none, Qwen's is its end mark), sliding
windows, recurrent layers; encoders in marks, positions and the head that transformers puts on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    RobertaConfig,
    RobertaForMaskedLM,
)

VOCABULARY = 400
ENCODER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "initializer_range")
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


def tiny_bert(directory: Path) -> Path:
    """BERT's manners: WordPiece in lower case, token types, learned positions, a pooler of its own."""
    words = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(CORPUS, words)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(directory))
    tokens = BertTokenizer(str(directory / "vocab.txt"))
    config = BertConfig(**_encoder_shape(), max_position_embeddings=128, pad_token_id=tokens.pad_token_id)
    return _write(directory, BertModel, config, tokens)


def tiny_roberta(directory: Path) -> Path:
    """RoBERTa's manners: positions from 2 on, so that a text may be 2 tokens shorter than the table is long."""
    tokenizer = _encoder_tokenizer("<s>", "</s>", "<pad>")
    config = RobertaConfig(**_encoder_shape(), max_position_embeddings=130, type_vocab_size=1, **_ids(tokenizer))
    return _write(directory, RobertaForMaskedLM, config, tokenizer)


def tiny_modernbert(directory: Path) -> Path:
    """ModernBERT's manners: global and local attention in turn (window 8), rotary positions, no token types."""
    tokenizer = _encoder_tokenizer("[CLS]", "[SEP]", "[PAD]")
    config = ModernBertConfig(
        **_encoder_shape(),
        max_position_embeddings=512,
        local_attention=8,
        global_attn_every_n_layers=2,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        **_ids(tokenizer),
    )
    return _write(directory, ModernBertForMaskedLM, config, tokenizer)


def _encoder_shape() -> dict[str, Any]:
    return {**{name: SHAPE[name] for name in ENCODER}, "vocab_size": VOCABULARY}


def _encoder_tokenizer(cls: str, sep: str, pad: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that puts ``cls`` before and ``sep`` after every text."""
    plain = tiny_tokenizer(bos=cls, eos=sep, pad=pad)
    ids = [(token, plain.convert_tokens_to_ids(token)) for token in (cls, sep)]
    plain.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B {sep}", special_tokens=ids
    )
    tokens = {"cls_token": cls, "sep_token": sep, "pad_token": pad, "bos_token": cls, "eos_token": sep}
    return PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer, **tokens)


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
