"""Whole runs of the trained methods: stopped and gone on with; complete, private, usable as the card says."""

from __future__ import annotations

import os
import re
import runpy
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import evalsuite
from evalsuite import runner
from evalsuite.errors import Interrupted, OptionError, UsageError
from evalsuite.store import find_runs, open_run

SPY = Path(__file__).parent / "spy_plugin.py"
MARKER = b"zxqv"  # part of every text of the plugin's tasks
TOKEN = "hf_not_for_any_file"
pytestmark = pytest.mark.usefixtures("few_resamples")


def run(folder: Path, model: Path, task: str, method: str, **options: Any) -> evalsuite.RunResult:
    small = {"epochs": 1, "batch_size": 8, "max_length": 128, "evaluations": 1, "lora_r": 4, "load_in_4bit": False}
    return evalsuite.run(task, method, plugins=[SPY], output_path=folder, model=str(model), **{**small, **options})


def holding(folder: Path, words: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and words in path.read_bytes()]


class SignalAfterAStep:
    """Progress that asks the process to stop, as a cluster does, once the ``nth`` training has made a step."""

    def __init__(self, nth: int = 1) -> None:
        self.nth, self.trainings = nth, 0

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "docs") -> Iterator[Callable[[int], None]]:
        self.trainings += title == "training"

        def advance(finished: int) -> None:
            if title == "training" and finished and self.trainings == self.nth:
                os.kill(os.getpid(), signal.SIGTERM)

        yield advance


def test_a_run_stopped_by_a_signal_is_no_run_and_the_same_command_completes_it(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-trained model must not be scored as a finished one."""
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
    with pytest.raises(Interrupted, match="stopped after step 1 of 4; the state is saved") as stop:
        run(tmp_path / "stopped", tiny_llama, "words", "embedding", progress=SignalAfterAStep())
    assert stop.value.exit_code == 75
    assert find_runs(tmp_path / "stopped") == []
    assert not list((tmp_path / "stopped").rglob("results.json"))
    resumed = run(tmp_path / "stopped", tiny_llama, "words", "embedding")
    whole = run(tmp_path / "whole", tiny_llama, "words", "embedding")
    assert resumed.fresh
    assert resumed.results["facts"]["loss_curve"] == whole.results["facts"]["loss_curve"]
    assert resumed.metrics == whole.metrics
    assert not list(resumed.directory.rglob("checkpoints"))


def test_a_run_stopped_in_its_second_attempt_trains_on_there_with_its_own_checkpoint(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random head that hardly moves: every attempt collapses."""
    monkeypatch.setattr(runner, "check_reload", lambda *arguments: {"passed": True})
    options = {"learning_rate": 1e-9, "head_init": "random", "seed": 1, "retries": 1}
    with pytest.raises(Interrupted, match="stopped after step 1 of 4"):
        run(tmp_path / "stopped", tiny_llama, "words", "embedding", progress=SignalAfterAStep(2), **options)
    resumed = run(tmp_path / "stopped", tiny_llama, "words", "embedding", **options)
    whole = run(tmp_path / "whole", tiny_llama, "words", "embedding", **options)
    first, second = ([entry["f1_macro"] for entry in result.results["attempts"]] for result in (resumed, whole))
    assert len(first) == 2
    assert first == second
    assert resumed.results["facts"]["loss_curve"] == whole.results["facts"]["loss_curve"]
    assert resumed.metrics == whole.metrics
    assert resumed.results["cost"]["train"]["seconds"] >= resumed.results["facts"]["train_seconds"]
    assert resumed.results["cost"]["train"]["tokens"] == whole.results["cost"]["train"]["tokens"]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_instruction_run_is_complete_private_and_usable_as_its_card_says(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = run(tmp_path, tiny_llama, "secret", "instruction", template="letters", seed=3)
    results = open_run(result.directory, verify=True).results
    assert results["reload_check"]["passed"], results["reload_check"]
    assert (results["prompt"]["template"], results["prompt"]["num_fewshot"]) == ("letters", 0)
    assert results["prompt"]["hash"] == results["identity"]["template_hash"]
    assert len(results["prompt"]["hash"]) == 16
    for phase in ("train", "predict"):
        for count in ("documents", "tokens", "seconds", "documents_per_second", "tokens_per_second"):
            assert results["cost"][phase][count] > 0, (phase, count)
    assert 0 < results["parameters"]["trainable"] < results["parameters"]["total"]
    assert (results["facts"]["truncated_share"], results["facts"]["truncation_side"]) == (0, "right")
    assert (results["config"]["device"], results["seed"]) == ("cpu", 3)
    assert all(results["environment"]["packages"][name] for name in ("torch", "transformers", "peft"))
    printed = capfd.readouterr()
    for words in (MARKER, TOKEN.encode()):
        assert holding(tmp_path, words) == []
        assert words not in (printed.out + printed.err).encode()
    [snippet] = re.findall(r"```python\n(.*?)```", (result.directory / "README.md").read_text(encoding="utf-8"), re.S)
    (tmp_path / "snippet.py").write_text(snippet, encoding="utf-8")
    monkeypatch.chdir(result.directory)
    runpy.run_path(str(tmp_path / "snippet.py"))
    assert capfd.readouterr().out.split()[0] in results["labels"]


@pytest.mark.parametrize(
    ("task", "options", "kind", "words"),
    [
        ("tags", {"decode": "score"}, OptionError, "decode=score names one label a document"),
        ("words", {"template": "lettres"}, UsageError, "unknown template 'lettres'; did you mean letters"),
        ("words", {"lora_r": "many"}, OptionError, "lora_r"),
        ("words", {"template": "listed", "max_length": 16}, OptionError, "max_length=16 leaves no room"),
    ],
)
def test_a_request_that_cannot_work_leaves_nothing_behind(
    tiny_llama: Path, tmp_path: Path, task: str, options: dict[str, Any], kind: type[UsageError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        run(tmp_path / "runs", tiny_llama, task, "instruction", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
