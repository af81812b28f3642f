"""What a GPU does: shares of its measured matrix rate in training, documents a second in prediction, rows 1 to 6.

Work: the shapes of Llama-3.2-1B and 3B (``evalsuite.llm.loading.shapes``) with random weights; documents of 30 to 512
tokens; LoRA r = 8 on all linear layers, bf16 or the base in NF4, nothing recomputed. Training is timed over an epoch
after one that warms up, prediction over the documents after a first pass.

Share of the peak: the operations of ``training_flops``, of real tokens alone and of nothing that is done twice, over
the rate of a bf16 matrix product of 8,192 by 8,192 measured in the same process. Padding, recomputation and whatever
the last layer does for nobody count as waste.

``--rows`` measures rows 1 to 6 beside their peers instead (see ``gpu_rows``), ``--case`` some of them. On a machine
without a GPU only ``--small`` runs: tiny shapes on the CPU, to see that it works.

    python -m benchmarks.gpu --data DIR
    python -m benchmarks.gpu --rows --data DIR
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig
from transformers.utils.logging import disable_progress_bar

from benchmarks import embedding_training, gpu_rows, instruction_training
from benchmarks.commands import RESULTS, Chosen, Data, Out, Rounds, Small, provenance
from benchmarks.commands import run as run_cases
from benchmarks.floors import matmul_rate, training_flops
from benchmarks.gpu_rows import DOCUMENTS, LARGER, SMALLER, shaped
from benchmarks.harness import Options
from benchmarks.ours import embedding_training as embedding
from benchmarks.ours import instruction_training as instruction

SHAPES, TINY = (SMALLER, LARGER), "tiny"
TARGETS = {False: 0.5, True: 0.4}  # share of the peak, by whether the base is in 4-bit
# Documents a second on a 24 GB card that arXiv 2512.12677 reports: the 3B embedding head, the 7B instruction model
PAPER = {"embedding": 1.88, "instruction": 0.23}
NOT_TAKEN = "No GPU is at hand: its figures are not yet taken."


@dataclass(frozen=True)
class Figure:
    """One measurement. ``share`` of the measured matrix rate and its ``target`` are of training alone."""

    work: str
    shape: str
    precision: str
    documents_per_second: float
    tokens_per_second: float
    peak_bytes: int
    share: float | None = None
    target: float | None = None
    paper: float | None = None


def training(job: Path, method: str, shape: str, in_4bit: bool, device: str, rate: float) -> Figure:
    """An epoch of a method's training, after one that warms up."""
    where = {"device": device, "dtype": "bfloat16" if device == "cuda" else "float32", "load_in_4bit": in_4bit}
    setup = embedding.setup if method == "embedding" else instruction.setup
    work = setup(job, {**where, "batch_size": 16, "learning_rate": 2e-4, "dropout": 0.0, "token_budget": 8192})
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    lengths = [len(ids) + (len(answer) - 1 if method == "instruction" else 0) for ids, answer in items]
    logits = sum(len(answer) for _, answer in items) if method == "instruction" else 0
    seconds = timed(work, device)
    flops = training_flops(AutoConfig.from_pretrained(job / "model"), lengths, logits)
    return Figure(
        f"training, {method}",
        shape,
        "NF4" if in_4bit else ("bf16" if device == "cuda" else "float32"),
        len(items) / seconds,
        sum(lengths) / seconds,
        torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        flops / seconds / rate,
        None if shape == TINY else TARGETS[in_4bit],
    )


def prediction(job: Path, method: str, shape: str, device: str) -> Figure:
    """Labels of all documents: the embedding head's logits, or the likelihoods of 14 answers, exact and in one pass."""
    items = json.loads((job / "items.json").read_text(encoding="utf-8"))
    prompts = [ids for ids, _ in items]
    work = (classify if method == "embedding" else score_labels)(job, items, device)
    seconds = timed(work, device)
    return Figure(
        f"prediction, {method}",
        shape,
        "bf16" if device == "cuda" else "float32",
        len(items) / seconds,
        sum(map(len, prompts)) / seconds,
        torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        paper=PAPER[method] if shape == "llama-3.2-3b" else None,
    )


