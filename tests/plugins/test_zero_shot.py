"""The zero-shot method: local and hosted, with contextual calibration, and whole runs against a real server."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card_snippets import TEXT, run_cards
from hosted_server import Model, Server, always, fails, serving
from scipy.special import expit, softmax

import evalsuite
from evalsuite.contracts import RunContext
from evalsuite.errors import ModelError, OptionError, UsageError
from evalsuite.plugins.zero_shot import (
    CONTENT_FREE,
    ZeroShot,
    ZeroShotConfig,
    contextual_bias,
    evalsuite_register_methods,
    preflight,
)
from evalsuite.progress import Silent
from evalsuite.prompts import load_prompts

LABELS = ("World", "Sports", "Business")
TEXTS = ("a treaty", "the match", "shares fell")
KEY = "sk-very-secret"
(SPEC,) = evalsuite_register_methods()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Model({"treaty": "A", "match": "B", "shares": "C"})) as running:
        yield running


def context(folder: Path, template: str = "letters", multilabel: bool = False, **changes: Any) -> RunContext:
    arguments: dict[str, Any] = {"task": "toy", "labels": LABELS, "multilabel": multilabel}
    prompts = load_prompts(template, **arguments, descriptions={}, search=[])
    arguments |= {"seed": 0, "device": "cpu", "workdir": folder, "cache": folder, "progress": Silent()}
    return RunContext(**(arguments | {"prompts": prompts} | changes))


def hosted(server: Server, **changes: Any) -> ZeroShotConfig:
    return ZeroShotConfig(**({"model": "openai/test", "base_url": server.url, "backoff": 0.001} | changes))


def fitted(config: ZeroShotConfig, ctx: RunContext) -> ZeroShot:
    method = ZeroShot(config, ctx)
    method.fit([], [])
    return method


def test_a_local_model_gives_the_same_logits_as_instruction_before_training(tiny_llama: Path, tmp_path: Path) -> None:
    from evalsuite.plugins.instruction import Instruction, InstructionConfig

    ctx = context(tmp_path, "descriptions")
    scores = fitted(ZeroShotConfig(model=str(tiny_llama)), ctx).predict(TEXTS)
    other = Instruction(InstructionConfig(model=str(tiny_llama)), context(tmp_path, "descriptions")).predict(TEXTS)
    assert scores.logits is not None
    assert other.logits is not None
    np.testing.assert_allclose(scores.logits, other.logits, atol=1e-5)
    assert ctx.facts["trainable_parameters"] == 0
    assert ctx.facts["total_parameters"] > 1000
    assert ctx.facts["predict_tokens"] > 20
    assert ctx.facts["label_scoring"].startswith("one pass")


def test_contextual_calibration_divides_by_the_mean_over_inputs_that_say_nothing(
    tiny_llama: Path, tmp_path: Path
) -> None:
    plain = fitted(ZeroShotConfig(model=str(tiny_llama)), context(tmp_path))
    raw, empty = plain.predict(TEXTS).logits, plain.predict(CONTENT_FREE).logits
    options = ZeroShotConfig(model=str(tiny_llama), contextual_calibration=True)
    ctx = context(tmp_path)
    method = fitted(options, ctx)
    calibrated = method.predict(TEXTS).logits
    assert raw is not None
    assert empty is not None
    assert calibrated is not None
    divided = softmax(raw, axis=1) / softmax(empty, axis=1).mean(axis=0)
    np.testing.assert_allclose(np.exp(calibrated), divided / divided.sum(axis=1, keepdims=True), atol=1e-5)
    assert ctx.facts["contextual_calibration"] is True
    method.save(tmp_path)
    again = ZeroShot.load(tmp_path, options, context(tmp_path)).predict(TEXTS).logits
    np.testing.assert_allclose(again, calibrated, atol=1e-5)
    (tmp_path / "zero_shot.json").write_text("{}")
    with pytest.raises(ModelError, match=r"zero_shot\.json"):
        ZeroShot.load(tmp_path, options, context(tmp_path))


def test_contextual_calibration_of_yes_and_no(tiny_llama: Path, tmp_path: Path) -> None:
    ctx = context(tmp_path, multilabel=True)
    plain = fitted(ZeroShotConfig(model=str(tiny_llama), decode="per_label"), ctx)
    raw, empty = plain.predict(TEXTS).logits, plain.predict(CONTENT_FREE).logits
    options = ZeroShotConfig(model=str(tiny_llama), decode="per_label", contextual_calibration=True)
    calibrated = fitted(options, ctx).predict(TEXTS).logits
    assert raw is not None
    assert empty is not None
    assert calibrated is not None
    yes, no = expit(raw) / expit(empty).mean(axis=0), expit(-raw) / expit(-empty).mean(axis=0)
    np.testing.assert_allclose(expit(calibrated), yes / (yes + no), atol=1e-5)


def test_the_cards_run_without_evalsuite(tiny_llama: Path, tiny_qwen: Path, tmp_path: Path) -> None:
    """Logits are printed up to a constant of each document: what the softmax, or for yes and no the sigmoid, makes."""
    cases: dict[str, tuple[Path, bool, dict[str, Any]]] = {
        "score": (tiny_qwen, False, {"normalise": "token"}),
        "score calibrated": (tiny_llama, False, {"contextual_calibration": True, "load_in_4bit": True}),
        "per_label": (tiny_llama, False, {"decode": "per_label", "contextual_calibration": True}),
        "per_label several": (tiny_qwen, True, {"decode": "per_label", "contextual_calibration": True}),
        "constrained": (tiny_llama, True, {}),
    }
    methods = {}
    for name, (model, multilabel, options) in cases.items():
        ctx = context(tmp_path / name, "descriptions", multilabel)
        methods[ctx.workdir] = fitted(ZeroShotConfig(model=str(model), **options), ctx)
    for (folder, method), ran in zip(methods.items(), run_cards(methods, ("evalsuite", "peft")), strict=True):
        scores = method.predict([TEXT])
        if scores.logits is None:
            # written without the grammar that keeps to the labels
            assert set(ast.literal_eval(ran.printed.strip())) <= set(LABELS)
            continue
        name, _, rest = ran.printed.strip().rpartition(" {")
        printed = np.array(list(ast.literal_eval("{" + rest).values()))
        if folder.name.startswith("score"):
            found, expected = softmax(printed), softmax(scores.logits[0])
        else:
            found, expected = printed, expit(scores.logits[0]) if method.ctx.multilabel else softmax(scores.logits[0])
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=folder.name)
        if method.ctx.multilabel:
            assert name == str([LABELS[label] for label in np.flatnonzero(scores.logits[0] > 0)])
        else:
            assert name == LABELS[int(scores.logits[0].argmax())]


def test_a_prompt_that_says_nothing_of_itself_is_left_alone() -> None:
    even = np.zeros((3, 4), dtype=np.float32)
    np.testing.assert_allclose(contextual_bias(even, False), np.log([0.25] * 4), rtol=1e-6)
    np.testing.assert_allclose(contextual_bias(even, True), [0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("decode", "multilabel"), [("free", False), ("constrained", False), ("auto", True)])
def test_answers_without_probabilities_cannot_be_calibrated(
    tmp_path: Path, tiny_llama: Path, decode: str, multilabel: bool
) -> None:
    options = ZeroShotConfig(model=str(tiny_llama), decode=decode, contextual_calibration=True)
    with pytest.raises(OptionError, match="contextual_calibration needs label probabilities"):
        preflight(options, context(tmp_path, multilabel=multilabel), [])


def test_a_hosted_model_is_calibrated_too(server: Server, tmp_path: Path) -> None:
    method = fitted(hosted(server, contextual_calibration=True), context(tmp_path))
    scores = method.predict(TEXTS)
    assert scores.logits is not None
    # The server writes "no idea" about inputs that say nothing, and lists A, B and C at -3, -4 and -5.
    raw = np.array([[np.logaddexp(-0.1, -6), -3, -4]])
    expected = softmax(raw, axis=1) / softmax([[-3.0, -4.0, -5.0]], axis=1)
    np.testing.assert_allclose(np.exp(scores.logits[:1]), expected / expected.sum(), rtol=1e-5)
    assert [request["messages"][0]["content"].count("N/A") for request in server.model.requests[:3]] == [1, 0, 0]


def test_a_hosted_model_without_logits_is_not_calibrated(server: Server, tmp_path: Path) -> None:
    server.model.logprobs = "none"
    with pytest.raises(ModelError, match="contextual_calibration needs them"):
        fitted(hosted(server, contextual_calibration=True), context(tmp_path))
    assert len(server.model.requests) == 1


def test_a_saved_run_of_a_hosted_model_answers_from_the_cache(server: Server, tmp_path: Path) -> None:
    options = hosted(server, contextual_calibration=True)
    method = fitted(options, context(tmp_path))
    scores = method.predict(TEXTS)
    method.save(tmp_path)
    sent = len(server.model.requests)
    again = ZeroShot.load(tmp_path, options, context(tmp_path)).predict(TEXTS)
    assert again.logits is not None
    np.testing.assert_array_equal(again.logits, scores.logits)
    assert len(server.model.requests) == sent


@pytest.mark.parametrize(
    ("changes", "local"),
    [
        ({"model": "openai/gpt-4o-mini"}, False),
        ({"model": "openai/gpt-oss-20b", "hosted": False}, True),
        ({"model": "meta-llama/Llama-3.2-1B"}, True),
        ({"model": "qwen", "hosted": True}, False),
    ],
)
def test_where_a_model_runs(changes: dict[str, Any], local: bool) -> None:
    config = ZeroShotConfig(**changes)
    assert config.local == local
    assert config.hosted_name == changes["model"].removeprefix("openai/")


def test_the_address_in_use_is_part_of_a_runs_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SPEC.identity is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/")
    assert SPEC.identity(ZeroShotConfig(model="openai/x")) == {"base_url": "http://127.0.0.1:1/v1"}
    assert SPEC.identity(ZeroShotConfig(model="openai/x", base_url="http://b/v1")) == {"base_url": "http://b/v1"}
    assert SPEC.identity(ZeroShotConfig(model="x")) == {}


def test_a_missing_key_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        preflight(ZeroShotConfig(model="openai/gpt-4o-mini"), context(tmp_path), [])


WORDS = {"account": "A", "bank": "B", "record": "C", "sensor": "D"}
PRICES = ("--price_in", "1", "--price_out", "2", "--max_usd", "1")


def command_line(folder: Path, *arguments: str, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
    """``evalsuite`` in a process of its own, which must not have loaded torch for a hosted model."""
    code = (
        "import sys\nfrom evalsuite.cli.app import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"OPENAI_API_KEY": key} if key else {})
    command = [sys.executable, "-c", code, *arguments, "--output_path", str(folder / "runs")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def request(server: Server, task: str = "ag_news", model: str = "openai/test") -> Sequence[str]:
    """The flags of a run of a few documents."""
    return (
        *("run", "--task", task, "--method", "zero_shot", "--model", model, "--base_url", server.url),
        *("--template", "letters", "--limit", "40", "--train_limit", "20", "--backoff", "0.001", "--max_retries", "1"),
    )


def files(folder: Path) -> str:
    """Everything that a run left on disk."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_whole_run_from_the_command_line(tmp_path: Path) -> None:
    with serving(Model(dict(WORDS), key=KEY)) as server:
        first = command_line(tmp_path, *request(server), *PRICES, "--json")
        assert first.returncode == 0, first.stderr
        results = json.loads(first.stdout)
        facts, sent = results["facts"], len(server.model.requests)
        assert facts["requests"] == sent, "the reload check costs nothing"
        prompt, completion = np.sum(server.model.billed, axis=0)
        assert results["cost"]["usd"] == pytest.approx((prompt + 2 * completion) / 1e6)
        assert (results["incomplete"], results["reload_check"]["passed"]) == (False, True)
        assert results["parameters"] == {"trainable": 0, "total": None}
        assert results["metrics"]["summary"]["ece"]["value"] is not None, "log-probabilities came with the answers"
        assert results["model"] == "openai/test"
        # Once more, from the cache, and with another seed, which is another run and the same questions.
        again = command_line(tmp_path, *request(server), *PRICES, "--json", "--overwrite", "always")
        assert again.returncode == 0, again.stderr
        repeated = json.loads(again.stdout)
        assert repeated["metrics"] == results["metrics"]
        assert repeated["cost"]["usd"] == 0
        assert (repeated["facts"]["requests"], repeated["facts"]["answered_from_cache"]) == (0, sent)
        assert len(server.model.requests) == sent
    assert KEY not in files(tmp_path) + first.stdout + first.stderr
    assert server.model.keys == {f"Bearer {KEY}"}


