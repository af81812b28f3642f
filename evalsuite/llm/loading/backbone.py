"""Load a language model, hold it in 4-bit where asked, attach a LoRA adapter, save and read that adapter.

What is loaded here differs from a plain ``from_pretrained`` in four ways, each of which a silent failure taught:
a padding token is chosen from the tokens there are (the vocabulary is never resized), the classification head is
float32 and never quantised, 4-bit weights stay in place on the CPU, and weights missing from the files are an error.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evalsuite.errors import ModelError
from evalsuite.llm.loading.matmul import use_fast_products
from evalsuite.llm.loading.quantisation import keep_weights_in_place, nf4
from evalsuite.llm.loading.reuse import Held, read_once
from evalsuite.llm.loading.source import files_stamp, first_line, read_config, resolve_model
from evalsuite.llm.options import ModelOptions
from evalsuite.memory import free_memory, keep_freed_memory


@dataclass
class Backbone:
    """A loaded model with its tokenizer.

    ``name`` is what ``from_pretrained`` takes (a hub id or a folder), ``dtype`` the precision of the weights that are
    not in 4-bit, ``attn_implementation`` the attention kernel that transformers settled on.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    name: str
    revision: str | None
    quantised: bool
    attn_implementation: str
    dtype: torch.dtype
    head: tuple[str, ...] = ()  # modules of a classifier that start at random; float32, never in 4-bit
    mixed: bool = False  # weights in float32, arithmetic in ``dtype``

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Autocast for a prediction where the weights are kept in a higher precision than they are used in."""
        return torch.autocast(self.device.type, self.dtype) if self.mixed else nullcontext()


def load_causal_lm(options: ModelOptions, device: str) -> Backbone:
    """Load a model that writes text.

    Raises:
        ModelError: the model is absent, gated, corrupt, or of a kind that writes no text.
    """
    return _load(AutoModelForCausalLM, options, local_device(device), {}, skip_modules=None)


def load_base_model(options: ModelOptions, device: str) -> Backbone:
    """Load a decoder or an encoder without any head: its output is hidden states.

    Raises:
        ModelError: the model is absent, gated or corrupt.
    """
    # what a head would read of it is not read here: it may be missing
    return _load(AutoModel, options, local_device(device), {}, skip_modules=["pooler"])


def load_sequence_classifier(
    options: ModelOptions,
    labels: Sequence[str],
    multilabel: bool,
    device: str,
    *,
    all_weights: bool = False,
    trained: bool = False,
) -> Backbone:
    """Load a model with transformers' own classification head, in float32.

    A decoder's head is linear without bias and called ``score``; an encoder keeps its own form and name. With
    ``all_weights``, which are to be trained, weights are float32, none is in 4-bit, and only the arithmetic has the
    dtype of ``options``. A ``trained`` classifier brings its head; otherwise the head is random.

    Raises:
        ModelError: the model is absent, gated, corrupt, or has no classification head in transformers.
    """
    settings = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        # left unset, transformers infers it from the first batch and keeps it
        "problem_type": "multi_label_classification" if multilabel else "single_label_classification",
    }
    where, architecture = local_device(device), AutoModelForSequenceClassification
    head = classification_head(options)
    untrained = None if trained else head
    backbone = _load(architecture, options, where, settings, skip_modules=untrained, all_weights=all_weights)
    backbone.head = head
    for name in head:
        module = backbone.model.get_submodule(name).float()
        if backbone.dtype != torch.float32 and not backbone.mixed and head != DECODER_HEAD:
            module.register_forward_pre_hook(_in_float32)
    return backbone


def classification_head(options: ModelOptions) -> tuple[str, ...]:
    """Names of the modules that transformers puts on top of the model for classification; ("score",) for a decoder.

    Raises:
        ModelError: the model is absent or gated, or transformers has no classifier of its kind.
    """
    return head_modules(empty_model(AutoModelForSequenceClassification, options, read_config(options)))


def empty_model(
    architecture: Any, options: ModelOptions, config: PretrainedConfig, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """A model's shape on the meta device: no weight is fetched or allocated.

    Raises:
        ModelError: transformers has no such ``architecture`` of the model's kind.
    """
    try:
        with torch.device("meta"), quiet(bars=False):
            model: PreTrainedModel = architecture.from_config(
                config, dtype=dtype, trust_remote_code=options.trust_remote_code
            )
            return model
    except ValueError as error:
        raise ModelError(
            f"{options.model} is no model for transformers' {architecture.__name__}: {first_line(error)}"
        ) from error


def head_modules(model: PreTrainedModel) -> tuple[str, ...]:
    """As ``classification_head``, of a classifier that is there."""
    body = model.base_model_prefix
    names = [name for name, module in model.named_children() if name != body and any(True for _ in module.parameters())]
    # BERT's pooler lies inside the body, and comes with some checkpoints only.
    names += [name for name, _ in model.named_modules() if name == f"{body}.pooler"]
    return tuple(names)


DECODER_HEAD = ("score",)
CACHE_LINE = 64  # bytes


def _in_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].float(), *inputs[1:])


def local_device(device: str) -> torch.device:
    """The device of this process: under a launcher, each process has the GPU of its local rank.

    ``device_map="auto"`` would spread one quantised model over all GPUs and leave a single process training.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"unknown device {device!r}; expected cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device {device!r} was asked for, but torch sees no GPU; use --device cpu")
    return chosen


