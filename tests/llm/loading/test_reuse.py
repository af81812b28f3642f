"""A base model that is kept for the next run: it must change no number."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import evalsuite
from evalsuite import results, runner
from evalsuite.llm.loading import backbone, reuse
from evalsuite.llm.loading.backbone import Backbone, load_base_model, load_causal_lm, load_sequence_classifier
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.training.seeding import seed_everything
from evalsuite.memory import leave_alone_what_is_here


@pytest.fixture(autouse=True)
def _off_again() -> Iterator[None]:
    yield
    reuse.keep_base_models(False)


def load(kind: str, model: str, seed: int, **options: Any) -> Backbone:
    seed_everything(seed)
    asked = ModelOptions(model=model, **options)
    if kind == "classifier":
        return load_sequence_classifier(asked, ["a", "b", "c"], False, "cpu")
    return load_causal_lm(asked, "cpu") if kind == "causal" else load_base_model(asked, "cpu")


def told(loaded: Backbone) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """All weights, what comes next of torch's generator, and what the model says."""
    weights = {
        name: value.clone() if torch.is_tensor(value) else value for name, value in loaded.model.state_dict().items()
    }
    drawn = torch.rand(4)
    with torch.no_grad():
        said = loaded.model(**loaded.tokenizer("a text of some words", return_tensors="pt"))[0]
    return weights, drawn, said


def same(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if torch.is_tensor(first) else first == second


@pytest.mark.parametrize(
    ("kind", "in_4bit"), [("classifier", False), ("causal", False), ("base", False), ("classifier", True)]
)
def test_a_copy_is_what_reading_again_would_give(kind: str, in_4bit: bool) -> None:
    """Its head too, which is drawn by the seed, and the state that the generators are left in."""
    plain = {seed: told(load(kind, "bundled", seed, load_in_4bit=in_4bit)) for seed in (1, 2)}
    reuse.keep_base_models()
    for seed in (1, 2):
        loaded = load(kind, "bundled", seed, load_in_4bit=in_4bit)
        weights, drawn, said = told(loaded)
        assert weights.keys() == plain[seed][0].keys()
        assert all(same(weights[name], plain[seed][0][name]) for name in weights)
        assert torch.equal(drawn, plain[seed][1])
        assert torch.equal(said, plain[seed][2])
        for tensor in loaded.model.state_dict().values():  # what a run does to its copy reaches no other
            if torch.is_tensor(tensor):
                tensor.zero_()
        loaded.tokenizer.pad_token = loaded.tokenizer.unk_token
        loaded.model.config.pad_token_id = 7


def test_encoders_compute_the_same_to_the_last_bit(tiny_bert: Path, tiny_roberta: Path, tiny_modernbert: Path) -> None:
    for model in map(str, (tiny_bert, tiny_roberta, tiny_modernbert)):
        reuse.keep_base_models(False)
        plain = {seed: told(load("classifier", model, seed)) for seed in (1, 2)}
        reuse.keep_base_models()
        for seed in (1, 2):
            weights, drawn, said = told(load("classifier", model, seed))
            assert all(same(weights[name], plain[seed][0][name]) for name in weights)
            assert torch.equal(drawn, plain[seed][1])
            assert torch.equal(said, plain[seed][2])


def test_it_is_read_once_until_something_else_is_asked_for(
    tiny_llama: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    true = backbone._read
    monkeypatch.setattr(backbone, "_read", lambda *given: read.append(Path(given[1]).name) or true(*given))
    load("base", str(tiny_llama), 0)
    load("base", str(tiny_llama), 0)
    assert read == ["tiny_llama"] * 2  # off unless asked for
    reuse.keep_base_models()
    for model, options in [(tiny_llama, {})] * 3 + [
        (tiny_llama, {"dtype": "bfloat16"}),
        (tiny_bert, {}),
        (tiny_llama, {}),
    ]:
        load("base", str(model), 0, **options)
    assert read[2:] == ["tiny_llama", "tiny_llama", "tiny_bert", "tiny_llama"]
    config = tiny_llama / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    load("base", str(tiny_llama), 0)
    assert len(read) == 7  # its files have changed


def test_only_a_small_model_is_kept_and_its_memory_is_no_runs(
    tiny_llama: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuse.keep_base_models()
    assert reuse.kept_bytes("cpu") == 0
    loaded = load("base", str(tiny_llama), 0).model
    size = sum(value.numel() * value.element_size() for value in (*loaded.parameters(), *loaded.buffers()))
    assert (reuse.kept_bytes("cpu"), reuse.kept_bytes("gpu")) == (size, 0)
    monkeypatch.setattr(results, "peak_memory", lambda: 3 * size)
    assert results._peaks()["cpu"] == 2 * size
    for free, kept in ((size * 10, size), (size * 10 - 1, 0)):
        reuse.keep_base_models()
        monkeypatch.setattr(backbone, "free_memory", lambda device, free=free: free)
        first, second = (load("base", str(tiny_llama), 0).model for _ in range(2))
        assert reuse.kept_bytes("cpu") == kept
        assert all(map(torch.equal, first.parameters(), second.parameters()))
        assert first is not second


def test_models_that_are_not_kept_any_more_are_freed(tiny_llama: Path, tiny_bert: Path) -> None:
    """Those in cycles too, and though the libraries are left alone by then."""
    gc.unfreeze()
    leave_alone_what_is_here()
    reuse.keep_base_models()
    gone = []
    for model in (tiny_llama, tiny_bert, tiny_llama):
        loaded = load("base", str(model), 0).model
        loaded.itself = [loaded]  # a cycle, which only the collector can free
        gone += [weakref.ref(loaded), weakref.ref(reuse._shelf.model.model)]
        del loaded
        leave_alone_what_is_here()  # as at the beginning of every cell
    kept = gone.pop()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 5
    assert kept() is not None
    gc.unfreeze()


FEW = {"train_limit": 8, "validation_limit": 8, "limit": 8, "max_length": 128}
ONCE = {"epochs": 1, "evaluations": 0, "batch_size": 8}
RUNS: list[tuple[str, dict[str, Any]]] = [
    ("embedding", {**ONCE, "load_in_4bit": True}),
    ("embedding", {**ONCE, "load_in_4bit": True, "seed": 1}),
    ("instruction", ONCE),
    ("zero_shot", {}),
]


@pytest.mark.usefixtures("few_resamples")
def test_runs_one_after_the_other_come_out_the_same(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "check_reload", lambda *given: {"passed": True})  # a fresh process keeps nothing

    def numbers(name: str) -> list[Any]:
        found = []
        for method, options in RUNS:
            run = evalsuite.run("ag_news", method, model=tiny_llama, output_path=tmp_path / name, **FEW, **options)
            table = next(run.directory.glob("samples_*.jsonl")).read_bytes()
            kept = [run.results[key] for key in ("run_id", "metrics", "decision", "calibration", "parameters")]
            found.append((kept, run.results["facts"].get("losses"), table))
        return found

    plain = numbers("plain")
    reuse.keep_base_models()
    assert numbers("kept") == plain
