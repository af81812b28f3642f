"""The shapes of published models without their weights: what memory and speed depend on, and results do not.

    python -m evalsuite.llm.loading.shapes llama-3.2-3b FOLDER            configuration and tokenizer
    python -m evalsuite.llm.loading.shapes llama-3.2-3b FOLDER --weights  and random weights in bfloat16

The tokenizer is that of the bundled model: its vocabulary is smaller than a shape's, so its ids stay inside the
embedding, and texts come out in other numbers of tokens than with the published model's own tokenizer.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PreTrainedConfig, PreTrainedModel

from evalsuite import bundled
from evalsuite.errors import EvalsuiteError, StoreError, UnknownNameError

_LLAMA_3: Mapping[str, Any] = {
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
}
_LLAMA_3_ROPE: Mapping[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
# The figures of each repository's config.json on the hub
SHAPES: Mapping[str, tuple[type[PreTrainedConfig], Mapping[str, Any]]] = {
    # https://huggingface.co/meta-llama/Llama-3.2-1B
    "llama-3.2-1b": (
        LlamaConfig,
        {
            **_LLAMA_3,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "rope_parameters": {**_LLAMA_3_ROPE, "factor": 32.0},
            "tie_word_embeddings": True,
        },
    ),
    # https://huggingface.co/meta-llama/Llama-3.2-3B
    "llama-3.2-3b": (
        LlamaConfig,
        {
            **_LLAMA_3,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 28,
            "num_attention_heads": 24,
            "rope_parameters": {**_LLAMA_3_ROPE, "factor": 32.0},
            "tie_word_embeddings": True,
        },
    ),
    # https://huggingface.co/meta-llama/Llama-3.1-8B
    "llama-3.1-8b": (
        LlamaConfig,
        {
            **_LLAMA_3,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "rope_parameters": {**_LLAMA_3_ROPE, "factor": 8.0},
            "tie_word_embeddings": False,
        },
    ),
    # https://huggingface.co/mistralai/Mistral-7B-v0.1
    "mistral-7b": (
        MistralConfig,
        {
            "vocab_size": 32_000,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32_768,
            "sliding_window": 4096,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
            "tie_word_embeddings": False,
        },
    ),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def write_shape(name: str, folder: Path, *, weights: bool = False, seed: int = 0) -> Path:
    """Write a shape as a model folder; with ``weights``, random ones that any tool can load.

    Raises:
        UnknownNameError: there is no such shape.
        StoreError: the folder holds a model already.
    """
    if name not in SHAPES:
        raise UnknownNameError("shape", name, SHAPES)
    if (folder / "config.json").exists():
        raise StoreError(f"{folder} holds a model already; name a new folder")
    architecture, values = SHAPES[name]
    own = json.loads((bundled.path() / "config.json").read_text())
    marks = {key: own[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = architecture(**values, **marks, dtype=torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    for file in TOKENIZER_FILES:
        shutil.copyfile(bundled.path() / file, folder / file)
    if weights:
        write_random_weights(config, folder, seed)
    config.save_pretrained(folder)
    return folder


def write_random_weights(config: PreTrainedConfig, folder: Path, seed: int = 0) -> None:
    """Draw bfloat16 weights and write them a layer a file, so that no more than one layer is ever in memory.

    Matrices are normal with the configuration's ``initializer_range``, norms are 1 and biases 0, as before training.
    """
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tied = set(model.all_tied_weights_keys) if config.tie_word_embeddings else set()
    shapes = [(key, tensor.shape) for key, tensor in model.state_dict().items() if key not in tied]
    generator = torch.Generator().manual_seed(seed)
    files: dict[str, str] = {}
    for number, (_, entries) in enumerate(groupby(shapes, key=lambda entry: _layer(entry[0]))):
        file = f"model-{number:05d}.safetensors"
        tensors = {key: _drawn(key, shape, config.initializer_range, generator) for key, shape in entries}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(tensors, file)
    index = {"metadata": {"total_size": 2 * sum(shape.numel() for _, shape in shapes)}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _layer(key: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` -> ``model.layers.3``; what is in no layer stands alone."""
    parts = key.split(".")
    numbers = [at for at, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else key


def _drawn(key: str, shape: torch.Size, spread: float, generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.full(shape, 0.0 if key.endswith("bias") else 1.0, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(std=spread, generator=generator)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="python -m evalsuite.llm.loading.shapes", description="write a model's shape")
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", action="store_true", help="random weights too")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    given = parser.parse_args(arguments)
    try:
        write_shape(given.shape, given.folder, weights=given.weights, seed=given.seed)
    except EvalsuiteError as error:
        parser.error(str(error))
    sys.stdout.write(f"{given.folder}\n")


if __name__ == "__main__":
    main()
