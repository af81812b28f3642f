"""Rows 2 and 5 at a tiny size, both sides in this process: their checks hold, and see a side that strays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig

from benchmarks import embedding_prediction, embedding_training
from benchmarks.floors import forward_flops, one_token_flops, reading_flops, without_top_layer
from benchmarks.harness import Options, Outputs
from benchmarks.ours import embedding_prediction as predicting
from benchmarks.ours import embedding_training as training
from benchmarks.peers import classification_pipeline, trainer_classifier

# plain peft asks transformers 5 for an attribute by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SMALL = Options(rounds=1, small=True)
EXACT: dict[str, Any] = {**embedding_training.CASES[1].sides[0].settings}  # without dropout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outputs]]:
    """The sides of row 2 without dropout; the peer's best reads two documents at once."""
    job = tmp_path_factory.mktemp("row-2")
    embedding_training.prepare(job, SMALL)
    found = {
        embedding_training.OURS: training.setup(job, EXACT),
        embedding_training.DEFAULTS: trainer_classifier.setup(job, {**EXACT, "device_batch": 8, "defaults": True}),
        embedding_training.BEST: trainer_classifier.setup(job, {**EXACT, "device_batch": 2}),
    }
    return job, {name: work() for name, work in found.items()}


def test_training_is_the_trainers(trained: tuple[Path, dict[str, Outputs]]) -> None:
    job, outputs = trained
    for exact in (True, False):
        assert all(one.ok for one in embedding_training.check(job, outputs, exact))
    assert embedding_training.floor(job, outputs).seconds > 0


@pytest.mark.parametrize("key", ["before", "losses", "adapter", "steps"])
def test_training_that_strays_is_seen(trained: tuple[Path, dict[str, Outputs]], key: str) -> None:
    job, outputs = trained
    ours = outputs[embedding_training.OURS]
    wrong = {**outputs, embedding_training.OURS: {**ours, key: ours[key] + 1}}
    assert not all(one.ok for one in embedding_training.check(job, wrong, exact=True))


def test_a_round_begins_where_the_first_began(trained: tuple[Path, dict[str, Outputs]]) -> None:
    job, outputs = trained
    work = training.setup(job, EXACT)
    for _ in range(2):
        np.testing.assert_array_equal(work()["losses"], outputs[embedding_training.OURS]["losses"])


@pytest.mark.parametrize("own_shape", [False, True])
def test_predictions_are_the_pipelines(tmp_path: Path, own_shape: bool) -> None:
    corpus, model = ("patents", embedding_prediction.own_model) if own_shape else ("ag_news", None)
    embedding_prediction.prepare(corpus, 16, model, tmp_path, SMALL)
    outputs = {
        embedding_prediction.OURS: predicting.setup(tmp_path, {})(),
        embedding_prediction.DEFAULTS: classification_pipeline.setup(tmp_path, {})(),
        embedding_prediction.BEST: classification_pipeline.setup(tmp_path, {"batch_size": 4})(),
    }
    assert all(one.ok for one in embedding_prediction.check(tmp_path, outputs))
    assert embedding_prediction.floor(tmp_path, outputs).seconds > 0
    ours = outputs[embedding_prediction.OURS]
    wrong = {**outputs, embedding_prediction.OURS: {**ours, "logits": ours["logits"][:, ::-1]}}
    assert not all(one.ok for one in embedding_prediction.check(tmp_path, wrong))


def test_a_layer_that_is_read_at_one_token_of_one_is_a_whole_layer() -> None:
    shape = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2
    )
    assert one_token_flops(shape, [1, 1]) == forward_flops(shape, [1, 1])
    assert one_token_flops(shape, [9]) < forward_flops(shape, [9])
    assert forward_flops(without_top_layer(shape), [9]) == 0


@pytest.mark.parametrize("context", [0, 5])
def test_reading_for_one_token_costs_a_whole_pass_where_that_is_all(context: int) -> None:
    shape = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2
    )
    whole = forward_flops(shape, [1, 1], context=context)
    assert reading_flops(shape, [1, 1], context=context) == whole
    keys_and_values = 2 * 2 * 64 * 32 * 2
    lower = forward_flops(without_top_layer(shape), [1, 1], context=context)
    assert reading_flops(shape, [1, 1], context=context, wanted=0) == lower + keys_and_values
