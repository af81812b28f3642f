"""The frozen method end to end on tiny models: fit, predict, save, load, the cache, the card's snippet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card_snippets import TEXT, run_cards
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from training_setup import LABELS, context, documents

import evalsuite
from evalsuite import runner
from evalsuite.contracts import Example, RunContext, Scores
from evalsuite.errors import ModelError, OptionError
from evalsuite.llm import embedder as embedder_module
from evalsuite.plugins.frozen import Frozen, FrozenConfig, evalsuite_register_methods
from evalsuite.prompts import load_prompts

TEXTS = ["a method for separation of water", "", "the team won the match " * 9, "shares fell", "</s><|end_of_text|>"]


def config(model: Path, **more: Any) -> FrozenConfig:
    """The head's C is given where the search for it is not what is tested."""
    return FrozenConfig(**{"model": str(model), "max_length": 32, "c": 0.1, **more})


def fitted(model: Path, ctx: RunContext, validation: list[Example] | None = None, **more: Any) -> Frozen:
    method = Frozen(config(model, **more), ctx)
    method.fit(documents(30, ctx.multilabel), validation or [])
    return method


def metric(scores: Scores, examples: list[Example]) -> float:
    assert scores.logits is not None
    return float(np.mean(scores.logits.argmax(axis=1) == [example.labels[0] for example in examples]))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each call of the model was given, but for the timing of layers."""
    seen: list[int] = []
    plain = embedder_module.pooled_features

    def counted(backbone: Any, encoded: Any, *arguments: Any, **more: Any) -> Any:
        seen.append(len(encoded.ids))
        return plain(backbone, encoded, *arguments, **more)

    monkeypatch.setattr(embedder_module, "pooled_features", counted)
    return seen


@pytest.mark.parametrize("load_in_4bit", [False, True])
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen", "tiny_bert", "tiny_modernbert"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_learns_and_survives_the_disk(
    request: pytest.FixtureRequest, tmp_path: Path, multilabel: bool, name: str, load_in_4bit: bool
) -> None:
    model, ctx = request.getfixturevalue(name), context(tmp_path, multilabel)
    method = fitted(model, ctx, load_in_4bit=load_in_4bit, pooling="mean")
    examples = documents(30, multilabel)
    logits = method.predict([example.text for example in examples]).logits
    assert logits is not None
    assert logits.dtype == np.float32
    if multilabel:
        right = [tuple(np.flatnonzero(row > 0)) == e.labels for row, e in zip(logits, examples, strict=True)]
    else:
        right = list(logits.argmax(axis=1) == [example.labels[0] for example in examples])
    assert np.mean(right) > 0.8
    before = method.predict(TEXTS).logits
    method.save(tmp_path)
    assert not list(tmp_path.glob("*/*.safetensors"))  # the base's weights are not copied
    after = Frozen.load(tmp_path, method.config, context(tmp_path, multilabel)).predict(TEXTS).logits
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_the_head_is_scikit_learns(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path), c=0.5)
    train = documents(30)
    features = method._ready().compute([example.text for example in train])
    scaled = StandardScaler().fit_transform(features)
    reference = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(scaled, [e.labels[0] for e in train])
    logits = method.predict([example.text for example in train]).logits
    np.testing.assert_allclose(logits, reference.decision_function(scaled), atol=2e-2)


def test_no_texts_and_no_order(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path), token_budget=64, cache=False)
    assert method.predict([]).logits.shape == (0, 3)
    together = method.predict(TEXTS).logits
    alone = np.concatenate([method.predict([text]).logits for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_what_was_read_is_not_read_again(tiny_llama: Path, tmp_path: Path, forwards: list[int]) -> None:
    """Another seed, task or head of the same model and way of reading computes nothing."""
    first = context(tmp_path / "a")
    one = fitted(tiny_llama, first).predict(TEXTS).logits
    assert forwards == [30, 5]
    assert first.facts["train_cached"] == first.facts["predict_cached"] == first.facts["predict_cached_seconds"] == 0
    second = context(tmp_path / "b", seed=1)
    object.__setattr__(second, "cache", first.cache)
    two = fitted(tiny_llama, second).predict(TEXTS).logits
    assert forwards == [30, 5]
    assert (second.facts["train_cached"], second.facts["predict_cached"]) == (30, 5)
    assert second.facts["predict_tokens"] == first.facts["predict_tokens"]
    assert second.facts["truncated_share"] == pytest.approx(first.facts["truncated_share"])
    # a rate made of nothing read would flatter: what was read then counts as long as it took then
    assert 0 < second.facts["predict_cached_seconds"] < first.facts["predict_seconds"]
    assert second.facts["predict_seconds"] > second.facts["predict_cached_seconds"]
    assert second.facts["train_seconds"] > second.facts["train_cached_seconds"] > 0
    np.testing.assert_allclose(one, two, atol=1)


@pytest.mark.usefixtures("few_resamples")
def test_a_run_is_not_made_faster_by_what_another_kept(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    first, second = (
        evalsuite.run(
            "ag_news", "frozen", model=str(tiny_llama), seed=seed, limit=20, train_limit=40, output_path=tmp_path
        )
        for seed in (0, 1)
    )
    assert (first.results["facts"]["predict_cached"], second.results["facts"]["predict_cached"]) == (0, 20)
    for phase in ("train", "predict"):
        kept = second.results["facts"][f"{phase}_cached_seconds"]
        assert second.results["cost"][phase]["seconds"] > kept > 0
        assert first.results["cost"][phase]["seconds"] > kept
        assert second.results["cost"][phase]["tokens"] == first.results["cost"][phase]["tokens"] > 0


@pytest.mark.parametrize(
    "change",
    [{"pooling": "mean"}, {"layer": 1}, {"bidirectional": True}, {"max_length": 16}, {"truncation_side": "left"}],
)
def test_another_way_of_reading_is_another_cache(
    tiny_llama: Path, tmp_path: Path, forwards: list[int], change: dict[str, Any]
) -> None:
    fitted(tiny_llama, context(tmp_path))
    method = fitted(tiny_llama, context(tmp_path), **change)
    assert method.ctx.facts["train_cached"] == 0
    alone = context(tmp_path / "alone")
    expected = fitted(tiny_llama, alone, **change).predict(TEXTS).logits
    np.testing.assert_array_equal(method.predict(TEXTS).logits, expected)


def test_without_a_cache_nothing_is_kept(tiny_llama: Path, tmp_path: Path) -> None:
    fitted(tiny_llama, context(tmp_path), cache=False).predict(TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_opened_again_reads_for_itself(tiny_llama: Path, tmp_path: Path, forwards: list[int]) -> None:
    """Else the reload check would compare the cache with itself."""
    method = fitted(tiny_llama, context(tmp_path))
    method.predict(TEXTS)
    method.save(tmp_path)
    forwards.clear()
    kept = method.predict(TEXTS)
    np.testing.assert_array_equal(
        kept.logits, Frozen.load(tmp_path, method.config, context(tmp_path)).predict(TEXTS).logits
    )
    assert forwards == [5, 5]


def test_private_text_stays_off_the_disk(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path, private=True))
    method.save(tmp_path)
    contents = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"shares" not in contents
    assert b"separation" not in contents


@pytest.mark.parametrize("multilabel", [False, True])
def test_layer_auto_drops_what_lies_above(tiny_bert: Path, tmp_path: Path, multilabel: bool) -> None:
    def prefers_the_first(scores: Scores, examples: list[Example]) -> float:
        return 0.75 if multilabel else metric(scores, examples)

    ctx = context(tmp_path, multilabel, primary_metric=prefers_the_first)
    method = fitted(tiny_bert, ctx, documents(9, multilabel), layer="auto")
    scores = ctx.facts["layer_scores"]
    assert [layer for layer, _ in scores] == [1, 2]
    best = max(score for _, score in scores)
    assert ctx.facts["layer"] == next(layer for layer, score in scores if score == best)
    assert len(method._ready().backbone.model.encoder.layer) == ctx.facts["layer"]
    assert ctx.facts["speed_gain"] > 0
    assert ctx.facts["train_cached"] == ctx.facts["train_cached_seconds"] == 0  # what this run kept, this run timed
    before = method.predict(TEXTS).logits
    method.save(tmp_path)
    after = Frozen.load(tmp_path, method.config, context(tmp_path, multilabel)).predict(TEXTS).logits
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_layer_auto_needs_validation(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="layer=auto chooses on validation"):
        fitted(tiny_llama, context(tmp_path), layer="auto")


def test_defaults_follow_the_model(tiny_llama: Path, tiny_bert: Path, tmp_path: Path) -> None:
    def reading(model: Path, **more: Any) -> tuple[str, bool, bool]:
        facts = fitted(model, context(tmp_path), **more).ctx.facts
        return facts["pooling"], facts["normalize"], facts["bidirectional"]

    assert reading(tiny_llama) == ("last", False, False)
    assert reading(tiny_llama, bidirectional=True) == ("mean", False, True)
    assert reading(tiny_llama, bidirectional=True, pooling="last", normalize=True) == ("last", True, True)
    assert reading(tiny_bert) == ("mean", False, True)


def sentence_model(plain: Path, folder: Path) -> Path:
    """The model as a sentence-embedding model of the first token and length 1."""
    folder.mkdir()
    for file in plain.iterdir():
        (folder / file.name).symlink_to(file)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps([{"path": path, "type": f"models.{name}"} for path, name in modules])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    return folder


def test_a_sentence_embedding_model_is_pooled_as_its_files_say(tiny_bert: Path, tmp_path: Path) -> None:
    model = sentence_model(tiny_bert, tmp_path / "model")
    method = fitted(model, context(tmp_path))
    assert (method.ctx.facts["pooling"], method.ctx.facts["normalize"]) == ("cls", True)
    vectors = method._ready().embed(TEXTS).vectors[2]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert fitted(model, context(tmp_path), pooling="mean").ctx.facts["normalize"] is False
    assert fitted(model, context(tmp_path), normalize=False).ctx.facts["normalize"] is False


def with_template(folder: Path) -> RunContext:
    prompts = load_prompts("plain", task="toy", labels=LABELS, multilabel=False, descriptions={}, search=[])
    return context(folder, prompts=prompts)


def test_a_template_goes_around_the_document(tiny_llama: Path, tmp_path: Path) -> None:
    plain, prompted = fitted(tiny_llama, context(tmp_path)), fitted(tiny_llama, with_template(tmp_path), max_length=256)
    assert prompted.ctx.facts["train_cached"] == 0
    plain.predict(TEXTS)
    prompted.predict(TEXTS)
    assert prompted.ctx.facts["predict_tokens"] > plain.ctx.facts["predict_tokens"] + 5 * 10


def test_a_template_for_an_encoder(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--template is for decoders"):
        fitted(tiny_bert, with_template(tmp_path))


def test_bidirectional_for_an_encoder(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="bidirectional=true is for decoders"):
        fitted(tiny_bert, context(tmp_path), bidirectional=True)


@pytest.mark.parametrize("multilabel", [False, True])
def test_many_labels(tiny_llama: Path, tmp_path: Path, multilabel: bool) -> None:
    """As many as WIPO's subclasses; most have no document."""
    names = tuple(f"A{index:03}" for index in range(451))
    ctx = RunContext("toy", names, multilabel, 0, "cpu", tmp_path, tmp_path, context(tmp_path).progress)
    method = Frozen(config(tiny_llama), ctx)
    method.fit(documents(12), [])
    logits = method.predict(TEXTS).logits
    assert logits.shape == (5, 451)
    assert np.isfinite(logits).all()
    assert ctx.facts["trainable_parameters"] == 451 * 33


