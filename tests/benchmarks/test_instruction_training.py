"""Row 3 at a tiny size: our side trains as a plain loop does, and the check sees a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks import instruction_training as row
from benchmarks.adapters import fill, trained
from benchmarks.floors import training_flops
from benchmarks.harness import Options
from benchmarks.ours import instruction_training as ours

# plain peft asks transformers 5 for an attribute by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SETTINGS: dict[str, Any] = {"batch_size": row.STEP, "learning_rate": 1e-3, "token_budget": 100}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("row-3")
    row.prepare(folder, Options(small=True))
    return folder


@pytest.fixture(scope="module")
def found(job: Path) -> dict[str, Any]:
    return ours.setup(job, SETTINGS)()


def plain_training(job: Path) -> dict[str, Any]:
    """What the peer computes, written out: the mean over the tokens of a step's answers, AdamW at a constant rate."""
    items, steps = (json.loads((job / name).read_text(encoding="utf-8")) for name in ("items.json", "steps.json"))
    base = AutoModelForCausalLM.from_pretrained(job / "model")
    model = PeftModel.from_pretrained(base, job / "adapter", is_trainable=True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0)
    losses = []
    for step in steps:
        optimizer.zero_grad()
        nats, tokens = torch.zeros(()), 0
        for prompt, answer in (items[index] for index in step):
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            nats = nats + torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
            tokens += len(answer)
        loss = nats / tokens
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {
        "losses": np.array(losses),
        "adapter": trained(model),
        "parameters": sum(weight.numel() for weight in weights),
        "tokens": sum(len(prompt) + len(answer) for prompt, answer in items),
        "steps": len(steps),
    }


def test_our_side_is_the_plain_loop(job: Path, found: dict[str, Any]) -> None:
    peer = plain_training(job)
    checks = row.check(job, {row.OURS: found, row.BEST: peer, row.DEFAULTS: peer})
    assert [(check.what, check.value) for check in checks if not check.ok] == []
    assert len(checks) == 6
    assert row.floor(job, {}).seconds > 0


@pytest.mark.parametrize(
    ("key", "change", "wrong"),
    [("losses", 0.01, "step's loss"), ("adapter", 0.001, "trained adapters"), ("tokens", 1, "tokens")],
)
def test_another_training_is_seen(job: Path, found: dict[str, Any], key: str, change: float, wrong: str) -> None:
    same = found | {"losses": found["losses"] / len(json.loads((job / "items.json").read_text())[0][1])}
    other = same | {key: same[key] + change}
    checks = row.check(job, {row.OURS: found, row.BEST: other, row.DEFAULTS: same})
    assert [wrong in check.what for check in checks if not check.ok] == [True]


def test_operations_written_out() -> None:
    """Two layers, one of which is whole; 4 tokens in two sequences, one position with a loss."""
    shape = LlamaConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=10,
    )
    attention, values, mlp, tokens = 2 * 8 * 8, 2 * 8 * 4, 3 * 8 * 16, 4
    whole = attention + values + mlp
    forward = 2 * (whole * tokens + values * tokens + (attention + mlp) * 1 + 8 * 10)
    backward = forward - 2 * (8 * 8 + values) * tokens  # the first layer's queries, keys and values
    pairs = 3 * (4 * 8) * (1 + 2 + 3 + 1)
    adapter = 2 * (2 * (8 + 8) + 2 * (8 + 4) + 3 * (8 + 16))
    assert training_flops(shape, [3, 1], logits=1, rank=2) == forward + backward + pairs + 6 * adapter * tokens


def test_rounds_begin_alike(job: Path, found: dict[str, Any]) -> None:
    work = ours.setup(job, SETTINGS)
    work()
    again = work()
    np.testing.assert_array_equal(again["losses"], found["losses"])


def test_answers_are_of_one_length_and_prompts_of_many(job: Path) -> None:
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    assert len({len(answer) for _, answer in items}) == 1
    assert len({len(prompt) for prompt, _ in items}) > len(items) // 2


def test_an_adapter_is_put_back(job: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(job / "model")
    model = PeftModel.from_pretrained(base, job / "adapter", is_trainable=True)
    values = np.arange(len(trained(model)), dtype=np.float32)
    fill(model, values)
    np.testing.assert_array_equal(trained(model), values)
