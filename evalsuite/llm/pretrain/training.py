"""Trains the small causal language model that ships with the package, from scratch, on openly licensed English.

Writes a folder that plain ``AutoModelForCausalLM`` and ``AutoTokenizer`` load, with a model card that states the
corpus, the run and the held-out perplexity against a random-initialised twin. The learning rate falls to zero with
the wall clock, so the run ends on time on any machine.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evalsuite.llm.pretrain.card import Figures, render_card
from evalsuite.llm.pretrain.corpus import Source, split_held_out

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SAVE_SECONDS = 300.0
LOG_SECONDS = 30.0


@dataclass(frozen=True)
class Settings:
    """One pretraining run.

    vocabulary: tokens of the byte-level BPE, special tokens included.
    context: tokens of a training sequence. batch: sequences of an optimizer step.
    learning_rate: peak, reached after `warmup` steps; it falls linearly to zero with the share of the run that is over.
    max_steps: stops a run before its minutes are over (None: the clock alone decides).
    """

    minutes: float = 40.0
    seed: int = 0
    threads: int = 2
    vocabulary: int = 8192
    context: int = 512
    batch: int = 8
    learning_rate: float = 3e-3
    warmup: int = 100
    compile: bool = False
    max_steps: int | None = None


def train_tokenizer(texts: Sequence[str], vocabulary: int, context: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE over `texts` that puts the bos token before every text, as Llama's does."""
    tokenizer = Tokenizer(models.BPE())
    # Digits stand alone: numbers of any length stay in the vocabulary without filling it.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A fresh Llama of 3.3 million parameters; every linear dimension is a multiple of 64, the block of NF4."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=3,
            num_key_value_heads=3,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.convert_tokens_to_ids(BOS),
            eos_token_id=tokenizer.convert_tokens_to_ids(EOS),
            pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        )
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[Tensor]:
    """int32 [t] a text: bos, the text, eos."""
    eos = tokenizer.convert_tokens_to_ids(EOS)
    rows = []
    for start in range(0, len(texts), 2000):
        chunk = list(texts[start : start + 2000])
        for ids in tokenizer(chunk, return_attention_mask=False, verbose=False)["input_ids"]:
            rows.append(torch.tensor([*ids, eos], dtype=torch.int32))
    return rows


def pack(rows: Sequence[Tensor], context: int, generator: torch.Generator) -> Tensor:
    """int32 [sequences, context]: rows in random order, end to end; the remainder of the last sequence is dropped."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    stream = torch.cat([rows[i] for i in order])
    count = len(stream) // context
    return stream[: count * context].view(count, context)


def batches(rows: Sequence[Tensor], settings: Settings) -> Iterator[Tensor]:
    """Endless int64 [batch, context]; every epoch packs the documents anew."""
    generator = torch.Generator().manual_seed(settings.seed)
    while True:
        packed = pack(rows, settings.context, generator)
        order = torch.randperm(len(packed), generator=generator)
        size = min(settings.batch, len(order))
        for start in range(0, len(order) - size + 1, size):
            yield packed[order[start : start + size]].long()


def learning_rate_factor(progress: float, step: int, warmup: int) -> float:
    """Share of the peak learning rate: linear up over `warmup` steps, linear to zero as `progress` goes from 0 to 1."""
    return min(1.0, (step + 1) / max(1, warmup)) * (1.0 - progress)


def build_optimizer(model: LlamaForCausalLM, learning_rate: float) -> torch.optim.AdamW:
    """AdamW, betas 0.9 and 0.95; weight decay 0.1 on matrices only, the embedding excepted."""
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    plain = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


class Run:
    """The training loop's position: model, clock, tokens seen, last losses."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: Settings) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.steps = 0
        self.tokens = 0
        self.seconds = 0.0

    def train(self, rows: Sequence[Tensor], out: Path) -> None:
        """Trains until the minutes or the steps are over; a usable model is in `out` every five minutes."""
        settings, model = self.settings, self.model.to(self.device).train()
        forward = torch.compile(model) if settings.compile else model
        optimizer = build_optimizer(model, settings.learning_rate)
        started = logged = saved = time.monotonic()
        for batch in batches(rows, settings):
            now = time.monotonic()
            progress = max((now - started) / (60 * settings.minutes), self.steps / (settings.max_steps or math.inf))
            if progress >= 1.0:
                break
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * learning_rate_factor(progress, self.steps, settings.warmup)
            batch = batch.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                loss = forward(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.steps, self.tokens, self.seconds = self.steps + 1, self.tokens + batch.numel(), now - started
            if now - logged > LOG_SECONDS:
                logged = now
                speed = self.tokens / self.seconds
                log(f"{progress:6.1%} step {self.steps} loss {loss.item():.3f} {speed:.0f} tokens/s")
            if now - saved > SAVE_SECONDS:
                saved = now
                save(model, self.tokenizer, out)
        self.seconds = time.monotonic() - started


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, rows: Sequence[Tensor], context: int) -> tuple[float, int]:
    """Summed negative log-likelihood (nats) and number of predicted tokens, in windows of `context` tokens."""
    model.eval()
    total, count = 0.0, 0
    for row in rows:
        for window in torch.split(row.long().to(model.device), context):
            if len(window) > 1:
                logits = model(input_ids=window[None]).logits[0, :-1].float()
                total += functional.cross_entropy(logits, window[1:], reduction="sum").item()
                count += len(window) - 1
    return total, count


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the model in bfloat16 and its tokenizer to `out`; the model in memory keeps its own dtype."""
    stored = LlamaForCausalLM(model.config).to(torch.bfloat16)
    stored.load_state_dict(model.state_dict())
    stored.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    stored.save_pretrained(out)
    tokenizer.save_pretrained(out)


def write_twin(model: Path, out: Path, seed: int = 1) -> None:
    """Writes a model shaped like `model`, with its tokenizer and random weights: what pretraining is held against."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    torch.manual_seed(seed)
    save(LlamaForCausalLM(LlamaConfig.from_pretrained(model)), tokenizer, out)


