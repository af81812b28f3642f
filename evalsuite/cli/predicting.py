"""``predict`` and ``score``: a run's labels for new text, and a run made of somebody else's labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN, registry_for

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
    from evalsuite.deliver.predict import InputColumns, Labeller, Settings, predict_file
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
