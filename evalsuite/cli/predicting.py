"""``predict`` and ``score``: a run's labels for new text, and a run made of somebody else's labels."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import typer

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN, TASK, registry_for

if TYPE_CHECKING:
    from evalsuite.deliver.predict_output import Position

commands = typer.Typer()


@commands.command("predict")
def predict(
    run: str = typer.Argument(help="A run directory."),
    source: str = typer.Argument(metavar="INPUT", help="A CSV, JSON Lines or Parquet file, or - for stdin."),
    output: str = typer.Option(..., "-o", "--output", help="The file to write, or - for stdout."),
    text_column: str = typer.Option("text", "--text-column", help="Column of the text; several: a,b."),
    joiner: str = typer.Option("\n", "--joiner", help="What stands between several columns (default: a line break)."),
    id_column: str = typer.Option(None, "--id-column", help="Column that is copied to the output as id."),
    keep: list[str] = typer.Option(None, "--keep", help="Another column to copy to the output; may be repeated."),
    abstain: float = typer.Option(None, "--abstain", help="Rows whose confidence is under it get no label."),
    input_format: str = typer.Option(None, "--input-format", help="csv, tsv, jsonl or parquet (default: by suffix)."),
    output_format: str = typer.Option(None, "--output-format", help="As --input-format; jsonl on stdout."),
    encoding: str = typer.Option("utf-8", "--encoding", help="Encoding of a text input."),
    chunk_size: int = typer.Option(1_000, "--chunk-size", help="Rows that are predicted and saved at once."),
    device: str = typer.Option("auto", "--device", help="cpu, cuda, cuda:N or auto."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an output that is there already."),
    plugin: list[str] = PLUGIN,
) -> None:
    """Predict new text with a finished run: labels, calibrated probabilities, the run's thresholds.

    Stopped at whatever point, the same command goes on.
    """
    from evalsuite.deliver.predict import Labeller, Settings, predict_file
    from evalsuite.deliver.predict_input import InputColumns
    from evalsuite.opening import read_request
    from evalsuite.store import open_run

    console.show_log()
    result = open_run(run, verify=True)
    columns = InputColumns(tuple(text_column.split(",")), id_column, tuple(dict.fromkeys(keep or ())), joiner)
    settings = Settings(columns, input_format, output_format, encoding, abstain, chunk_size, overwrite)

    def load() -> Labeller:
        registry = registry_for(plugin or read_request(result.directory).spec.plugins)
        return Labeller.open(result, registry, device)

    if result.results["reload_failed"]:
        console.note(f"warning: this run's reload check failed: {result.results['reload_check']}")
    _print_counts(predict_file(result, source, output, settings, load, console.Bars()), output)


def _print_counts(position: Position, output: str) -> None:
    """What came of the rows, on stderr: stdout may be the output itself."""
    console.note(f"{position.rows:,} rows: {_counts(position.status) or 'the input has none'}")
    if position.reasons:
        console.note(f"bad rows, kept without a label: {_counts(position.reasons)}")
    if output != "-":
        console.note(f"output: {output}")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common())


@commands.command("score")
def score(
    predictions: str = typer.Argument(help="A CSV, JSON Lines or Parquet file of ids and labels."),
    task: str = TASK,
    name: str = typer.Option("outside", "--name", help="What the system is called in tables (default: outside)."),
    id_column: str = typer.Option(None, "--id-column", help="Column of document ids, or doc_hash (default: id ...)."),
    label_column: str = typer.Option(None, "--label-column", help="Column of the labels (default: label, labels ...)."),
    assignments: list[str] = typer.Option(None, "--set", help="key=value, for any option of the task or the run."),
    limit: float = typer.Option(None, "--limit", help="Test documents to score: a count, or a share below 1."),
    seed: int = typer.Option(None, "--seed", help="A number that tells repeated answers of one system apart."),
    input_format: str = typer.Option(None, "--input-format", help="csv, tsv, jsonl or parquet (default: by suffix)."),
    encoding: str = typer.Option("utf-8", "--encoding", help="Encoding of a text input."),
    output_path: str = typer.Option(None, "--output-path", help="Folder for run directories (default: runs)."),
    overwrite: str = typer.Option(None, "--overwrite", help="never, missing or always (default: missing)."),
    plugin: list[str] = PLUGIN,
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON on stdout."),
) -> None:
    """Score an outside system's predictions and keep the result as a run, to be compared like any other."""
    from evalsuite.cli.summary import print_result
    from evalsuite.outside import Source, score

    flags = {
        "task": task,
        "limit": limit,
        "seed": seed,
        "output_path": output_path,
        "overwrite": overwrite,
        "plugins": plugin or None,
    }
    source = Source(predictions, input_format, encoding, id_column, label_column)
    result = score(registry_for(plugin), source, name, flags, assignments or ())
    if as_json:
        console.out(json.dumps(dict(result.results), ensure_ascii=False))
        return
    if result.fresh:  # one that was there is introduced by its notices anyway
        for line in result.results["notices"]:
            console.note(line)
    print_result(result)
