"""Whether a model reads both ways, and a decoder made to: attention over the whole text, not over what came before.

The idea is LLM2Vec's (arXiv 2404.05961); in transformers it is one setting, ``config.is_causal = False``, which the
mask of every full and sliding attention layer follows. Recurrent layers stay as they are.
"""

from __future__ import annotations

import torch

from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.loading.backbone import Backbone, base_of
from evalsuite.llm.reading.logits import evaluation

PROMPT = 8  # tokens of the text that is read to find out


def reads_both_ways(backbone: Backbone) -> bool:
    """Whether the state of a text's first token depends on its last one: True for encoders, False for decoders."""
    body, words = base_of(backbone.model).base_model, _ordinary_tokens(backbone)
    ids = torch.tensor([words[:-1], [*words[:-2], words[-1]]], device=backbone.device)
    states = []
    with evaluation(backbone.model), backbone.arithmetic():
        # one text at a time and without padding: an all-ones mask is where a kernel may fall back to causal attention
        for row in ids:
            output = body(input_ids=row[None], attention_mask=torch.ones_like(row[None]), use_cache=False)
            states.append(output.last_hidden_state[0, 0].float())
    return not torch.allclose(states[0], states[1], rtol=1e-4, atol=1e-5)


def read_both_ways(backbone: Backbone) -> None:
    """Make a decoder attend to the whole text.

    Raises:
        OptionError: an encoder, which does already.
        ModelError: a model that the setting does not reach.
    """
    if reads_both_ways(backbone):
        raise OptionError(f"bidirectional=true is for decoders: {backbone.name} reads both ways already; leave it out")
    model = base_of(backbone.model)
    for config in (model.config, model.config.get_text_config()):
        config.is_causal = False
    if not reads_both_ways(backbone):
        raise ModelError(
            f"bidirectional=true changes nothing in {type(model).__name__}: its attention does not follow the setting "
            "is_causal; leave it out"
        )


def _ordinary_tokens(backbone: Backbone) -> list[int]:
    """Different token ids, none of them special, one more than the prompt is long."""
    special = set(backbone.tokenizer.all_special_ids)
    size = base_of(backbone.model).config.get_text_config().vocab_size
    return [index for index in range(min(size, 1000)) if index not in special][: PROMPT + 1]