def longest_input(backbone: Backbone, asked: int) -> int:
    """``asked`` tokens, or fewer where the model knows fewer positions."""
    known = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in backbone.model.named_modules():
        # RoBERTa's first position comes after the padding token's, and not every tokenizer of it knows
        if known and name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            known -= module.padding_idx + 1
    return int(min(asked, known or asked, backbone.tokenizer.model_max_length))


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model under the adapter, whose layers carry the LoRA updates in place."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def layer_stack(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of a model, in order.

    Raises:
        ModelError: the model keeps its layers in no list of ``num_hidden_layers``.
    """
    count = base_of(model).config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(f"{type(base_of(model)).__name__} has no list of {count} layers to choose from; leave layer unset")


def _load(
    architecture: Any,
    options: ModelOptions,
    device: torch.device,
    settings: dict[str, Any],
    skip_modules: Sequence[str] | None,
    all_weights: bool = False,
) -> Backbone:
    name, revision = resolve_model(options.model)
    config = read_config(options)
    dtype = compute_dtype(options, device)
    quantised = wants_4bit(options, device) and not all_weights
    already = getattr(config, "quantization_config", None) is not None
    arguments = {
        "revision": revision,
        "trust_remote_code": options.trust_remote_code,
        "dtype": torch.float32 if all_weights else dtype,
        "device_map": {"": str(device)},
        "attn_implementation": None if options.attn_implementation == "auto" else options.attn_implementation,
        "quantization_config": nf4(dtype, skip_modules) if quantised and not already else None,
        **settings,
    }
    key = (architecture, name, files_stamp(name), repr(arguments))
    vocabulary = config.get_text_config().vocab_size
    if device.type == "cuda":
        torch.cuda.set_device(device)  # generators, memory figures and quantisation kernels follow the current device
    with quiet(bars=not Path(name).is_dir()):
        try:
            read, copied = read_once(key, lambda: _read(architecture, name, arguments, vocabulary), _copy, _weigh)
            if copied:
                _draw_missing(read)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"cannot load {options.model}: {first_line(error)}") from error
    fresh = tuple(f"{name}." for name in skip_modules or ())
    missing = [key for key in read.missing if not (fresh and key.startswith(fresh))]
    if missing:
        raise ModelError(
            f"{options.model} lacks {len(missing)} weights of its architecture, the first is {missing[0]!r}"
        )
    model, tokenizer = read.model, read.tokenizer
    for part in (model.config, model.config.get_text_config()):  # the same object but for models that also see
        part.pad_token_id = tokenizer.pad_token_id
    keep_weights_in_place(model)
    if device.type == "cpu":
        keep_freed_memory()
        use_fast_products(model)
    model.eval()
    effective = str(getattr(model.config, "_attn_implementation", None) or "eager")
    mixed = all_weights and dtype != torch.float32
    return Backbone(model, tokenizer, device, name, revision, quantised or already, effective, dtype, mixed=mixed)


@dataclass(frozen=True)
class _Read:
    """A model and its tokenizer as ``from_pretrained`` gave them. ``missing``: the weights that no file holds."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    missing: list[str]


