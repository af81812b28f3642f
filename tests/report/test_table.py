"""Tables of finished runs: who shares a row, what its numbers are, and how they look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from evalsuite.errors import UnknownNameError, UsageError
from evalsuite.metrics import Bootstrap, evaluate
from evalsuite.report.columns import amount, columns_of, interval, look_up
from evalsuite.report.grouping import Group, group_runs, row_fields
from evalsuite.report.table import Settings, Table, make_table, markdown
from evalsuite.samples import Samples, write_samples
from evalsuite.spec import RunResult

LABELS = ("a", "b", "c")
N = 200


def one_hot(classes: Any) -> Any:
    return np.eye(len(LABELS), dtype=bool)[classes]


GOLD = np.random.default_rng(0).integers(0, 3, N)


def predictions(seed: int, right: float = 0.7) -> Any:
    dice = np.random.default_rng(seed)
    return np.where(dice.random(N) < right, GOLD, dice.integers(0, 3, N))


def run(
    folder: Path, seed: int = 0, classes: Any = None, finished: str = "2026-01-02T00:00:00", **changes: Any
) -> RunResult:
    """A finished run as the table reads it; ``changes`` are options of the method, or whole parts by their names."""
    classes = predictions(seed) if classes is None else classes
    status = changes.pop("status", ["ok"] * N)
    documents = changes.pop("documents", [f"{row:016x}" for row in range(N)])
    parts = {name: changes.pop(name) for name in ("facts", "calibration", "collapse", "references") if name in changes}
    task, method = changes.pop("task", "words"), changes.pop("method", "net")
    bootstrap = Bootstrap(resamples=2000)
    report = evaluate(one_hot(GOLD), one_hot(classes), None, status, multilabel=False, bootstrap=bootstrap)
    folder = folder / f"{task}-{method}-{seed}-{len(list(folder.iterdir())) if folder.exists() else 0}"
    folder.mkdir(parents=True)
    samples = Samples(
        tuple(map(str, range(N))), tuple(documents), one_hot(GOLD), one_hot(classes), None, tuple(status), LABELS
    )
    write_samples(folder, task, samples, None, None)
    phase = {"seconds": 10.0 + seed, "documents_per_second": 100.0 * (seed + 1)}
    results = {
        "task": task,
        "method": method,
        "seed": seed,
        "primary_metric": "f1_macro",
        "labels": list(LABELS),
        "prompt": None,
        "metrics": {
            "counts": dict(report.counts),
            "summary": {
                name: {"value": value, "interval": report.intervals.get(name)} for name, value in report.values.items()
            },
        },
        "parameters": {"trainable": 12345, "total": 1e6},
        "cost": {"train": phase, "predict": phase, "peak_memory_bytes": {"cpu": 3 * 2**20, "gpu": None}},
        "data": {"sizes": {"test": N}, "synthetic": False},
        "identity": {
            "task": task,
            "method": method,
            "seed": seed,
            "limit": None,
            "method_options": changes,
            "decision_options": {"threshold": "tuned"},
        },
        "options": {"task": {}, "method": changes},
        "environment": {"evalsuite": "0.1.0"},
        "finished": finished,
        "facts": {},
        **parts,
    }
    return RunResult(folder, results, fresh=False)


def column(table: Table, name: str) -> list[str]:
    return [row[table.main.columns.index(name)] for row in table.main.rows]


def group(runs: Sequence[RunResult]) -> Group:
    (only,), _ = group_runs(runs)
    return only


def test_runs_that_differ_in_the_seed_alone_share_a_row(tmp_path: Path) -> None:
    runs = [run(tmp_path, seed, pooling=pooling) for seed in range(3) for pooling in ("mean", "last")]
    table = make_table(runs, Settings(columns=["f1_macro", "sd", "lowest", "highest", "train", "predict", "trainable"]))
    assert table.main.columns[:2] == ["pooling", "seeds"]
    assert (column(table, "pooling"), column(table, "seeds")) == (["last", "mean"], ["3", "3"])
    scores = [f1_score(GOLD, predictions(seed), average="macro") for seed in range(3)]
    assert column(table, "f1_macro") == [f"{np.mean(scores):.3f}"] * 2
    assert column(table, "sd") == [f"{np.std(scores, ddof=1):.3f}"] * 2
    assert column(table, "lowest") == [f"{min(scores):.3f}"] * 2
    assert column(table, "highest") == [f"{max(scores):.3f}"] * 2
    assert column(table, "train")[0] == "11 s"
    assert column(table, "predict")[0] == "200 docs/s"
    assert column(table, "trainable")[0] == "12,345"


def test_rows_that_would_look_alike_are_told_apart(tmp_path: Path) -> None:
    """A folder that holds more than what was asked for must not average unlike runs."""
    runs = [run(tmp_path, 0, pooling="mean", rank=rank, alpha=2 * rank) for rank in (32, 4)]
    table = make_table(runs, Settings(rows=["pooling"]))
    assert table.main.columns[:3] == ["pooling", "rank", "seeds"]
    assert column(table, "rank") == ["4", "32"]


def test_what_a_method_adds_to_a_runs_identity_tells_rows_apart(tmp_path: Path) -> None:
    """Two students of two teachers share all options: where the teacher lies is none that counts."""
    runs = [run(tmp_path, 0), run(tmp_path, 0)]
    for entry, teacher in zip(runs, ("first", "second"), strict=True):
        entry.results["identity"]["more"] = {"teacher": teacher}
    table = make_table(runs)
    assert (table.superseded, column(table, "teacher")) == (0, ["first", "second"])


def test_rows_stand_in_the_order_of_the_sweep(tmp_path: Path) -> None:
    runs = [run(tmp_path, 0, pooling=pooling) for pooling in ("attention", "last", "max", "mean")]
    table = make_table(runs, Settings(order={"pooling": ["mean", "max", "attention"]}))
    assert column(table, "pooling") == ["last", "mean", "max", "attention"]


def test_of_two_runs_with_the_same_options_and_seed_the_newer_counts(tmp_path: Path) -> None:
    old = run(tmp_path, 0, predictions(5, right=0.1), "2026-01-01")
    new = run(tmp_path, 0, finished="2026-01-03")
    for runs in ([old, new], [new, old]):
        table = make_table(runs)
        assert table.superseded == 1
        assert table.main.values[0]["runs"] == [str(new.directory)]


def test_a_named_row_that_no_run_has_is_refused(tmp_path: Path) -> None:
    groups, _ = group_runs([run(tmp_path, pooling="mean"), run(tmp_path, pooling="last")])
    with pytest.raises(UsageError, match="no run has an option 'poolin'; options that differ: pooling"):
        row_fields(groups, ["poolin"])


def test_runs_of_different_test_documents_share_no_row(tmp_path: Path) -> None:
    other = [f"{row:016x}" for row in range(1, N + 1)]
    runs = [run(tmp_path, 0), run(tmp_path, 1, documents=other)]
    with pytest.raises(UsageError, match=r"scored other documents \(200 and 200\): document 1 is "):
        make_table(runs, Settings(columns=["f1_macro"]))


def test_labels_in_another_order_share_no_row(tmp_path: Path) -> None:
    first, second = run(tmp_path, 0), run(tmp_path, 1)
    turned = RunResult(second.directory, {**second.results, "labels": ["b", "a", "c"]})
    with pytest.raises(UsageError, match="other labels, or in another order"):
        make_table([first, turned])


def test_a_single_run_has_its_own_interval(tmp_path: Path) -> None:
    only = run(tmp_path)
    assert interval(group([only])) == only.results["metrics"]["summary"]["f1_macro"]["interval"]


def test_documents_are_drawn_jointly_for_all_seeds(tmp_path: Path) -> None:
    """Runs that are alike say nothing more than one of them; drawn apart they would seem to."""
    one = run(tmp_path, 0)
    alike = [run(tmp_path, seed, predictions(0)) for seed in range(4)]
    low, high = one.results["metrics"]["summary"]["f1_macro"]["interval"]
    assert interval(group(alike)) == pytest.approx([low, high], abs=0.004)


def test_the_interval_over_seeds_is_the_plain_bootstrap(tmp_path: Path) -> None:
    runs = [run(tmp_path, seed, predictions(seed, right=0.3 + 0.2 * seed)) for seed in range(3)]
    dice, drawn = np.random.default_rng(1), []
    for _ in range(1000):
        rows = dice.integers(0, N, N)
        drawn.append(
            np.mean(
                [f1_score(GOLD[rows], predictions(s, right=0.3 + 0.2 * s)[rows], average="macro") for s in range(3)]
            )
        )
    assert interval(group(runs)) == pytest.approx(list(np.quantile(drawn, [0.025, 0.975])), abs=0.008)


def test_a_failed_document_is_no_wrong_answer(tmp_path: Path) -> None:
    """In one run of two a quarter failed; were they wrong answers, accuracy would be a quarter lower."""
    states = ["failed" if row % 4 == 0 else "ok" for row in range(N)]
    runs = [run(tmp_path, seed, GOLD, status=states if seed else ["ok"] * N) for seed in range(2)]
    for entry in runs:
        entry.results["primary_metric"] = "accuracy"  # type: ignore[index]
    assert interval(group(runs)) == [1.0, 1.0]


def test_a_metric_of_a_plugin_has_no_interval_over_seeds(tmp_path: Path) -> None:
    runs = [run(tmp_path, seed) for seed in range(2)]
    for entry in runs:
        entry.results["primary_metric"] = "hit_any"  # type: ignore[index]
        entry.results["metrics"]["summary"]["hit_any"] = {"value": 0.5, "interval": None}
    table = make_table(runs, Settings(columns=["hit_any", "interval"]))
    assert (column(table, "hit_any"), column(table, "interval")) == (["0.500"], ["-"])


def test_epochs_until_a_score_is_reached(tmp_path: Path) -> None:
    curves = ([(10, 0.2), (20, 0.6), (30, 0.7)], [(10, 0.6), (20, 0.5), (30, 0.4)], [(10, 0.1), (20, 0.1), (30, 0.1)])
    runs = [
        run(tmp_path, seed, facts={"validation_curve": curve, "steps": 30, "epochs": 3.0})
        for seed, curve in enumerate(curves)
    ]
    settings = Settings(columns=["epochs_to"], reach=0.6)
    assert column(make_table(runs, settings), "epochs_to") == ["1.5 (2 of 3)"]
    assert column(make_table(runs[2:], settings), "epochs_to") == ["- (0 of 1)"]
    assert column(make_table([run(tmp_path, 7)], settings), "epochs_to") == ["-"]
    with pytest.raises(UsageError, match="which score is to be reached"):
        make_table(runs, Settings(columns=["epochs_to"]))


def test_what_runs_say_of_collapse_calibration_teacher_and_layer(tmp_path: Path) -> None:
    def parts(seed: int) -> dict[str, Any]:
        return {
            "collapse": {"collapsed": seed == 0},
            "calibration": {"before": {"ece": 0.2, "brier": 0.5}, "after": {"ece": 0.1 * seed, "brier": None}},
            "references": {
                "teacher": {
                    "metrics": {"f1_macro": {"value": 0.8, "interval": None}},
                    "ratios": {"primary": 0.9 + 0.05 * seed, "speed": 2.0 + seed},
                }
            },
            "facts": {"layer": 3 + seed, "speed_gain": 1.5, "truncated_share": 0.25, "steps": 10 * (seed + 1)},
        }

    names = ["collapsed", "ece_before", "ece_after", "brier_after", "kept", "speedup", "layer_used", "speed_gain"]
    names += ["truncated", "memory", "facts.steps", "references.teacher.f1_macro", "facts.nothing"]
    table = make_table([run(tmp_path, seed, **parts(seed)) for seed in range(2)], Settings(columns=names))
    shown = dict(zip(table.main.columns, table.main.rows[0], strict=True))
    assert [shown[name] for name in names] == [
        *("1 of 2", "0.200", "0.050", "-", "0.925", "2.5", "3, 4", "1.5", "25.0%", "3 MiB", "15", "0.8", "-")
    ]


def test_a_column_where_no_run_has_it_is_a_dash(tmp_path: Path) -> None:
    names = ["sd", "ece", "ece_before", "collapsed", "kept", "layer_used", "truncated"]
    table = make_table([run(tmp_path)], Settings(columns=names))
    assert [column(table, name) for name in names] == [["-"]] * len(names)


def test_an_unknown_column_says_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown column 'trainabel'; did you mean trainable"):
        make_table([run(tmp_path)], Settings(columns=["trainabel"]))


def test_the_spread_over_verbalizers(tmp_path: Path) -> None:
    """Mean, worst and best of the seed means, for each setting of the other rows."""
    shares = {"plain": 0.9, "letters": 0.4, "listed": 0.7}
    runs = [
        run(tmp_path, seed, predictions(seed, right), verbalizer=name, method=method)
        for seed in range(2)
        for name, right in shares.items()
        for method in ("net", "other")
    ]
    table = make_table(runs, Settings(rows=["method", "verbalizer"], spread="verbalizer"))
    assert table.spread is not None
    means = {
        name: np.mean([f1_score(GOLD, predictions(seed, right), average="macro") for seed in range(2)])
        for name, right in shares.items()
    }
    ends = [f"{means['letters']:.3f} (letters)", f"{means['plain']:.3f} (plain)"]
    expected = ["3", f"{np.mean(list(means.values())):.3f}", *ends]
    assert table.spread.columns == ["method", "values of verbalizer", "mean", "worst", "best"]
    assert table.spread.rows == [["net", *expected], ["other", *expected]]
    with pytest.raises(UsageError, match="spread over 'rank': the rows do not differ in it"):
        make_table(runs, Settings(spread="rank"))


def test_markdown_says_what_it_comes_from_and_stays_the_same(tmp_path: Path) -> None:
    runs = [run(tmp_path, seed, name=name) for seed in range(2) for name in ("a|b", "<b>")]
    settings = Settings(columns=["f1_macro"])
    text = markdown(make_table(runs, settings), "evalsuite table x --markdown", "What it is.")
    lines = text.split("\n")
    assert lines[0] == (
        "Printed by `evalsuite table x --markdown` from 4 runs of evalsuite 0.1.0, 2026-01-02, "
        "on 200 test documents of words."
    )
    assert lines[2] == "What it is."
    assert lines[4:6] == ["| name | seeds | f1_macro |", "| --- | ---: | ---: |"]
    assert [line.split(" | ")[0] for line in lines[6:]] == ["| &lt;b>", "| a\\|b"]
    assert text == markdown(make_table(runs[::-1], settings), "evalsuite table x --markdown", "What it is.")


def test_runs_without_all_answers_are_told(tmp_path: Path) -> None:
    runs = [run(tmp_path, seed) for seed in range(2)]
    runs[1].results["incomplete"] = True  # type: ignore[index]
    assert make_table(runs).origin.startswith("2 runs (1 incomplete: documents without an answer) of evalsuite 0.1.0")


def test_the_values_behind_the_text_are_plain_data(tmp_path: Path) -> None:
    table = make_table([run(tmp_path, seed) for seed in range(2)])
    (row,) = json.loads(json.dumps(table.main.values))
    assert row["seeds"] == 2
    assert row["interval"][0] < row["f1_macro"] < row["interval"][1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (3.0, "3")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert amount(value) == text


def test_a_dotted_path_reaches_within() -> None:
    results = {
        "facts": {"a": {"b": 1}},
        "references": {"gold": {"metrics": {"m": {"value": 2}}, "ratios": {"speed": 3}}},
    }
    assert look_up(results, "facts.a.b") == 1
    assert look_up(results, "references.gold.m") == 2
    assert look_up(results, "references.gold.speed") == 3
    assert look_up(results, "references.gold.nothing") is None
    assert look_up(results, "facts.a.b.c") is None


def test_every_column_is_in_the_guide() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    assert [name for name in columns_of() if f"`{name}`" not in guide] == []
