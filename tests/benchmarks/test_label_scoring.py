"""Rows 1 and 4: our sides do what the rows say, and the checks find what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import instruction_prediction, label_scoring
from benchmarks.harness import Options
from benchmarks.label_prompts import read_prompts
from benchmarks.ours import instruction_prediction as our_prediction
from benchmarks.ours import label_scoring as our_scoring
from benchmarks.peers import generate_and_parse

SMALL = Options(small=True)


@pytest.mark.parametrize("name", ["1a", "1b", "1c"])
def test_our_log_likelihoods_are_those_of_whole_texts(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    case = next(case for case in label_scoring.CASES if case.name == name)
    case.prepare(tmp_path, SMALL)
    found = read_prompts(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)

    def log_likelihood(prompt: list[int], answer: list[int]) -> float:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        return float(torch.log_softmax(logits, dim=-1)[range(len(answer)), answer].sum())

    plain = np.array([[log_likelihood(ids, answer) for answer in found["answer_ids"]] for ids in found["ids"]])
    outputs = {
        label_scoring.OURS: our_scoring.setup(tmp_path, {})(),
        label_scoring.PEER: {"scores": plain, "cut_otherwise": np.array(0)},
    }
    assert all(check.ok for check in case.check(tmp_path, outputs))
    floor = case.floor(tmp_path, outputs)
    assert floor is not None
    assert 0 < floor.seconds < 1
    outputs[label_scoring.PEER] = {"scores": plain[:, ::-1] - 0.1, "cut_otherwise": np.array(1)}
    assert not any(check.ok for check in case.check(tmp_path, outputs))


# peft 0.21, which the peer calls directly, asks transformers 5 for an attribute by its old name
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["4a", "4c", "4d"])
def test_both_ways_to_predict_give_the_same_labels(name: str, tmp_path: Path) -> None:
    case = next(case for case in instruction_prediction.CASES if case.name == name)
    case.prepare(tmp_path, SMALL)
    ours, theirs, _ = case.sides
    outputs = {
        ours.name: our_prediction.setup(tmp_path, dict(ours.settings))(),
        theirs.name: generate_and_parse.setup(tmp_path, {"batch_size": 2})(),
    }
    checks = case.check(tmp_path, outputs)
    assert all(check.ok for check in checks), checks
    outputs[ours.name] = outputs[ours.name] | {"labels": np.full(4, instruction_prediction.INVALID)}
    assert [check.ok for check in case.check(tmp_path, outputs)] == [False, False, True]
    floor = case.floor(tmp_path, outputs)
    assert floor is not None
    assert floor.seconds > 0
