"""The grid at both scales: every cell resolves, stand-ins take their places, and what is absent says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import UnknownNameError
from evalsuite.registry import build_registry
from evalsuite.reproduce import grid
from evalsuite.reproduce.grid import NO_ENCODER, Request, make_plan
from evalsuite.sweep import check, resolve_cell

HOSTED = {"hosted": "openai/any"}


def options_of(request: Request, name: str) -> tuple[Any, dict[str, Any]]:
    """The method's options of a system's first cell, checked, and the run's other fields."""
    registry, plan = build_registry(), make_plan(request)
    system = plan.paper.systems[name]
    spec, _, method = resolve_cell(registry, plan.grids[system.corpus].sweep, plan.cells(system)[0])
    return method.config.model_validate(spec.method_options), spec.to_dict()


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_cell_resolves(scale: str) -> None:
    plan = make_plan(Request(scale, models=HOSTED, encoder="somewhere", data={"clv": "t.csv", "wipo": "tree"}))
    assert {name: len(each.sweep.cells) for name, each in plan.grids.items()} == (
        {"clv": 9, "wipo": 7, "ag_news": 12} if scale == "paper" else {"clv": 8, "wipo": 7, "ag_news": 12}
    )
    for each in plan.grids.values():
        check(build_registry(), each.sweep)


def test_the_papers_scale_has_its_models_ranks_and_four_bits() -> None:
    request = Request("paper", data={"clv": "patents.csv"})
    embedding, run = options_of(request, "clv-embedding")
    assert (embedding.model, embedding.lora_r, embedding.load_in_4bit) == ("meta-llama/Llama-3.2-3B", 8, True)
    assert (embedding.pooling, embedding.head_init, run["preset"]) == ("last", "random", "paper")
    assert (run["task_options"]["data"], run["limit"], run["train_limit"]) == ("patents.csv", None, None)
    instruction, _ = options_of(request, "wipo-instruction")
    assert (instruction.model, instruction.lora_r, instruction.load_in_4bit) == ("mistralai/Mistral-7B-v0.3", 64, True)
    assert options_of(request, "clv-bert")[0].adaptation == "full"
    frozen, _ = options_of(request, "wipo-frozen")
    assert (frozen.bidirectional, frozen.pooling, frozen.load_in_4bit) == (True, "mean", True)
    assert options_of(request, "ag_news-bert")[1]["task_options"]["data"] == "hub"


def test_the_papers_trainable_parameters_come_of_its_cells(tmp_path: Path) -> None:
    from evalsuite.llm.loading.shapes import write_shape
    from evalsuite.llm.training.footprint import estimate

    folders = {shape: str(write_shape(shape, tmp_path / shape)) for shape in ("llama-3.2-3b", "mistral-7b")}
    models = {
        "meta-llama/Llama-3.2-3B": folders["llama-3.2-3b"],
        "mistralai/Mistral-7B-v0.3": folders["mistral-7b"],
    }
    request = Request("paper", data={"clv": "patents.csv"}, models=models)
    for name, labels, trainable in (("clv-embedding", 5, 12_172_288), ("clv-instruction", None, 167_772_160)):
        options, _ = options_of(request, name)
        found = estimate(options, options, options, "cuda", labels)
        assert found.trainable_parameters == trainable
        assert found.memory_bytes < 24 * 2**30


def test_the_rehearsal_takes_samples_and_small_models() -> None:
    request = Request(encoder="/models/minilm")
    instruction, run = options_of(request, "clv-instruction")
    assert (instruction.model, instruction.lora_r, run["preset"]) == ("bundled", 64, "bundled")
    assert run["task_options"]["data"] == ""
    assert run["limit"] <= 100 and run["train_limit"] <= 200  # noqa: PT018 - one statement: it is small
    assert options_of(request, "clv-embedding")[0].head_init == "random"
    assert options_of(request, "wipo-bert")[0].model == "/models/minilm"


def test_two_encoders_of_the_paper_with_one_stand_in_share_a_cell() -> None:
    plan = make_plan(Request(encoder="/models/minilm"))
    cells = [plan.cells(plan.paper.systems[name]) for name in ("clv-bert", "clv-modernbert")]
    assert cells[0] == cells[1]
    assert len(cells[0]) == 1


def test_without_an_encoder_its_systems_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "packaged_encoder", lambda: None)
    plan = make_plan(Request())
    absent = {system.name for system in plan.systems if plan.absence(system) == NO_ENCODER}
    assert absent == {"clv-bert", "clv-modernbert", "clv-distill", "wipo-bert", "ag_news-bert"}
    assert not any(plan.cells(plan.paper.systems[name]) for name in absent)


def test_what_is_not_to_be_had_says_why() -> None:
    plan = make_plan(Request("paper"))
    reasons = {system.name: plan.absence(system) for system in plan.systems}
    assert "--data clv=FILE" in reasons["clv-embedding"]
    assert "--data wipo=FOLDER" in reasons["wipo-bert"]
    assert reasons["ag_news-embedding"] == ""
    assert "[CLS]" in reasons["wipo-embedding-cls"]
    named = make_plan(Request("paper", data={"clv": "t.csv"}))
    assert "no endpoint" in named.absence(named.paper.systems["clv-hosted"])
    assert named.absence(named.paper.systems["clv-embedding"]) == ""
    assert make_plan(Request(models=HOSTED)).cells(plan.paper.systems["clv-hosted"])[0].values["model"] == "openai/any"


def test_the_student_has_the_embedding_head_for_its_teacher() -> None:
    plan = make_plan(Request(encoder="/models/minilm"))
    cells = [cell for each in plan.grids.values() for cell in each.sweep.cells]
    taught = [(cell.values["method"], teacher.name) for cell in cells if (teacher := plan.teacher(cell))]
    assert taught == [("distill", "clv-embedding")]


def test_assignments_stand_over_the_scale_and_speak_of_all_corpora() -> None:
    plan = make_plan(Request(assignments=["train_limit=30", "seeds=2", "distill.epochs=2", "frozen.c=1"], encoder="x"))
    assert {name: len(each.sweep.cells) for name, each in plan.grids.items()} == {"clv": 14, "wipo": 14, "ag_news": 24}
    cell = plan.cells(plan.paper.systems["clv-distill"])[0]
    assert (cell.values["train_limit"], cell.values["epochs"]) == ("30", "2")
    with pytest.raises(UnknownNameError, match="unknown method 'frozn'"):
        make_plan(Request(assignments=["frozn.c=1"]))


def test_runs_of_both_scales_and_of_every_corpus_have_folders_of_their_own() -> None:
    plans = [make_plan(Request(scale, output_path="here")) for scale in ("small", "paper")]
    folders = [str(each.folder) for plan in plans for each in plan.grids.values()]
    assert len(set(folders)) == 6
    assert "here/small/clv" in folders


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(scale="tiny"), "unknown scale 'tiny'"),
        (Request(only=("wpio",)), "unknown corpus 'wpio'.*wipo"),
        (Request(data={"agnews": "hub"}), "unknown corpus 'agnews'.*ag_news"),
        (Request(models={"meta-llama/Llama-3-3B": "x"}), "unknown model of the grid.*meta-llama/Llama-3.2-3B"),
    ],
)
def test_misspelt_names_are_refused_with_the_nearest(request_: Request, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        make_plan(request_)
