"""The model card of a run: ``README.md`` in its directory, with a snippet that loads the model as printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evalsuite.report.markup import escaped, markdown_table
from evalsuite.report.model_index import model_index
from evalsuite.report.text import REFERENCE_COLUMNS, cost_rows, metric_rows, reference_rows
from evalsuite.store import write_text

LIBRARIES = {"adapter": "peft", "model": "transformers"}  # folder of a run -> what loads it

RUN_HERE = "Run in this folder:"
PRIVATE = "the text is private: it is in no file of this folder"


def write_card(directory: Path, results: Mapping[str, Any], snippet: str | None) -> None:
    """Write the card. ``snippet`` is Python that loads the saved model without evalsuite; None where there is none."""
    library = next((name for folder, name in LIBRARIES.items() if (directory / folder).is_dir()), None)
    write_text(directory / "README.md", card(results, snippet, library))


def card(results: Mapping[str, Any], snippet: str | None, library: str | None = None) -> str:
    """The card's text: Markdown under the front matter that model hubs read.

    ``library`` loads what was saved; None where no model was, as with one that a remote endpoint runs.
    """
    parts = [
        f"# {results['method']} on {results['task']}",
        "\n".join(f"> {escaped(line)}  " for line in results["notices"]),
        f"## Result on the {results.get('split', 'test')} split",
        markdown_table(("metric", "value", "95% interval"), metric_rows(results)),
        f"Intervals are percentile bootstrap over the {results.get('split', 'test')} documents: they leave out the "
        "spread over seeds.",
        markdown_table(("cost", "value"), cost_rows(results)),
        *_tuned(results),
        *_compared(results),
        "## Data",
        _data(results),
        "## Labels",
        markdown_table(("label", "precision", "recall", "F1", "support"), _label_rows(results)),
        *_use(snippet),
        "## How it was made",
        "\n".join(f"- {name}: {escaped(str(value))}" for name, value in results["options"]["method"].items()),
        f"- seed: {_seed(results)}\n- evalsuite {results['identity']['code']}, run `{results['run_id']}`",
        _again(results),
    ]
    return _front_matter(results, library) + "\n\n".join(part for part in parts if part) + "\n"


def _again(results: Mapping[str, Any]) -> str:
    if file := results["facts"].get("predictions_file"):
        return f"Made by `evalsuite score` of an outside system's predictions, {escaped(file)}."
    return "Run again: `evalsuite run --config config.yaml` with the `config.yaml` of this folder."


def _compared(results: Mapping[str, Any]) -> list[str]:
    if not (rows := reference_rows(results)):
        return []
    told = "On the same documents, in the same process, each with a decision fitted on the same validation documents."
    return ["## Compared with", told, markdown_table(REFERENCE_COLUMNS, rows)]


def _tuned(results: Mapping[str, Any]) -> list[str]:
    if not (tuning := results.get("tuning")):
        return []
    told = f"Chosen by {tuning['metric']} on validation among {tuning['trials']} trials; test was scored once, after."
    return [
        "## Chosen options",
        told,
        "\n".join(f"- {name}: {escaped(str(value))}" for name, value in tuning["chosen"].items()),
    ]


def _seed(results: Mapping[str, Any]) -> str:
    attempts = results.get("attempts") or [results]
    return str(results["seed"]) + (f", trained with {attempts[-1]['seed']} in the end" if len(attempts) > 1 else "")


def _use(snippet: str | None) -> list[str]:
    if snippet is None:
        return []
    return ["## Use it without evalsuite", RUN_HERE, f"```python\n{snippet.strip()}\n```"]


def _front_matter(results: Mapping[str, Any], library: str | None) -> str:
    data: dict[str, Any] = {"tags": ["text-classification", "evalsuite", results["method"]]}
    if library:
        data |= {
            "base_model": results["model"].partition("@")[0],
            "library_name": library,
            "pipeline_tag": "text-classification",
        }
    data["metrics"] = ["accuracy", "f1"]
    if index := model_index(results):
        data["model-index"] = index
    return "---\n" + yaml.safe_dump(data, sort_keys=False) + "---\n\n"


def _data(results: Mapping[str, Any]) -> str:
    data = results["data"]
    lines = [f"- task: {results['task']}"]
    lines += [f"- {key}: {escaped(data[key])}" for key in ("source", "revision", "licence", "citation") if data[key]]
    lines.append("- documents: " + ", ".join(f"{count:,} {name}" for name, count in data["sizes"].items()))
    lines.append(f"- fingerprint: `{data['fingerprint']}`")
    lines += [f"- {escaped(name)}: {count:,} documents" for name, count in data["findings"].items()]
    if data["private"]:
        lines.append(f"- {PRIVATE}")
    return "\n".join(lines)


def _label_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    def rate(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return [
        (entry["label"], rate(entry["precision"]), rate(entry["recall"]), rate(entry["f1"]), f"{entry['support']:,}")
        for entry in results["metrics"]["labels"]
    ]