def test_what_failed_makes_a_run_incomplete_and_the_same_command_goes_on(
    server: Server, tmp_path: Path, few_resamples: None
) -> None:
    server.model.answers = dict(WORDS)
    server.model.faults["sensor"] = list(always(fails(500)))
    flags: dict[str, Any] = {"model": "openai/test", "base_url": server.url, "backoff": 0.001, "max_retries": 1}
    flags |= {"template": "letters", "limit": 40, "train_limit": 20, "output_path": tmp_path / "runs"}
    broken = evalsuite.run("ag_news", "zero_shot", **flags)
    rows = [json.loads(line) for line in (broken.directory / "samples_ag_news.jsonl").read_text().splitlines()]
    failed = [row for row in rows if row["status"] == "failed"]
    assert failed == [row for row in rows if "sensor" in row["doc"]["text"]]
    assert all(row["prediction"] is None or row["prediction"] == [] for row in failed)
    assert broken.results["incomplete"] is True
    assert broken.results["facts"]["failed"] == {"HTTP 500": len(failed)}
    assert broken.results["metrics"]["counts"]["failed"] == len(failed) > 0
    assert broken.results["reload_check"]["passed"]
    distinct = {request["messages"][0]["content"] for request in server.model.requests}
    missing = [prompt for prompt in distinct if "sensor" in prompt.rpartition("Text:")[2]]
    server.model.faults.clear()
    whole = evalsuite.run("ag_news", "zero_shot", overwrite="always", **flags).results
    assert whole["incomplete"] is False
    assert whole["facts"]["requests"] == len(missing), "those that failed, and nothing else"