def test_facts(tiny_llama: Path, tmp_path: Path) -> None:
    facts = fitted(tiny_llama, context(tmp_path), truncation_side="left", c=None).ctx.facts
    assert facts["trainable_parameters"] == 3 * 32 + 3
    assert facts["total_parameters"] > 1000
    assert facts["probe_chosen_by"] == "cross-validation"
    assert facts["probe_c"] > 0
    assert (facts["dtype"], facts["quantised"], facts["attn_implementation"]) == ("float32", False, "sdpa")


def test_damaged_files_are_one_clear_line(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path))
    method.save(tmp_path)
    (tmp_path / "frozen.json").write_text("{}")
    with pytest.raises(ModelError, match=r"cannot read head\.safetensors and frozen\.json in .* train it again"):
        Frozen.load(tmp_path, method.config, context(tmp_path))
    method.save(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="train it again"):
        Frozen.load(tmp_path, method.config, context(tmp_path))


def test_a_head_of_other_labels(tiny_llama: Path, tmp_path: Path) -> None:
    method = fitted(tiny_llama, context(tmp_path))
    method.weight = method.weight[:2]
    method.save(tmp_path)
    with pytest.raises(ModelError, match=r"head of shape \(2, 32\), expected 3 labels by 32 dimensions"):
        Frozen.load(tmp_path, method.config, context(tmp_path))