def _read(architecture: Any, name: str, arguments: dict[str, Any], vocabulary: int) -> _Read:
    where = {key: arguments[key] for key in ("revision", "trust_remote_code")}
    tokenizer = AutoTokenizer.from_pretrained(name, **where)
    choose_pad_token(tokenizer, vocabulary)
    model, report = architecture.from_pretrained(name, output_loading_info=True, **arguments)
    return _Read(tokenizer, model, sorted(report["missing_keys"]))


def _copy(read: _Read) -> _Read:
    """A copy that computes the same to the last bit.

    Weights that were read from a file begin anywhere in memory, and kernels of the CPU add up in another order where a
    matrix begins elsewhere in a cache line. So each weight of the copy begins as far from a line's start as its twin.
    """
    copied = copy.deepcopy(read)
    for twin, tensor in zip(_tensors(read.model), _tensors(copied.model), strict=True):
        offset = twin.data_ptr() % CACHE_LINE
        if tensor.device.type == "cpu" and tensor.data_ptr() % CACHE_LINE != offset:
            size = tensor.numel() * tensor.element_size()
            room = torch.empty(size + CACHE_LINE, dtype=torch.uint8)
            start = (offset - room.data_ptr()) % CACHE_LINE
            tensor.data = room[start : start + size].view(tensor.dtype).view(tensor.shape).copy_(tensor.data)
    return copied


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _weigh(read: _Read) -> Held:
    size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(read.model))
    device = str(read.model.device)
    return Held(device, size, free_memory(device))


def _draw_missing(read: _Read) -> None:
    """Draw the weights of a copy that no file holds as ``from_pretrained`` does: from the generators as they are now,
    in the same order. Which weights are not to be drawn is what transformers marks them by."""
    model: Any = read.model
    for module in model.modules():
        module._is_hf_initialized = False
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        tensor._is_hf_initialized = name not in read.missing
    model.initialize_weights()


def compute_dtype(options: ModelOptions, device: torch.device) -> torch.dtype:
    """The precision of the base: as asked, else bfloat16 on a GPU that computes in it, else float32."""
    if options.dtype != "auto":
        return torch.float32 if options.dtype == "float32" else torch.bfloat16
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def wants_4bit(options: ModelOptions, device: torch.device) -> bool:
    """Whether the base is held in 4-bit: as asked, else on a GPU only."""
    return device.type == "cuda" if options.load_in_4bit is None else options.load_in_4bit


def choose_pad_token(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> int:
    """Set and return a padding token among the existing ones, so that no embedding is added (n rows = ``vocabulary``).

    transformers' classification models read the last token that is not padding. The choice therefore skips a token
    that the tokenizer itself puts at the end of every text: real text must never end in it.

    Raises:
        ModelError: the tokenizer has no special token to pad with.
    """
    last = tokenizer("a")["input_ids"][-1]
    candidates = [tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token]
    for token in [*candidates, *tokenizer.all_special_tokens]:
        index = None if token is None else tokenizer.convert_tokens_to_ids(token)
        if index is not None and index != last and index < vocabulary:
            tokenizer.pad_token = token
            return int(index)
    raise ModelError(
        f"the tokenizer of {tokenizer.name_or_path} has no token to pad with: set pad_token in tokenizer_config.json to"
        f" one of its {vocabulary} tokens"
    )


def recompute_activations(model: PreTrainedModel | PeftModel, on: bool) -> None:
    """Turn gradient checkpointing on or off, under the name that this transformers has for it.

    Raises:
        ModelError: the model cannot recompute activations.
    """
    base, action = base_of(model), "enable" if on else "disable"
    if on and not base.supports_gradient_checkpointing:
        raise ModelError(f"{type(base).__name__} cannot recompute activations; set gradient_checkpointing=false")
    named = getattr(base, f"activation_checkpointing_{action}", None)
    (named or getattr(base, f"gradient_checkpointing_{action}"))()


@contextmanager
def quiet(bars: bool) -> Iterator[None]:
    """Hold back transformers' load report, which is checked here, and its ``bars`` where nothing is downloaded."""
    logging = transformers.utils.logging
    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