def classify(job: Path, items: list[Any], device: str) -> Callable[[], object]:
    """The embedding method's prediction."""
    from evalsuite.contracts import RunContext
    from evalsuite.llm.batching import Encoded
    from evalsuite.llm.classifier import TextClassifier
    from evalsuite.llm.loading.backbone import load_sequence_classifier
    from evalsuite.progress import Silent

    labels = tuple(json.loads((job / "labels.json").read_text(encoding="utf-8")))
    options = embedding.Sizes(model=str(job / "model"), load_in_4bit=False)
    backbone = load_sequence_classifier(options, labels, False, device)
    classifier = TextClassifier(
        backbone, RunContext("gpu", labels, False, 0, device, job, job, Silent()), options, "last"
    )
    return lambda: classifier.logits(Encoded.of((ids, False) for ids, _ in items))


def score_labels(job: Path, items: list[Any], device: str) -> Callable[[], object]:
    """The instruction method's prediction."""
    from evalsuite.llm.answers.label_scoring import LabelScorer
    from evalsuite.llm.loading.backbone import load_causal_lm
    from evalsuite.llm.options import ModelOptions

    backbone = load_causal_lm(ModelOptions(model=str(job / "model"), load_in_4bit=False), device)
    prompts = [prompt for prompt, _ in items]
    answers = sorted({tuple(answer) for _, answer in items})
    scorer = LabelScorer(backbone, [list(answer) for answer in answers], max_length=max(map(len, prompts)))
    return lambda: scorer.score(prompts)


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds of the work done a second time."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def write_job(job: Path, method: str, shape: str, options: Options) -> None:
    """The model of a shape, the method's documents as token ids and its first adapter."""
    row = embedding_training if method == "embedding" else instruction_training
    row.prepare(job, options, shaped(shape), DOCUMENTS)


def measured(options: Options, device: str, say: Callable[[str], None]) -> list[Figure]:
    """Every figure, one model in memory at a time."""
    size = 512 if options.small else 8192
    rate = matmul_rate(torch.bfloat16 if device == "cuda" else torch.float32, device, size)
    say(f"matrix product of {size}: {rate / 1e12:.1f} TFLOP/s")
    figures = []
    for shape in (TINY,) if options.small else SHAPES:
        for method in ("embedding", "instruction"):
            with tempfile.TemporaryDirectory(prefix="evalsuite-gpu-") as folder:
                job = Path(folder)
                write_job(job, method, shape, options)
                for in_4bit in (False, True):
                    say(f"{shape}, {method}, {'NF4' if in_4bit else 'bf16'}: training")
                    figures.append(training(job, method, shape, in_4bit, device, rate))
                say(f"{shape}, {method}: prediction")
                figures.append(prediction(job, method, shape, device))
    return figures


def table(figures: list[Figure], title: str) -> Table:
    """The figures for a terminal."""
    shown = Table(title=title, title_justify="left")
    for name in ("work", "shape", "precision", "documents/s", "tokens/s", "peak GB", "of the peak", "target", "paper"):
        shown.add_column(name)
    for one in figures:
        shown.add_row(
            one.work,
            one.shape,
            one.precision,
            f"{one.documents_per_second:.2f}",
            f"{one.tokens_per_second:.0f}",
            f"{one.peak_bytes / 1e9:.1f}",
            "" if one.share is None else f"{one.share:.0%}",
            "" if one.target is None else f"{one.target:.0%}",
            "" if one.paper is None else f"{one.paper} documents/s",
        )
    return shown


def run(
    rows: Annotated[bool, typer.Option(help="rows 1 to 6 beside their peers, in place of the figures")] = False,
    case: Chosen = None,
    rounds: Rounds = 5,
    small: Small = False,
    data: Data = None,
    out: Out = RESULTS,
) -> None:
    """Measure on the GPU; without one, try it at a small size or say that there is nothing to measure."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        Console().print(NOT_TAKEN)
        if not small:
            return
    disable_progress_bar()
    options = Options(rounds, small, data)
    if rows or case:
        raise typer.Exit(run_cases(gpu_rows.cases(device, small), case or (), options, out))
    figures = measured(options, device, Console(stderr=True).print)
    title = "a try at a small size; its figures mean nothing" if small else torch.cuda.get_device_name()
    Console().print(table(figures, title))
    if not small:
        found = {"figures": [asdict(one) for one in figures], **provenance()}
        (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(run)
