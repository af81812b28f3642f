"""The bert method end to end on tiny encoders and a real one: fit, predict, save, load, the card's snippet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spy_plugin
import torch
from card_snippets import TEXT, run_cards
from safetensors.torch import load_file
from training_setup import LABELS, context, documents
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from evalsuite.config import resolve
from evalsuite.contracts import RunContext
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.training.footprint import count_parameters
from evalsuite.plugins.bert import Bert, BertConfig, evalsuite_register_methods
from evalsuite.preparation import prepare
from evalsuite.registry import build_registry
from evalsuite.results import notices

TEXTS = ["a method for separation of water", "", "the team won the match " * 9, "shares fell", "</s>[SEP][PAD]"]
ENCODERS = ("tiny_bert", "tiny_roberta", "tiny_modernbert")
HEADS = {
    "tiny_bert": {"classifier", "bert.pooler"},
    "tiny_roberta": {"classifier"},
    "tiny_modernbert": {"head", "classifier"},
}


def config(model: Path, **more: Any) -> BertConfig:
    settings: dict[str, Any] = {"max_length": 32, "learning_rate": 2e-3, "epochs": 6, "batch_size": 8}
    if more.get("adaptation") == "lora":
        settings |= {"learning_rate": 1e-2, "lora_r": 4}
    return BertConfig(**{**settings, "model": str(model), "evaluations": 0, **more})


def fitted(model: Path, ctx: RunContext, **more: Any) -> Bert:
    method = Bert(config(model, **more), ctx)
    method.fit(documents(36, ctx.multilabel), [])
    return method


def share_right(method: Bert, multilabel: bool) -> float:
    examples = documents(36, multilabel)
    logits = method.predict([example.text for example in examples]).logits
    assert logits is not None
    found = [tuple(np.flatnonzero(row > 0)) if multilabel else (row.argmax(),) for row in logits]
    return float(np.mean([labels == example.labels for labels, example in zip(found, examples, strict=True)]))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("adaptation", ["full", "lora", "lora in 4-bit"])
@pytest.mark.parametrize("name", ENCODERS)
def test_learns_and_survives_the_disk(
    name: str, adaptation: str, multilabel: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    options = {"adaptation": adaptation.partition(" ")[0], "load_in_4bit": adaptation.endswith("4-bit")}
    epochs = 14 if multilabel else 6
    method = fitted(request.getfixturevalue(name), context(tmp_path, multilabel), epochs=epochs, **options)
    assert share_right(method, multilabel) > 0.8
    before = method.predict(TEXTS).logits
    method.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model" if adaptation == "full" else "adapter"]
    after = Bert.load(tmp_path, method.config, context(tmp_path, multilabel)).predict(TEXTS).logits
    assert before is not None
    assert before.shape == (5, 3)
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoder_keeps_its_own_head_whole_and_in_float32(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A quantised or frozen part of the head would learn nothing."""
    options = {"adaptation": "lora", "load_in_4bit": True, "dtype": "bfloat16", "epochs": 1}
    method = fitted(request.getfixturevalue(name), context(tmp_path), **options)
    model = method._ready().backbone.model
    heads = [f".{head}.modules_to_save.default." for head in HEADS[name]]
    trained = {key: tensor for key, tensor in model.named_parameters() if any(head in key for head in heads)}
    assert {head for head in heads if any(head in key for key in trained)} == set(heads)
    assert all(tensor.requires_grad and tensor.dtype == torch.float32 for tensor in trained.values())
    method.save(tmp_path)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(any(f".{head}." in key for key in saved) for head in HEADS[name])


def test_all_weights_stay_float32_where_the_arithmetic_is_bfloat16(tiny_modernbert: Path, tmp_path: Path) -> None:
    """An update of 5e-5 is lost in a bfloat16 weight."""
    method = fitted(tiny_modernbert, context(tmp_path), dtype="bfloat16", learning_rate=5e-5, epochs=1)
    weights = dict(method._ready().backbone.model.named_parameters())
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    original = load_file(tiny_modernbert / "model.safetensors")
    moved = [not torch.equal(weights[name], tensor) for name, tensor in original.items() if name in weights]
    assert len(moved) > 10
    assert all(moved)
    assert method.ctx.facts["dtype"] == "bfloat16"