def device_name(device: torch.device, threads: int) -> str:
    """The device in words, for the card."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} CPU threads"


def log(message: str) -> None:
    """One line on standard error."""
    print(message, file=sys.stderr, flush=True)


def pretrain(sources: Sequence[Source], out: Path, settings: Settings, command: str = "") -> Figures:
    """Trains on `sources`, writes model, tokenizer and card to `out`, and returns what the card states."""
    torch.set_num_threads(settings.threads)
    train_texts, held_out_texts = split_held_out(sources)
    tokenizer = train_tokenizer([text for text, _ in train_texts], settings.vocabulary)
    vocabulary = len(tokenizer)
    log(f"vocabulary {vocabulary}, {len(train_texts)} training and {len(held_out_texts)} held-out documents")
    encoded = encode(tokenizer, [text for text, _ in train_texts])
    rows = [row for row, (_, passes) in zip(encoded, train_texts, strict=True) for _ in range(passes)]
    held_out = encode(tokenizer, held_out_texts)
    log(f"{sum(map(len, encoded))} distinct training tokens, {sum(map(len, rows))} an epoch")
    run = Run(build_model(tokenizer, vocabulary, settings.seed), tokenizer, settings)
    run.train(rows, out)
    save(run.model, tokenizer, out)
    twin = build_model(tokenizer, vocabulary, settings.seed + 1)
    stored = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    loss, count = held_out_loss(stored, held_out, settings.context)
    twin_loss, _ = held_out_loss(twin, held_out, settings.context)
    held_out_bytes = sum(len(text.encode()) for text in held_out_texts)
    figures = Figures(
        parameters=stored.num_parameters(),
        distinct_tokens=sum(map(len, encoded)),
        epoch_tokens=sum(map(len, rows)),
        seen_tokens=run.tokens,
        steps=run.steps,
        seconds=run.seconds,
        device=device_name(run.device, settings.threads),
        perplexity=math.exp(loss / count),
        twin_perplexity=math.exp(twin_loss / count),
        bits_per_byte=loss / math.log(2) / held_out_bytes,
        twin_bits_per_byte=twin_loss / math.log(2) / held_out_bytes,
        held_out_documents=len(held_out),
        held_out_tokens=count,
    )
    log(f"{figures}")
    card = render_card(sources, figures, stored.config, command, vars(settings))
    (out / "README.md").write_text(card, encoding="utf-8")
    return figures