def test_predict_before_fit(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model yet; call fit or load first"):
        Frozen(config(tiny_llama), context(tmp_path)).predict(["text"])


def test_preflight(tiny_llama: Path, tiny_modernbert: Path, tmp_path: Path) -> None:
    (spec,) = evalsuite_register_methods()
    assert (spec.name, spec.needs, spec.trained) == ("frozen", {"model", "template"}, True)
    for model in (tiny_llama, tiny_modernbert):
        whole = spec.preflight(config(model), context(tmp_path), documents(3))
        assert whole["memory_bytes"] == whole["base_bytes"] + whole["activations_bytes"] > whole["base_bytes"] > 0
        assert whole["base_bytes"] == 4 * whole["total_parameters"]
        assert (
            spec.preflight(config(model, load_in_4bit=True), context(tmp_path), [])["base_bytes"] < whole["base_bytes"]
        )
        assert spec.preflight(config(model, layer=1), context(tmp_path), [])["base_bytes"] < whole["base_bytes"]
    with pytest.raises(ModelError, match="no such folder"):
        spec.preflight(config(tmp_path / "absent"), context(tmp_path), [])
    with pytest.raises(OptionError, match="layer=7 is not there: the model has layers 1 to 2"):
        spec.preflight(config(tiny_llama, layer=7), context(tmp_path), [])


def test_card_snippet_gives_the_same_logits_without_evalsuite(
    tiny_llama: Path, tiny_qwen: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    cases = {
        "decoder": (tiny_qwen, False, {}),
        "both": (tiny_llama, True, {"bidirectional": True, "layer": 1, "load_in_4bit": True}),
        "sentence": (sentence_model(tiny_bert, tmp_path / "model"), False, {}),
        "bfloat16": (tiny_llama, False, {"dtype": "bfloat16", "pooling": "max", "truncation_side": "left"}),
    }
    methods = {
        tmp_path / name: fitted(model, context(tmp_path / name, multilabel), **options)
        for name, (model, multilabel, options) in cases.items()
    }
    ran = run_cards(methods, absent=("evalsuite", "sklearn", "peft"))
    for (folder, method), found in zip(methods.items(), ran, strict=True):
        assert found.logits == pytest.approx(method.predict([TEXT]).logits[0].tolist(), abs=1e-3), folder.name
        assert any(label in found.printed for label in LABELS) or method.ctx.multilabel
