"""The embedding method end to end on tiny models: fit, predict, save, load, the card's snippet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from card_snippets import TEXT, run_cards
from safetensors.torch import load_file
from training_setup import LABELS, context, documents

from evalsuite.config import preset_table
from evalsuite.contracts import Example, RunContext, Scores
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm.loading.backbone import layer_stack
from evalsuite.llm.reading.pooling import classify
from evalsuite.llm.training.losses import ClassificationLoss
from evalsuite.metrics import one_hot
from evalsuite.plugins.embedding import Embedding, EmbeddingConfig, evalsuite_register_methods
from evalsuite.prompts import PromptSet, load_prompts

TEXTS = ["a method for separation of water", "", "the team won the match " * 9, "shares fell", "</s><|end_of_text|>"]


def config(model: Path, **more: Any) -> EmbeddingConfig:
    settings: dict[str, Any] = {"max_length": 32, "learning_rate": 1e-2, "epochs": 6, "batch_size": 8, "lora_r": 4}
    return EmbeddingConfig(**{**settings, "model": str(model), "evaluations": 0, **more})


def fitted(model: Path, ctx: RunContext, **more: Any) -> Embedding:
    method = Embedding(config(model, **more), ctx)
    method.fit(documents(30, ctx.multilabel), [])
    return method


def plain_prompts() -> PromptSet:
    return load_prompts("listed", task="toy", labels=LABELS, multilabel=False, descriptions={}, search=[])


def share_right(method: Embedding, examples: list[Example], multilabel: bool) -> float:
    logits = method.predict([example.text for example in examples]).logits
    assert logits is not None
    if multilabel:
        return float(
            np.mean([tuple(np.flatnonzero(row > 0)) == e.labels for row, e in zip(logits, examples, strict=True)])
        )
    return float(np.mean(logits.argmax(axis=1) == [example.labels[0] for example in examples]))


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_learns_and_survives_the_disk(
    tiny_llama: Path, tmp_path: Path, multilabel: bool, pooling: str, load_in_4bit: bool
) -> None:
    ctx = context(tmp_path, multilabel)
    method = fitted(tiny_llama, ctx, pooling=pooling, load_in_4bit=load_in_4bit)
    assert share_right(method, documents(30, multilabel), multilabel) > 0.8
    before = method.predict(TEXTS).logits
    method.save(tmp_path)
    # with another pooling, a stock reload must not find a head to read the last token with
    assert (tmp_path / "adapter" / "head.safetensors").exists() == (pooling != "last")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any("score" in name for name in saved) == (pooling == "last")
    after = Embedding.load(tmp_path, method.config, context(tmp_path, multilabel)).predict(TEXTS).logits
    # opened in float32, the adapter is added to the weights
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_prediction_keeps_the_order_of_the_texts(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path), token_budget=64)
    together = method.predict(TEXTS).logits
    alone = np.concatenate([method.predict([text]).logits for text in TEXTS])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_inputs_are_no_longer_than_the_model_can_read(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path), epochs=1, max_length=4096)
    method.predict(["many words " * 2000])
    assert method.ctx.facts["predict_tokens"] == 512
    assert method.ctx.facts["truncated_share"] == 1


def test_no_texts(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path))
    assert method.predict([]).logits.shape == (0, 3)


def test_empty_documents_are_trained_and_scored(tiny_qwen: Path, tmp_path: Path) -> None:
    """The tokenizer adds no mark, so an empty document would be no token at all."""
    method = Embedding(config(tiny_qwen, epochs=1), context(tmp_path))
    method.fit([replace(example, text="") if i % 3 else example for i, example in enumerate(documents(12))], [])
    assert np.isfinite(method.predict(["", "text"]).logits).all()


def test_validation_decides_which_state_is_kept(tiny_llama: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def metric(scores: Scores, examples: list[Example]) -> float:
        seen.append(len(examples))
        assert scores.logits.shape == (5, 3)
        return [0.9, 0.1, 0.2][len(seen) - 1]

    ctx = context(tmp_path, primary_metric=metric)
    Embedding(config(tiny_llama, evaluations=3, head_init="random"), ctx).fit(documents(24), documents(5))
    assert seen == [5, 5, 5]
    assert ctx.facts["best_step"] == 6
    assert [score for _, score in ctx.facts["validation_curve"]] == [0.9, 0.1, 0.2]


def test_same_seed_same_logits(tiny_llama: Path, tmp_path: Path) -> None:
    def logits(folder: str, seed: int) -> Any:
        return fitted(tiny_llama, context(tmp_path / folder, seed=seed), epochs=1).predict(TEXTS).logits

    assert np.array_equal(logits("a", 1), logits("b", 1))
    assert not np.allclose(logits("c", 1), logits("d", 2))


def test_facts(tiny_llama: Path, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    fitted(tiny_llama, ctx, truncation_side="left", load_in_4bit=True).predict(TEXTS)
    facts = ctx.facts
    assert facts["truncated_share"] == pytest.approx(1 / 5)
    assert facts["truncation_side"] == "left"
    assert 32 < facts["predict_tokens"] <= 5 * 32
    assert facts["predict_seconds"] > 0
    assert 0 < facts["trainable_parameters"] < facts["total_parameters"]
    assert (facts["dtype"], facts["quantised"], facts["attn_implementation"]) == ("float32", True, "sdpa")
    assert facts["effective_batch"] == 8


def test_multilabel_loss_is_that_of_stock_transformers(tiny_llama: Path, tmp_path: Path) -> None:
    """The mean over documents of ours is the stock model's loss for float targets."""
    method = fitted(tiny_llama, context(tmp_path, multilabel=True))
    examples = documents(6, multilabel=True)
    from evalsuite.llm.batching import pad

    classifier = method._ready()
    model = classifier.backbone.model
    targets = classifier.targets(examples)
    assert targets.dtype == torch.float32
    encoded = classifier.encode([example.text for example in examples])
    batch = pad(encoded.ids, classifier.backbone.tokenizer.pad_token_id)
    loss = ClassificationLoss(method.config, one_hot(examples, 3), True)
    with torch.no_grad():
        ours = loss(classify(model, batch, "last"), targets)
        stock = model(**batch, labels=targets).loss
    assert ours.shape == (6,)
    assert ours.mean().item() == pytest.approx(stock.item(), rel=1e-5)


