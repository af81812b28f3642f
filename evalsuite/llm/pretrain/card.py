"""The model card of the bundled language model, rendered from what the training run measured."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers
from transformers import LlamaConfig

from evalsuite.llm.pretrain.corpus import Source


@dataclass(frozen=True)
class Figures:
    """What one run measured. Tokens are the model's own; seconds are wall clock of the training loop."""

    parameters: int
    distinct_tokens: int
    epoch_tokens: int
    seen_tokens: int
    steps: int
    seconds: float
    device: str
    perplexity: float
    twin_perplexity: float
    bits_per_byte: float
    twin_bits_per_byte: float
    held_out_documents: int
    held_out_tokens: int


CARD = """---
library_name: transformers
pipeline_tag: text-generation
language: en
license: other
---

# The language model that ships with evalsuite

A causal language model of {parameters:,} parameters, trained from scratch in {minutes:.0f} minutes
on {device}. It lets every command run offline, without an account, and it is large enough for a
method to learn something. It is **not** for quality claims: results obtained with it say how the software
behaves, not how good a method is. Name a real model with `--model` for those.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
```

## Architecture

Llama: {layers} layers, hidden {hidden}, feed-forward {intermediate}, {heads} heads of {head_dim},
tied embeddings, {positions} positions (trained on sequences of {context}), stored in bfloat16. Every
linear dimension is a multiple of 64, the block of NF4. The tokenizer is a byte-level BPE of {vocabulary:,}
tokens in which digits stand alone; it puts `<s>` before a text, `</s>` ends one, and `<pad>` differs from both.

## Training

`{command}`

{steps:,} steps of {batch} sequences of {context} tokens, {seen_tokens:,} tokens seen
({epochs:.2f} passes over the mixture) in {minutes:.1f} minutes on {device}. AdamW, peak learning rate
{learning_rate:g} falling linearly to zero with the clock, bfloat16 autocast, seed {seed};
torch {torch}, transformers {transformers}, Python {python}. A rerun on another machine sees another number
of tokens, because the clock ends the run.

## Held-out perplexity

Every tenth WikiText article was kept out of training: {held_out_documents} documents,
{held_out_tokens:,} tokens, read in windows of {context}.

| model | perplexity a token | bits a byte |
|---|---|---|
| this model | {perplexity:.1f} | {bits_per_byte:.3f} |
| its random-initialised twin | {twin_perplexity:.1f} | {twin_bits_per_byte:.3f} |

## Corpus

{distinct_tokens:,} distinct training tokens, {epoch_tokens:,} in one pass over the mixture, in which a
source is repeated as often as its column says. The packages are Debian's, unpacked with
`dpkg-deb -x NAME_VERSION_all.deb NAME_VERSION`; `evalsuite/llm/pretrain/corpus.py` says which of their files are read,
and how. The hash is the SHA-256 of a source's cleaned documents, joined by newlines. No benchmark data is in it.

| source | version | licence | passes | documents | characters | sha256 |
|---|---|---|---|---|---|---|
{rows}

## Licence

The sources are free to use, change and share under the licences above; several are copyleft (GPL, GFDL, CC BY-SA,
MPL). Whether weights are a work derived from the text they were trained on is not settled. The authors claim no rights
in the weights beyond those of the sources; where copyleft sources are a problem, train another with the command above
on a corpus of your own, or name another model.
"""


def render_card(
    sources: Sequence[Source], figures: Figures, config: LlamaConfig, command: str, settings: dict[str, object]
) -> str:
    """Markdown of the card; `settings` are the run's, by name."""
    rows = [
        f"| {source.name} | {source.version} | {source.licence} | {source.passes} "
        f"| {len(source.documents):,} | {source.characters:,} | `{source.sha256}` |"
        for source in sources
    ]
    return CARD.format(
        **{**settings, **vars(figures), "minutes": figures.seconds / 60},
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        heads=config.num_attention_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        positions=config.max_position_embeddings,
        epochs=figures.seen_tokens / figures.epoch_tokens,
        command=command,
        rows="\n".join(rows),
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
    )