@pytest.mark.parametrize("multilabel", [False, True])
def test_plain_transformers_reads_the_saved_model(tiny_modernbert: Path, tmp_path: Path, multilabel: bool) -> None:
    method = fitted(tiny_modernbert, context(tmp_path, multilabel))
    method.save(tmp_path)
    expected = method.predict(TEXTS[:2]).logits
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.id2label == dict(enumerate(LABELS))
    with torch.no_grad():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0].tolist() for text in TEXTS[:2]]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    read = pipeline("text-classification", model=str(tmp_path / "model"), device="cpu")
    [answers] = read([TEXTS[0] * 20], top_k=None, truncation=True)
    # the pipeline chooses sigmoid or softmax by the saved problem type, and cuts where training did
    assert sum(answer["score"] for answer in answers) == pytest.approx(1, abs=1e-3) or multilabel
    assert {answer["label"] for answer in answers} == set(LABELS)
    logits = method.predict([TEXTS[0] * 20]).logits
    assert logits is not None
    scores = torch.tensor(logits[0]).sigmoid() if multilabel else torch.tensor(logits[0]).softmax(dim=0)
    assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(
        dict(zip(LABELS, scores.tolist(), strict=True)), abs=1e-3
    )


def test_prediction_keeps_the_order_of_the_texts(tiny_bert: Path, tmp_path: Path) -> None:
    method = fitted(tiny_bert, context(tmp_path), token_budget=64, epochs=1)
    together = method.predict(TEXTS).logits
    alone = np.concatenate([method.predict([text]).logits for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert method.predict([]).logits.shape == (0, 3)


@pytest.mark.parametrize(("name", "longest"), [("tiny_bert", 128), ("tiny_roberta", 127), ("tiny_modernbert", 512)])
def test_inputs_are_no_longer_than_the_model_can_read(
    name: str, longest: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """RoBERTa's positions begin after its padding token's: its table is longer than its longest text."""
    method = fitted(request.getfixturevalue(name), context(tmp_path), epochs=1, max_length=4096)
    method.predict(["many words " * 2000])
    assert method.ctx.facts["predict_tokens"] == longest


def test_losses_are_options(tiny_bert: Path, tmp_path: Path) -> None:
    """Each changes what is learned, and all of them together still learn."""
    plain = fitted(tiny_bert, context(tmp_path), epochs=1).predict(TEXTS).logits
    for name, options in {
        "weights": {"class_weights": "balanced"},
        "focal": {"focal_gamma": 2.0},
        "smooth": {"label_smoothing": 0.1},
    }.items():
        method = Bert(config(tiny_bert, epochs=1, **options), context(tmp_path / name))
        method.fit(documents(36)[:35], [])
        assert not np.allclose(method.predict(TEXTS).logits, plain, atol=1e-3), name
    together = {"class_weights": "balanced", "focal_gamma": 2.0, "label_smoothing": 0.1}
    assert share_right(fitted(tiny_bert, context(tmp_path), **together), False) > 0.8


def test_same_seed_same_logits(tiny_modernbert: Path, tmp_path: Path) -> None:
    def logits(seed: int) -> Any:
        return fitted(tiny_modernbert, context(tmp_path / "run", seed=seed), epochs=1).predict(TEXTS).logits

    assert np.array_equal(logits(1), logits(1))
    assert not np.allclose(logits(1), logits(2))


def test_facts(tiny_bert: Path, tmp_path: Path) -> None:
    whole = fitted(tiny_bert, context(tmp_path), epochs=1).ctx.facts
    small = fitted(tiny_bert, context(tmp_path), epochs=1, adaptation="lora").ctx.facts
    assert whole["trainable_parameters"] == whole["total_parameters"]
    assert 0 < small["trainable_parameters"] < small["total_parameters"]
    assert small["lora_r"] == 4
    assert whole["effective_batch"] == 8


def test_a_decoder_is_refused_before_any_training(tiny_llama: Path, tmp_path: Path) -> None:
    (spec,) = evalsuite_register_methods()
    for refuse in (
        lambda: spec.preflight(config(tiny_llama), context(tmp_path), []),
        lambda: Bert(config(tiny_llama), context(tmp_path)).fit(documents(3), []),
    ):
        with pytest.raises(ModelError, match=r"bert needs an encoder, and .* \(llama\) is a decoder; use method"):
            refuse()


def test_4bit_weights_cannot_all_be_trained(tiny_bert: Path, tmp_path: Path) -> None:
    (spec,) = evalsuite_register_methods()
    options = config(tiny_bert, load_in_4bit=True)
    with pytest.raises(OptionError, match="4-bit weights cannot be trained; use adaptation=lora"):
        spec.preflight(options, context(tmp_path), [])
    with pytest.raises(OptionError, match="4-bit weights cannot be trained"):
        Bert(options, context(tmp_path)).fit(documents(3), [])


def test_options_of_an_adapter_that_is_not_there_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    registry = build_registry([str(Path(spy_plugin.__file__))])

    def said(**more: Any) -> list[str]:
        flags = {"task": "words", "method": "bert", "model": str(tiny_bert), "output_path": str(tmp_path), **more}
        return [line for line in notices(prepare(registry, *resolve(registry, flags))) if line.startswith("Options: ")]

    assert said(lora_alpha=16) == said(adaptation="lora", lora_r=4) == []
    [line] = said(lora_r=4, use_dora=True)
    assert line.startswith("Options: no effect of lora_r, use_dora: adaptation=full trains all weights")


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_preflight_counts_what_is_trained(tiny_modernbert: Path, tmp_path: Path, adaptation: str) -> None:
    (spec,) = evalsuite_register_methods()
    options = config(tiny_modernbert, adaptation=adaptation)
    estimate = spec.preflight(options, context(tmp_path), documents(3))
    model = fitted(tiny_modernbert, context(tmp_path), epochs=1, adaptation=adaptation)._ready().backbone.model
    real = count_parameters(model)
    assert (estimate["trainable_parameters"], estimate["total_parameters"]) == (real.trainable, real.total)
    with pytest.raises(ModelError, match="no such folder"):
        spec.preflight(config(tmp_path / "absent"), context(tmp_path), [])


def test_a_saved_model_that_is_not_whole_is_one_clear_line(tiny_bert: Path, tmp_path: Path) -> None:
    method = fitted(tiny_bert, context(tmp_path), epochs=1)
    with pytest.raises(ModelError, match=r"model is missing; train it again"):
        Bert.load(tmp_path, method.config, context(tmp_path))
    method.save(tmp_path)
    # a folder without the trained head would give a random one in silence
    body = {key: value for key, value in load_file(tmp_path / "model" / "model.safetensors").items() if "bert." in key}
    (tmp_path / "model" / "model.safetensors").unlink()
    from safetensors.torch import save_file

    save_file(body, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 2 weights of its architecture, the first is 'classifier\.bias'"):
        Bert.load(tmp_path, method.config, context(tmp_path))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="cannot load"):
        Bert.load(tmp_path, method.config, context(tmp_path))


def test_predict_before_fit(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model yet; call fit or load first"):
        Bert(config(tiny_bert), context(tmp_path)).predict(["text"])


def test_a_real_encoder_learns_in_a_few_steps(minilm: Path, tmp_path: Path) -> None:
    """With the method's own defaults but for the size; a random encoder learns nothing at this step size."""
    method = Bert(
        BertConfig(model=str(minilm), max_length=32, epochs=4, batch_size=4, evaluations=0), context(tmp_path)
    )
    method.fit(documents(24), [])
    unseen = ["they lost the final match", "profits and shares of a bank", "a process to purify water"]
    logits = method.predict(unseen).logits
    assert logits is not None
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_card_snippet_gives_the_same_logits_without_evalsuite(
    tiny_bert: Path, tiny_modernbert: Path, tiny_roberta: Path, tmp_path: Path
) -> None:
    cases: dict[str, tuple[Path, bool, dict[str, Any]]] = {
        "full": (tiny_bert, False, {}),
        "full bfloat16": (tiny_modernbert, True, {"dtype": "bfloat16"}),
        "adapter": (tiny_roberta, False, {"adaptation": "lora"}),
        "adapter bfloat16": (tiny_bert, False, {"adaptation": "lora", "dtype": "bfloat16"}),
        "qlora": (tiny_modernbert, True, {"adaptation": "lora", "load_in_4bit": True}),
    }
    methods = {
        tmp_path / name: fitted(model, context(tmp_path / name, multilabel), **options)
        for name, (model, multilabel, options) in cases.items()
    }
    for (folder, method), ran in zip(methods.items(), run_cards(methods), strict=True):
        # bfloat16 sums in another order where batches are padded otherwise
        close = 0.02 if folder.name.endswith("bfloat16") else 1e-4
        assert ran.logits == pytest.approx(method.predict([TEXT]).logits[0].tolist(), abs=close), folder.name
