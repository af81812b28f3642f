"""What was asked for (RunSpec) and what came of it (RunResult), as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Overwrite = Literal["never", "missing", "always"]
ScoredSplit = Literal["test", "validation"]
# What ``RunSpec.tuning`` holds; see ``evalsuite.tuning``.
TUNING_KEYS = ("trials", "metric", "tried", "scores", "chosen")


@dataclass(frozen=True)
class RunSpec:
    """One run, resolved: every option has its value and ``origins`` says where it came from.

    task: a registered name or the path of a declarative task (YAML). split: what is scored; with "validation", half of
    it, and no test document is looked at. limit: documents of that split to score, a count, or a share where below 1;
    None for all. train_limit, validation_limit: documents of these splits, counts. All pick by a
    hash of the document id, the same for every seed and method. train_size: training documents of each class, picked
    by the seed too. template: None for the method's own choice ("plain", or no prompt at all). apply_chat_template:
    None for models that are instruct models by their name. retries: how often a training that collapsed is done again
    with another seed. tuning: the trials on validation that chose options of this run; None where none were made.
    """

    task: str
    method: str
    task_options: Mapping[str, Any] = field(default_factory=dict)
    method_options: Mapping[str, Any] = field(default_factory=dict)
    decision_options: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    template: str | None = None
    templates: tuple[str, ...] = ()
    apply_chat_template: bool | None = None
    num_fewshot: int = 0
    split: ScoredSplit = "test"
    limit: float | None = None
    train_limit: int | None = None
    train_size: int | None = None
    validation_limit: int | None = None
    seed: int = 0
    retries: int = 0
    tuning: Mapping[str, Any] | None = None
    device: str = "auto"
    output_path: str = "runs"
    overwrite: Overwrite = "missing"
    plugins: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``config.yaml``, enough to run the same again."""
        data = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunSpec:
        """What ``to_dict`` made. Raises: TypeError where a key is unknown or missing."""
        arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**arguments)


@dataclass(frozen=True)
class RunResult:
    """A complete run: its directory and the content of its ``results.json``. ``fresh`` is False where it was there."""

    directory: Path
    results: Mapping[str, Any]
    fresh: bool = True

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Metric name -> value on the scored split."""
        values: Mapping[str, Any] = self.results["metrics"]["summary"]
        return values
