"""``evalsuite export``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from evalsuite.cli import console
from evalsuite.cli.running import PLUGIN
from evalsuite.errors import UsageError

commands = typer.Typer()


@commands.command("export")
def export(
    run: str = typer.Argument(..., metavar="RUN", help="The run's directory."),
    adapter: bool = typer.Option(False, "--adapter", help="What was trained, for transformers and peft."),
    merged: bool = typer.Option(False, "--merged", help="One model with every weight, for transformers."),
    onnx: bool = typer.Option(False, "--onnx", help="One graph, for onnxruntime."),
    output: str = typer.Option(..., "-o", "--output", help="The folder to write."),
    dtype: str = typer.Option("auto", "--dtype", help="With --merged: float32, bfloat16, float16 or auto (the run's)."),
    device: str = typer.Option("auto", "--device", help="cpu, cuda, cuda:N or auto."),
    plugin: list[str] = PLUGIN,
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier export."),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Hand a run's model to plain libraries, checked where evalsuite cannot be imported.

    The folder's README shows how it is used there.
    """
    asked = {"adapter": adapter, "merged": merged, "onnx": onnx}
    kinds = [kind for kind, wanted in asked.items() if wanted]
    if len(kinds) != 1:
        raise UsageError(f"name one of --adapter, --merged and --onnx, not {' and '.join(kinds) or 'none'}")
    from evalsuite.deliver.export import export_run

    console.show_log()
    made = export_run(run, kinds[0], output, dtype=dtype, device=device, plugins=plugin or (), overwrite=overwrite)
    if as_json:
        console.out(json.dumps({**asdict(made), "folder": str(made.folder)}))
        return
    check = made.check
    logits = check["largest_logit_difference"]
    differ = "" if logits is None else f", logits differ by at most {logits:.2g}"
    console.out(f"{made.kind}: {made.size / 1e6:,.1f} MB in {made.folder}, see {made.folder / 'README.md'}")
    same = check["documents"] - check["labels_differ"]
    console.out(f"checked without evalsuite: {same} of {check['documents']} documents get the same labels{differ}")
