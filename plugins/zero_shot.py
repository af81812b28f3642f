"""``zero_shot``: a language model names the label after a prompt, without any training.

A local causal model is asked as ``instruction`` asks its trained one: see ``evalsuite.llm.answering``. A hosted one,
``--model openai/NAME``, answers over an OpenAI-compatible endpoint: see ``evalsuite.api.answering``.

Contextual calibration (Zhao et al. 2021, arXiv 2102.09690) takes the labels that a prompt favours whatever the document
out of the probabilities: they are divided by their mean over inputs that say nothing.

Shapes: n documents, k labels, m inputs that say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsuite import api
from evalsuite.contracts import Example, Floats, MethodSpec, RunContext, Scores
from evalsuite.errors import ModelError, OptionError
from evalsuite.hookspecs import hookimpl
from evalsuite.options import option

if TYPE_CHECKING:
    from evalsuite.llm.answering import Answerer

CONTENT_FREE = ("N/A", "[MASK]", "")  # arXiv 2102.09690, section 5
STATE = "zero_shot.json"


class ZeroShotConfig(api.HostedOptions):
    """Options of the zero-shot method."""

    contextual_calibration: bool = option(
        False,
        "divide label probabilities by their mean over the inputs 'N/A', '[MASK]' and '' under the same prompt",
        source="arXiv 2102.09690",
    )


class ZeroShot:
    """A language model as it is."""

    def __init__(self, config: ZeroShotConfig, ctx: RunContext, bias: Floats | None = None) -> None:
        """``bias`` [k]: what contextual calibration found; None before ``fit``, or without it."""
        self.config, self.ctx, self.bias = config, ctx, bias
        self.answerer: Answerer | api.HostedAnswerer
        if config.local:
            self.answerer = _load(config, ctx)
        else:
            self.answerer = api.HostedAnswerer(config, ctx, insist=config.contextual_calibration)
        ctx.facts.update(trainable_parameters=0, contextual_calibration=config.contextual_calibration)

    def fit(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Learn nothing; with contextual calibration, ask what the model makes of inputs that say nothing."""
        if self.config.contextual_calibration:
            logits = self.answerer.predict(CONTENT_FREE).logits
            assert logits is not None  # checked before the model was loaded, or by the endpoint's first answer
            self.bias = contextual_bias(logits, self.ctx.multilabel)

    def predict(self, texts: Sequence[str]) -> Scores:
        """Logits [n, k] where the model gives them, else predicted [n, k] and the answers as written."""
        scores = self.answerer.predict(texts)
        if self.bias is None or scores.logits is None:
            return scores
        logits = scores.logits - self.bias
        if not self.ctx.multilabel:
            logits -= np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return Scores(logits=logits, status=scores.status, raw=scores.raw)

    def save(self, directory: Path) -> None:
        """Write ``zero_shot.json``; the model itself stays where it is."""
        bias = None if self.bias is None else self.bias.tolist()
        (directory / STATE).write_text(json.dumps({"contextual_bias": bias}) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, config: ZeroShotConfig, ctx: RunContext) -> ZeroShot:
        """Read what ``save`` wrote.

        Raises:
            ModelError: the file is missing or was changed.
        """
        try:
            bias = json.loads((directory / STATE).read_text(encoding="utf-8"))["contextual_bias"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"cannot read {directory / STATE}: {error}; run it again") from None
        return cls(config, ctx, None if bias is None else np.array(bias, dtype=np.float32))

    def card_snippet(self) -> str | None:
        """Python that classifies a text with the model and transformers alone; None where the model is hosted."""
        if isinstance(self.answerer, api.HostedAnswerer):
            return None
        from evalsuite.llm.export.answer_snippet import answer_snippet

        return answer_snippet(self.answerer, [] if self.bias is None else self.bias.tolist())


def contextual_bias(logits: Floats, multilabel: bool) -> Floats:
    """What to take off logits so that probabilities are divided by their mean over the inputs of ``logits`` [m, k].

    One label a document: the log of the mean softmax [k]. Any number: the log of the mean yes over the mean no.
    """
    log_sum = np.logaddexp.reduce
    if multilabel:
        bias = log_sum(-np.logaddexp(0, -logits), axis=0) - log_sum(-np.logaddexp(0, logits), axis=0)
    else:
        bias = log_sum(logits - log_sum(logits, axis=1, keepdims=True), axis=0) - np.log(len(logits))
    return np.asarray(bias, dtype=np.float32)


def _load(config: ZeroShotConfig, ctx: RunContext) -> Answerer:
    from evalsuite.llm.answering import Answerer
    from evalsuite.llm.loading.backbone import load_causal_lm

    _check_calibration(config, ctx)
    answerer = Answerer(load_causal_lm(config, ctx.device), ctx, config)
    ctx.facts.update(answerer.facts())
    return answerer


def _check_calibration(config: ZeroShotConfig, ctx: RunContext) -> None:
    """Refuse, before a model is loaded, to calibrate answers that come without probabilities."""
    from evalsuite.llm.answering import resolve_decode

    if (decode := resolve_decode(config, ctx)) in ("constrained", "free") and config.contextual_calibration:
        other = "per_label" if ctx.multilabel else "score"
        raise OptionError(f"contextual_calibration needs label probabilities, decode={decode} gives none: use {other}")


def preflight(config: ZeroShotConfig, ctx: RunContext, train: Sequence[Example]) -> Mapping[str, Any]:
    """Of a local model, memory in bytes; of a hosted one nothing, once its key and the way there are known.

    Raises:
        OptionError: options that do not fit the task or each other, or a private task without leave.
        UsageError: no key in the environment.
        ModelError: a model that is absent or gated, or the ``openai`` package is not installed.
        TemplateError: labels that the model's tokenizer cannot tell apart.
    """
    if not config.local:
        api.check(config, ctx, insist=config.contextual_calibration)
        return {}
    from evalsuite.llm.answering import check
    from evalsuite.llm.training.footprint import estimate_inference

    check(config, ctx)
    _check_calibration(config, ctx)
    return estimate_inference(config, config.token_budget, ctx.device)


@hookimpl
def evalsuite_register_methods() -> list[MethodSpec]:
    """The zero-shot method."""
    return [
        MethodSpec(
            name="zero_shot",
            build=ZeroShot,
            load=ZeroShot.load,
            config=ZeroShotConfig,
            needs=frozenset({"model", "prompts"}),
            description="a language model names the label after a prompt, here or behind an endpoint; no training",
            trained=False,
            preflight=preflight,
            identity=lambda config: {} if config.local else {"base_url": api.endpoint_url(config)},
        )
    ]
