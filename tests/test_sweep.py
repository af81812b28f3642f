"""A sweep file: what it expands to, and what is said of one that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.registry import Registry, build_registry
from evalsuite.report.columns import find_columns
from evalsuite.sweep import Sweep, check, expand, read_sweep, resolve_cell, sweep_names, tuned, tunings

BASE = {"task": "ag_news", "method": "tfidf", "limit": 10}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return build_registry()


def titles(sweep: Sweep) -> list[str]:
    return [cell.title for cell in sweep.cells]


def test_a_grid_is_a_product_and_the_last_key_turns_fastest() -> None:
    sweep = expand("s", {"base": BASE, "grid": {"ngrams": [1, 2], "min_df": [1, 3]}})
    assert titles(sweep) == ["ngrams=1 min_df=1", "ngrams=1 min_df=3", "ngrams=2 min_df=1", "ngrams=2 min_df=3"]
    assert dict(sweep.cells[1].values) == {**BASE, "ngrams": 1, "min_df": 3, "seed": 0}


def test_listed_cells_are_each_combined_with_the_grid() -> None:
    cells = [{"method": "majority"}, {"method": "tfidf", "ngrams": 1}]
    sweep = expand("s", {"base": BASE, "grid": {"limit": [5, 6]}, "cells": cells} | {"base": {"task": "ag_news"}})
    assert titles(sweep) == [
        "method=majority limit=5",
        "method=majority limit=6",
        "method=tfidf ngrams=1 limit=5",
        "method=tfidf ngrams=1 limit=6",
    ]


@pytest.mark.parametrize(("seeds", "expected"), [(2, [0, 1]), ([7, 3], [7, 3]), (None, [0])])
def test_seeds_are_a_list_or_a_count(seeds: Any, expected: list[int]) -> None:
    data = {"base": BASE, "grid": {"ngrams": [1, 2]}, **({"seeds": seeds} if seeds else {})}
    assert [cell.values["seed"] for cell in expand("s", data).cells] == expected * 2


def test_a_cell_may_have_seeds_of_its_own() -> None:
    data = {"base": BASE, "cells": [{"ngrams": 1, "seeds": 1}, {"ngrams": 2}], "seeds": 2}
    assert titles(expand("s", data)) == ["ngrams=1 seed=0", "ngrams=2 seed=0", "ngrams=2 seed=1"]


def test_assignments_stand_in_place_of_the_base() -> None:
    data = {"base": BASE, "grid": {"ngrams": [1]}, "seeds": 3}
    cells = expand("s", data, ["limit=20", "task.data=x.csv", "seeds=1"]).cells
    assert [dict(cell.values) for cell in cells] == [
        {**BASE, "limit": "20", "task.data": "x.csv", "ngrams": 1, "seed": 0}
    ]


def test_a_key_of_one_method_reaches_its_cells_alone() -> None:
    base = {"task": "ag_news", "limit": 10, "tfidf.limit": 20, "tfidf.ngrams": 1}
    cells = expand("s", {"base": base, "cells": [{"method": "majority"}, {"method": "tfidf"}]}).cells
    assert [cell.values["limit"] for cell in cells] == [10, 20]
    assert ["ngrams" in cell.values for cell in cells] == [False, True]


def test_options_in_groups_are_the_same_as_flat_ones(registry: Registry) -> None:
    base = {"task": "ag_news", "method": "tfidf", "task_options": {"clean": True}}
    sweep = expand(
        "s", {"base": base, "cells": [{"task.clean": False}, {"task_options": {"clean": False}, "limit": 5}]}
    )
    assert [resolve_cell(registry, sweep, cell)[0].task_options["clean"] for cell in sweep.cells] == [False, False]


def test_null_asks_for_the_default(registry: Registry) -> None:
    sweep = expand("s", {"base": BASE, "grid": {"template": [None, "plain"]}})
    assert titles(sweep) == ["template=none", "template=plain"]
    assert [resolve_cell(registry, sweep, cell)[0].template for cell in sweep.cells] == [None, "plain"]


def test_names_of_files_tell_cells_apart_however_long() -> None:
    long = "x" * 300
    data = {"base": BASE, "grid": {"task.data": [f"{long}/a", f"{long}/b"]}}
    names = [cell.file_name for cell in expand("s", data).cells]
    assert len(set(names)) == 2
    assert all(len(name) < 100 and "/" not in name for name in names)
    assert names == [
        cell.file_name for cell in expand("s", {"base": BASE, "grid": {"task.data": [f"{long}/a", f"{long}/b"]}}).cells
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {}}, "varies nothing"),
        ({"grid": {"ngrams": []}}, "expands to no cell"),
        ({"grid": {"ngrams": [1]}, "seeds": []}, "expands to no cell"),
        ({"grid": {"ngrams": list(range(101)), "min_df": list(range(100))}}, "10,100 cells; at most 10,000"),
        ({"grid": {"ngrams": 1}}, "ngrams of its grid is 1, expected a list"),
        ({"grid": ["ngrams"]}, "grid holds list"),
        ({"cells": {"ngrams": 1}}, "cells must be a list"),
        ({"cells": ["tfidf"]}, "cells must be a list"),
        ({"grid": {"limit": [5]}}, "limit is varied by its grid and stands in its base too"),
        ({"grid": {"ngrams": [1]}, "cells": [{"ngrams": 2}]}, "ngrams is varied by its grid and stands in its cells"),
        ({"grid": {"seed": [1, 2]}}, "seed stands in its grid; write seeds"),
        ({"grid": {"ngrams": [1, 1]}}, "cell ngrams=1 is there twice"),
        ({"grid": {"ngrams": [1]}, "seeds": "many"}, "seeds is 'many'"),
        ({"grid": {"ngrams": [1]}, "seeds": 0}, "seeds is 0"),
        ({"grid": {"ngrams": [1]}, "seeds": True}, "seeds is True"),
        ({"grid": {"ngrams": [1]}, "sedes": 3}, "unknown key of a sweep file 'sedes'; did you mean seeds"),
        ({"grid": {"ngrams": [1]}, "table": {"row": []}}, "unknown table setting of a sweep file 'row'"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand("s", {"base": BASE, **change})


def test_assignments_may_not_touch_what_is_varied_nor_name_a_strange_method() -> None:
    data = {"base": BASE, "grid": {"ngrams": [1, 2]}}
    with pytest.raises(UsageError, match="ngrams is varied by its grid"):
        expand("s", data, ["ngrams=3"])
    with pytest.raises(UsageError, match="write seeds"):
        expand("s", data, ["seed=3"])
    with pytest.raises(UnknownNameError, match=r"unknown method 'tfdif'; did you mean tfidf\?; tfdif.ngrams stands in"):
        expand("s", data, ["tfdif.ngrams=3"])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            [{"method": "majority"}, {"method": "tfidf", "ngram": 1}],
            "cell method=tfidf ngram=1: unknown option 'ngram'",
        ),
        ([{"method": "tfidff"}], "cell method=tfidff: unknown method 'tfidff'; did you mean tfidf"),
        ([{"method": "tfidf", "ngrams": 99}], "cell method=tfidf ngrams=99: method option 'ngrams': 99 does not fit"),
    ],
)
def test_a_cell_that_could_not_run_is_named(registry: Registry, cells: list[Any], message: str) -> None:
    sweep = expand("s", {"base": {"task": "ag_news"}, "cells": cells})
    with pytest.raises(UsageError, match=message):
        check(registry, sweep)


def test_a_file_is_read_by_its_path_and_an_unknown_name_says_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"about": "of\nall\n", "base": BASE, "grid": {"ngrams": [1]}}), encoding="utf-8")
    sweep = read_sweep(str(path))
    assert (sweep.name, sweep.about, titles(sweep)) == ("mine", "of all", ["ngrams=1"])
    with pytest.raises(UnknownNameError, match="unknown sweep 'poling'; did you mean pooling"):
        read_sweep("poling")
    with pytest.raises(UsageError, match="does not exist"):
        read_sweep(str(tmp_path / "none.yaml"))


# What only the person who runs the sweep knows.
NEEDED = {"distill": ["teacher=runs/some"]}


@pytest.mark.parametrize("name", sweep_names())
def test_every_built_in_sweep_can_run(registry: Registry, name: str) -> None:
    sweep = read_sweep(name, NEEDED.get(name, ()))
    check(registry, sweep)
    assert sweep.about
    assert find_columns([column for column in sweep.table["columns"] if column not in METRICS], [], 0.5)
    assert set(sweep.table["rows"]) <= {key for cell in sweep.cells for key in cell.varied}


METRICS = {"f1_macro", "f1_micro", "accuracy", "precision_micro", "recall_micro", "ece_expected", "brier", "nll"}


TUNE = {"trials": 3, "space": {"tfidf": {"svm_c": [0.1, 1, 10], "ngrams": [1, 2]}}}


def test_trials_are_shared_by_cells_that_differ_in_the_seed_alone() -> None:
    cells = [{"method": "tfidf"}, {"method": "tfidf", "min_df": 1}, {"method": "majority"}]
    base = {"task": "ag_news", "limit": 10, "output_path": "runs/s"}
    sweep = expand("s", {"base": base, "cells": cells, "seeds": [4, 2], "tune": TUNE})
    first, second = tunings(sweep)
    assert [cell.values["seed"] for cell in first.cells] == [4, 2]
    assert second.cells[0].values["min_df"] == 1
    assert first.points == second.points
    assert len({cell.file_name for cell in (*first.trials, *second.trials)}) == 6
    for trial, point in zip(first.trials, first.points, strict=True):
        own = {"task": "ag_news", "method": "tfidf", "seed": 4, "split": "validation"}
        assert dict(trial.values) == {**own, "output_path": "runs/s/trials", **point}
        assert trial.title == " ".join(f"{key}={value}" for key, value in {"method": "tfidf", **point}.items())
    record = {"trials": 3, "chosen": {"svm_c": 10}}
    assert dict(tuned(first.cells[1], record).values) == {**first.cells[1].values, "svm_c": 10, "tuning": record}
    assert tunings(expand("s", {"base": base, "cells": cells})) == []


def test_cells_that_differ_in_the_limit_alone_have_the_same_trials() -> None:
    sweep = expand("s", {"base": {"task": "ag_news", "method": "tfidf"}, "grid": {"limit": [5, 6]}, "tune": TUNE})
    first, second = tunings(sweep)
    assert [dict(trial.values) for trial in first.trials] == [dict(trial.values) for trial in second.trials]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tune": {"trials": 0, "space": {"tfidf": {"svm_c": [1]}}}}, "trials of its tune is 0"),
        ({"tune": {"trials": 1, "space": {"bert": {"epochs": [1]}}}}, "unknown method 'bert'"),
        (
            {"tune": {"trials": 1, "space": {"tfidf": {"ngrams": [1, 2]}}}},
            "ngrams is tuned, and stands in cell ngrams=1",
        ),
        ({"tune": {"trials": 1, "space": {"tfidf": {"method.ngrams": [1, 2]}}}}, "method.ngrams is tuned, and stands"),
        (
            {"tune": {"trials": 9000, "space": {"tfidf": {"svm_c": {"low": 1, "high": 1000000}}}}, "seeds": 2000},
            "11,000 cells and trials; at most 10,000 are allowed: split it",
        ),
    ],
)
def test_a_tuning_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand("s", {"base": BASE, "grid": {"ngrams": [1]}, **change})


def test_a_trial_that_could_not_run_is_named(registry: Registry) -> None:
    for space, message in (
        ({"svm": [1]}, "cell svm=1: unknown option 'svm'"),
        ({"svm_c": [-1]}, "cell svm_c=-1: method option 'svm_c': -1 does not fit"),
    ):
        tune = {"trials": 2, "space": {"tfidf": space}}
        with pytest.raises(UsageError, match=message):
            check(
                registry,
                expand(
                    "s",
                    {"base": BASE, "grid": {"limit": [5]}, "tune": tune}
                    | {"base": {"task": "ag_news", "method": "tfidf"}},
                ),
            )