def test_damaged_head_is_one_clear_line(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path), pooling="mean", epochs=1)
    method.save(tmp_path)
    (tmp_path / "adapter" / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"cannot read the head in .*head\.safetensors.*train it again"):
        Embedding.load(tmp_path, method.config, context(tmp_path))


def test_predict_before_fit(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model yet; call fit or load first"):
        Embedding(config(tiny_llama), context(tmp_path)).predict(["text"])


def test_preflight_estimates_and_finds_an_absent_model(tiny_llama: Path, tmp_path: Path) -> None:
    (spec,) = evalsuite_register_methods()
    assert (spec.name, spec.needs, spec.config) == ("embedding", {"model", "template"}, EmbeddingConfig)
    estimate = spec.preflight(config(tiny_llama), context(tmp_path), documents(3))
    assert (
        estimate["memory_bytes"] == estimate["base_bytes"] + estimate["adapter_bytes"] + estimate["activations_bytes"]
    )
    with pytest.raises(ModelError, match="no such folder"):
        spec.preflight(config(tmp_path / "absent"), context(tmp_path), documents(3))


@pytest.mark.parametrize("preset", ["bundled", "paper"])
def test_presets_fit(preset: str) -> None:
    options = EmbeddingConfig(**preset_table(preset)["embedding"])
    assert options.lora_targets == "all-linear"
    if preset == "paper":
        assert (options.lora_r, options.load_in_4bit, options.pooling) == (8, True, "last")
        assert options.head_init == "random"


def test_every_option_says_what_it_means() -> None:
    for name, field in EmbeddingConfig.model_fields.items():
        assert field.description, name


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_card_snippet_gives_the_same_logits_without_evalsuite(
    tiny_llama: Path, tiny_qwen: Path, tmp_path: Path
) -> None:
    """The snippets of the card run as printed, in one fresh process, on the portable and the mean-pooling form."""
    cases = {
        "plain": (tiny_qwen, False, {}),
        "bfloat16": (tiny_llama, False, {"dtype": "bfloat16"}),
        "qlora": (tiny_llama, True, {"load_in_4bit": True}),
        "mean": (tiny_llama, True, {"pooling": "mean", "load_in_4bit": True}),
        "max": (tiny_qwen, False, {"pooling": "max", "layer": 1}),
        "attention": (tiny_llama, False, {"pooling": "attention"}),
        "layer": (tiny_llama, False, {"layer": 1}),
        "prompt": (tiny_llama, False, {"max_length": 96}),
    }
    methods = {}
    for name, (model, multilabel, options) in cases.items():
        ctx = context(tmp_path / name, multilabel, prompts=plain_prompts() if name == "prompt" else None)
        methods[ctx.workdir] = fitted(model, ctx, **options)
    for (folder, method), ran in zip(methods.items(), run_cards(methods), strict=True):
        # stock transformers pads and batches alike; a bfloat16 base sums in another order
        close = 0.02 if folder.name == "bfloat16" else 1e-4
        assert ran.logits == pytest.approx(method.predict([TEXT]).logits[0].tolist(), abs=close), folder.name
        assert any(label in ran.printed for label in LABELS) or method.ctx.multilabel


def test_step_0_logits_are_the_probes(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step, the classifier says what the linear probe of the 4-bit base says."""
    from evalsuite.llm.reading import probe
    from evalsuite.llm.training import loop

    fits: list[Any] = []
    fit = probe.fit_probe

    def spy(features: Any, *arguments: Any, **options: Any) -> Any:
        fits.append((features, fit(features, *arguments, **options)))
        return fits[-1][1]

    monkeypatch.setattr(probe, "fit_probe", spy)
    monkeypatch.setattr(loop, "train", lambda *arguments: None)
    method = fitted(tiny_llama, context(tmp_path), load_in_4bit=True)
    ((features, found),) = fits
    logits = method.predict([example.text for example in documents(30)]).logits
    np.testing.assert_allclose(logits, features @ found.weight.T, atol=1e-4)
    assert found.bias is None
    assert method.ctx.facts["head_init_seconds"] > 0
    method.save(tmp_path)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (head,) = (tensor for name, tensor in saved.items() if "score" in name)
    np.testing.assert_array_equal(head.numpy(), found.weight)


def test_a_training_that_only_does_harm_leaves_the_probe(tiny_llama: Path, tmp_path: Path) -> None:
    """A step size that destroys the model: what is kept is the state before the first step, and it is the probe's."""
    scores: list[float] = []

    def metric(given: Scores, examples: list[Example]) -> float:
        scores.append(float(np.mean(given.logits.argmax(axis=1) == [example.labels[0] for example in examples])))
        return scores[-1]

    ctx = context(tmp_path, primary_metric=metric)
    method = Embedding(config(tiny_llama, evaluations=3, learning_rate=0.5), ctx)
    method.fit(documents(30), documents(30))
    assert scores[0] > max(scores[1:])
    assert (ctx.facts["best_step"], ctx.facts["validation_curve"][0]) == (0, (0, round(scores[0], 5)))
    assert share_right(method, documents(30), False) == scores[0]


def test_the_layers_above_the_one_that_is_read_are_gone(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path), layer=1)
    assert len(layer_stack(method._ready().backbone.model)) == 1
    assert (method.ctx.facts["layer"], method.ctx.facts["speed_gain"] > 0) == (1, True)
    method.save(tmp_path)
    again = Embedding.load(tmp_path, method.config, context(tmp_path))
    np.testing.assert_allclose(again.predict(TEXTS).logits, method.predict(TEXTS).logits, rtol=1e-5, atol=1e-5)


def test_layer_auto_keeps_the_layer_that_does_best_on_validation(tiny_llama: Path, tmp_path: Path) -> None:
    def metric(scores: Scores, examples: list[Example]) -> float:
        asked.append(len(examples))
        return {1: 0.9, 2: 0.8}.get(len(asked), 0.0)

    asked: list[int] = []
    ctx = context(tmp_path, primary_metric=metric)
    method = Embedding(config(tiny_llama, layer="auto", epochs=1), ctx)
    method.fit(documents(24), documents(6))
    assert ctx.facts["layer"] == 1
    assert ctx.facts["layer_scores"] == [(1, 0.9), (2, 0.8)]
    method.save(tmp_path)
    again = Embedding.load(tmp_path, method.config, context(tmp_path))
    np.testing.assert_allclose(again.predict(TEXTS).logits, method.predict(TEXTS).logits, rtol=1e-5, atol=1e-5)


def test_layer_auto_without_validation(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="layer=auto chooses on validation, and there is none; name a layer"):
        fitted(tiny_llama, context(tmp_path), layer="auto")


def test_bad_input_is_found_before_any_training(tiny_llama: Path, tiny_bert: Path, tmp_path: Path) -> None:
    (spec,) = evalsuite_register_methods()
    with pytest.raises(OptionError, match="layer=9 is not there: the model has layers 1 to 2"):
        spec.preflight(config(tiny_llama, layer=9), context(tmp_path), documents(3))
    with pytest.raises(ModelError, match=r"no linear `score` head.*use method 'bert' for an encoder"):
        spec.preflight(config(tiny_bert), context(tmp_path), documents(3))


def test_a_template_puts_a_prompt_around_the_document(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path, prompts=plain_prompts()), max_length=96)
    encoded = method._ready().encode(["shares fell"])
    read = method._ready().backbone.tokenizer.decode(encoded.ids[0])
    assert "shares fell" in read
    assert all(label in read for label in LABELS)
    method.save(tmp_path)
    again = Embedding.load(tmp_path, method.config, context(tmp_path, prompts=plain_prompts()))
    np.testing.assert_allclose(again.predict(TEXTS).logits, method.predict(TEXTS).logits, rtol=1e-5, atol=1e-5)


def test_losses_change_what_is_learnt(tiny_llama: Path, tmp_path: Path) -> None:
    plain = fitted(tiny_llama, context(tmp_path), epochs=1).predict(TEXTS).logits
    for options in ({"class_weights": "balanced"}, {"focal_gamma": 2.0}, {"label_smoothing": 0.1}):
        method = Embedding(config(tiny_llama, epochs=1, **options), context(tmp_path))
        method.fit(documents(31)[:25], [])
        assert not np.allclose(method.predict(TEXTS).logits, plain), options