def test_validation_is_not_paid_for_where_nothing_can_be_fitted(
    server: Server, tmp_path: Path, few_resamples: None
) -> None:
    server.model.logprobs = "none"
    flags: dict[str, Any] = {"model": "openai/test", "base_url": server.url, "limit": 10, "output_path": tmp_path}
    results = evalsuite.run("ag_news", "zero_shot", template="letters", **flags).results
    assert results["data"]["sizes"]["validation"] > 20
    assert results["cost"]["calibrate"]["documents"] == 20
    assert results["facts"]["requests"] == len(server.model.requests) == 1 + 20 + 10
    assert results["decision"]["rule"] == "own"
    assert results["metrics"]["summary"]["ece"]["value"] is None


def test_a_private_task_stays_here(server: Server, tmp_path: Path) -> None:
    refused = command_line(tmp_path, *request(server, "clv"))
    assert refused.returncode == 2
    assert "--allow-private-upload true" in refused.stderr
    assert not server.model.requests
    assert not list((tmp_path / "runs").rglob("*.partial"))
    allowed = command_line(tmp_path, *request(server, "clv"), "--allow-private-upload", "true", "--json")
    assert allowed.returncode == 0, allowed.stderr
    text = server.model.requests[0]["messages"][0]["content"].partition("Text:")[2][:40].strip()
    assert text
    assert text not in files(tmp_path / "runs") + files(tmp_path / "cache" / "answers")


@pytest.mark.parametrize(
    ("model", "key", "code", "message"),
    [
        ("openai/other", None, 3, "knows no model 'other'"),
        ("openai/test", "sk-wrong-secret", 3, "refused the key"),
    ],
)
def test_a_run_that_cannot_work_says_so_in_one_line(
    server: Server, tmp_path: Path, model: str, key: str | None, code: int, message: str
) -> None:
    server.model.key = KEY if key else None
    done = command_line(tmp_path, *request(server, model=model), key=key)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert len(server.model.requests) == 1
    assert "secret" not in done.stderr + files(tmp_path)
