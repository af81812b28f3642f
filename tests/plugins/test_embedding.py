"""The embedding method end to end on tiny models: fit, predict, save, load, the card's snippet."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_setup import LABELS, context, documents

from evalsuite.config import preset_table
from evalsuite.contracts import Example, RunContext, Scores
from evalsuite.errors import ModelError
from evalsuite.plugins.embedding import Embedding, EmbeddingConfig, evalsuite_register_methods

TEXTS = ["a method for separation of water", "", "the team won the match " * 9, "shares fell", "</s><|end_of_text|>"]


def config(model: Path, **more: Any) -> EmbeddingConfig:
    settings: dict[str, Any] = {"max_length": 32, "learning_rate": 1e-2, "epochs": 6, "batch_size": 8, "lora_r": 4}
    return EmbeddingConfig(**{**settings, "model": str(model), "evaluations": 0, **more})


def fitted(model: Path, ctx: RunContext, **more: Any) -> Embedding:
    method = Embedding(config(model, **more), ctx)
    method.fit(documents(30, ctx.multilabel), [])
    return method


def share_right(method: Embedding, examples: list[Example], multilabel: bool) -> float:
    logits = method.predict([example.text for example in examples]).logits
    assert logits is not None
    if multilabel:
        return float(
            np.mean([tuple(np.flatnonzero(row > 0)) == e.labels for row, e in zip(logits, examples, strict=True)])
        )
    return float(np.mean(logits.argmax(axis=1) == [example.labels[0] for example in examples]))


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_learns_and_survives_the_disk(
    tiny_llama: Path, tmp_path: Path, multilabel: bool, pooling: str, load_in_4bit: bool
) -> None:
    ctx = context(tmp_path, multilabel)
    method = fitted(tiny_llama, ctx, pooling=pooling, load_in_4bit=load_in_4bit)
    assert share_right(method, documents(30, multilabel), multilabel) > 0.8
    before = method.predict(TEXTS).logits
    method.save(tmp_path)
    # with mean pooling, a stock reload must not find a head to read the last token with
    assert (tmp_path / "adapter" / "head.safetensors").exists() == (pooling == "mean")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any("score" in name for name in saved) == (pooling == "last")
    after = Embedding.load(tmp_path, method.config, context(tmp_path, multilabel)).predict(TEXTS).logits
    assert np.array_equal(before, after)


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
    Embedding(config(tiny_llama, evaluations=3), ctx).fit(documents(24), documents(5))
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

    targets = method._targets(examples)
    assert targets.dtype == torch.float32
    batch = pad(method._encode([example.text for example in examples]).ids, method._ready().tokenizer.pad_token_id)
    with torch.no_grad():
        ours = method._losses(method._ready().model, {**batch, "targets": targets})
        stock = method._ready().model(**batch, labels=targets).loss
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
    assert (spec.name, spec.needs, spec.config) == ("embedding", {"model"}, EmbeddingConfig)
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


def test_every_option_says_what_it_means() -> None:
    for name, field in EmbeddingConfig.model_fields.items():
        assert field.description, name


SNIPPETS = """
import os, runpy, sys, json
results = {}
for folder in sys.argv[1:]:
    os.chdir(folder)
    results[folder] = runpy.run_path("snippet.py")["logits"][0].tolist()
assert not any(name.startswith("evalsuite") for name in sys.modules)
print(json.dumps(results))
"""


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
    }
    expected = {}
    for name, (model, multilabel, options) in cases.items():
        folder = tmp_path / name
        method = fitted(model, context(folder, multilabel), **options)
        method.save(folder)
        (folder / "snippet.py").write_text(method.card_snippet())
        expected[str(folder)] = method.predict(["Text to classify."]).logits[0].tolist()
    command = [sys.executable, "-c", SNIPPETS, *expected]
    output = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert output.returncode == 0, output.stderr
    actual = json.loads(output.stdout.splitlines()[-1])
    for folder, logits in expected.items():
        # stock transformers pads and batches alike; a bfloat16 base sums in another order
        assert actual[folder] == pytest.approx(logits, abs=0.02 if folder.endswith("bfloat16") else 1e-4), folder
    assert any(label in output.stdout for label in LABELS)
