"""Hands a run's model to libraries that do not know this one, and makes sure that they get the same answers from it.

A method offers its kinds by ``exports(dtype)``, functions by kind: each writes into an empty folder and returns Python
source that runs there and defines ``score(texts)``, logits [n, k] in label order, or where there are none
``classify(texts)``. The decision (calibration, thresholds) is added here: decision.json, and the code that applies it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.config import validate_options
from evalsuite.contracts import Method, Progress
from evalsuite.decision import Decision
from evalsuite.deliver.export_check import check_texts, compare, run_snippet
from evalsuite.deliver.export_decision import classify_source, decision_json
from evalsuite.errors import ModelError, OptionError, UsageError
from evalsuite.memory import release_memory
from evalsuite.opening import CONFIG, Request, make_context, read_request
from evalsuite.progress import Silent
from evalsuite.registry import Registry, build_registry
from evalsuite.report.card import card
from evalsuite.samples import read_samples, read_texts
from evalsuite.spec import RunResult
from evalsuite.store import open_run, write_json, write_text, writing

KINDS = {"adapter": "peft", "merged": "transformers", "onnx": "onnx"}  # kind -> the library that loads it
DTYPES = ("auto", "float32", "bfloat16", "float16")
DECISION, PROVENANCE = "decision.json", "export.json"


@dataclass(frozen=True)
class Exported:
    """An exported model: its folder, its size in bytes, and how the check in a fresh process ended."""

    folder: Path
    kind: str
    size: int
    check: Mapping[str, Any]


def export_run(
    directory: str | Path,
    kind: str,
    folder: str | Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    plugins: Sequence[str] = (),
    overwrite: bool = False,
) -> Exported:
    """Write the model of a complete run into ``folder`` as ``kind``, one of KINDS, and check it there.

    The folder appears when everything in it is written and checked, and not before. ``overwrite`` replaces an earlier
    export, never another folder.

    Raises:
        UsageError: a kind that this run cannot be exported as, or a folder that exists.
        OptionError: an unknown dtype, or one for a kind that has its own; a run with options of another version.
        StoreError: no complete run, or a folder that cannot be written.
        ModelError: a model that cannot be loaded or written, or that answers otherwise once it is.
    """
    result, folder = open_run(directory), Path(folder)
    _check_request(kind, folder, dtype, overwrite)
    partial = folder.with_name(folder.name + ".partial")
    with writing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            check = _write(result, kind, partial, dtype, device, plugins)
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Exported(folder, kind, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), check)


def _check_request(kind: str, folder: Path, dtype: str, overwrite: bool) -> None:
    if kind not in KINDS:
        raise UsageError(f"unknown kind of export {kind!r}; expected one of {', '.join(KINDS)}")
    if dtype not in DTYPES:
        raise OptionError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if dtype != "auto" and kind != "merged":
        own = "ONNX is written in float32" if kind == "onnx" else "an adapter keeps its own precision"
        raise OptionError(f"--dtype {dtype} goes with --merged alone: {own}; leave it out")
    if kind == "onnx":
        from evalsuite.llm.export.onnx_graph import require_packages

        require_packages()  # before a model is loaded
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / PROVENANCE).is_file():
        raise UsageError(f"{folder} exists and is no export of evalsuite; name a new folder")
    if not overwrite:
        raise UsageError(f"{folder} holds an export already; --overwrite replaces it, or name a new folder")


def _write(
    result: RunResult, kind: str, folder: Path, dtype: str, device: str, plugins: Sequence[str]
) -> dict[str, Any]:
    """Fill ``folder`` and check it; what the check found."""
    results, request = result.results, read_request(result.directory)
    decision = Decision.from_json(results["decision"])
    samples, multilabel = read_samples(result.directory, request.facts.labels), request.facts.multilabel
    texts = check_texts(samples, read_texts(result.directory, samples.hashes), multilabel)
    registry = build_registry([*request.spec.plugins, *plugins])
    if results["facts"].get("predictions_file"):
        raise UsageError(f"{result.directory} was made of an outside system's predictions: there is no model to export")
    method = _open_as_trained(result, request, registry, Silent(), device)
    write = _writer(method, kind, results["method"], dtype)
    expected = method.predict(texts)
    snippet = write(folder) + classify_source(decision)
    del method, write
    release_memory()  # the fresh process loads the model too
    write_json(folder / DECISION, decision_json(decision, request.facts.labels))
    write_text(folder / "README.md", card(results, snippet, KINDS[kind] if results["model"] else None))
    shutil.copyfile(result.directory / CONFIG, folder / CONFIG)  # the card refers to it
    precisions = [str(results["facts"].get("dtype")), dtype]
    check = compare(expected, run_snippet(folder, texts), decision, request.facts.labels, precisions)
    if not check["passed"]:
        raise ModelError(
            f"the exported model does not repeat the run's answers and is not kept: {check}"
            + ("; try --dtype float32" if dtype != "float32" and kind == "merged" else "")
        )
    told = {"kind": kind, "dtype": dtype, "run_id": results["run_id"], "evalsuite": results["identity"]["code"]}
    write_json(folder / PROVENANCE, {**told, "packages": results["environment"]["packages"], "check": check})
    return check


def _open_as_trained(
    result: RunResult, request: Request, registry: Registry, progress: Progress, device: str
) -> Method:
    """The run's method, holding its model as the run did: in 4-bit and in the precision of the machine it ran on.

    Both may have been left to the device, and an adapter belongs on the weights it was trained on.
    """
    spec, facts = request.spec, result.results["facts"]
    method = registry.method(spec.method)
    held = {"load_in_4bit": facts.get("quantised"), "dtype": facts.get("dtype")}
    known = {name: value for name, value in held.items() if value is not None and name in method.config.model_fields}
    options = {**spec.method_options, **known}
    request = replace(request, spec=replace(spec, method_options=options))
    if device == "auto" and known:
        from evalsuite.llm.loading.source import choose_device

        device = choose_device(device)
    context = make_context(request, registry, result.directory, progress, device)
    config = method.config.model_validate(validate_options(method.config, options, "method"))
    return method.load(result.directory, config, context)


def _writer(method: Method, kind: str, name: str, dtype: str) -> Callable[[Path], str]:
    """What writes the model of a method as ``kind``. Raises: UsageError where nothing does."""
    kinds: Mapping[str, Callable[[Path], str]] = method.exports(dtype) if hasattr(method, "exports") else {}
    if not kinds:
        raise UsageError(f"a run of {name!r} has no model to export; evalsuite predict uses it as it is")
    if kind not in kinds:
        raise UsageError(f"this run of {name!r} cannot be exported as {kind}; it can as: {', '.join(kinds)}")
    return kinds[kind]
