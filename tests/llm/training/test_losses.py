"""Losses against torch.nn, scikit-learn and formulas written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from evalsuite.llm.options import LossOptions
from evalsuite.llm.training.losses import ClassificationLoss, class_weights, distillation_losses, positive_weights

K = 4
GOLD = np.eye(K, dtype=bool)[[0, 0, 0, 0, 0, 1, 1, 1, 2, 3]]
TAGS = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)


def logits(rows: int = 6) -> Tensor:
    return torch.randn(rows, K, generator=torch.Generator().manual_seed(0)) * 3


def single(**options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(losses, logits, targets) of a single-label loss."""
    targets = torch.tensor([0, 1, 2, 3, 0, 1])
    return ClassificationLoss(LossOptions(**options), GOLD, False)(logits(), targets), logits(), targets


def several(**options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(losses, logits, targets) of a multi-label loss."""
    targets = torch.from_numpy(TAGS).float()
    return ClassificationLoss(LossOptions(**options), TAGS, True)(logits(4), targets), logits(4), targets


def test_plain_losses_are_torchs() -> None:
    losses, z, y = single()
    torch.testing.assert_close(losses, nn.CrossEntropyLoss(reduction="none")(z, y))
    losses, z, y = several()
    torch.testing.assert_close(losses, nn.BCEWithLogitsLoss(reduction="none")(z, y).mean(dim=1))


def test_class_weights_are_scikit_learns() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(K), y=GOLD.argmax(axis=1))
    np.testing.assert_allclose(class_weights(GOLD), expected, rtol=1e-6)


def test_a_label_without_documents_weighs_nothing_more() -> None:
    """An infinite weight times a zero target would be no number."""
    weights = class_weights(GOLD[:8])
    np.testing.assert_allclose(weights, [8 / (2 * 5), 8 / (2 * 3), 1, 1], rtol=1e-6)
    loss = ClassificationLoss(LossOptions(class_weights="balanced", label_smoothing=0.1), GOLD[:8], False)
    assert loss(logits(), torch.tensor([0, 1, 0, 1, 0, 1])).isfinite().all()


def test_positive_weights() -> None:
    """Negatives / positives; without positives 1; capped where positives are rare."""
    np.testing.assert_allclose(positive_weights(TAGS), [1 / 3, 1, 1, 3], rtol=1e-6)
    rare = np.zeros((1000, 1), dtype=bool)
    rare[0] = True
    assert positive_weights(rare).tolist() == [100]


def test_weighted_losses_do_not_depend_on_the_batch() -> None:
    """torch's weighted mean divides by the weights of the batch, so that micro-batches would change a step."""
    losses, z, y = single(class_weights="balanced")
    weights = torch.tensor([10 / (4 * count) for count in (5, 3, 1, 1)])
    torch.testing.assert_close(losses, weights[y] * nn.CrossEntropyLoss(reduction="none")(z, y))
    alone = [
        ClassificationLoss(LossOptions(class_weights="balanced"), GOLD, False)(z[i : i + 1], y[i : i + 1])
        for i in range(6)
    ]
    torch.testing.assert_close(torch.cat(alone), losses)
    losses, z, y = several(class_weights="balanced")
    plain = nn.BCEWithLogitsLoss(reduction="none", pos_weight=positive_weights(TAGS))(z, y)
    torch.testing.assert_close(losses, plain.mean(dim=1))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_as_in_the_paper(gamma: float) -> None:
    losses, z, y = single(focal_gamma=gamma)
    p = z.softmax(dim=1)[range(6), y]
    torch.testing.assert_close(losses, -((1 - p) ** gamma) * p.log())
    losses, z, y = several(focal_gamma=gamma)
    p = torch.where(y > 0, z.sigmoid(), 1 - z.sigmoid())
    torch.testing.assert_close(losses, (-((1 - p) ** gamma) * p.log()).mean(dim=1))


def test_a_certain_document_has_a_finite_gradient() -> None:
    """(1 - p)^gamma has an infinite slope at p = 1 where gamma is below 1."""
    for multilabel, targets in ((False, torch.tensor([0])), (True, torch.tensor([[1.0, 0, 0, 0]]))):
        z = torch.tensor([[200.0, -200, -200, -200]], requires_grad=True)
        ClassificationLoss(LossOptions(focal_gamma=0.5), GOLD, multilabel)(z, targets).sum().backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()


def test_label_smoothing() -> None:
    losses, z, y = single(label_smoothing=0.1)
    torch.testing.assert_close(losses, nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")(z, y))
    losses, z, y = several(label_smoothing=0.1)
    smooth = torch.where(y > 0, 0.95, 0.05)
    torch.testing.assert_close(losses, nn.BCEWithLogitsLoss(reduction="none")(z, smooth).mean(dim=1))


def test_all_options_at_once_and_in_bfloat16() -> None:
    for case in (single, several):
        losses, *_ = case(class_weights="balanced", focal_gamma=2.0, label_smoothing=0.1)
        assert losses.dtype == torch.float32
        assert losses.isfinite().all()
    half = ClassificationLoss(LossOptions(), GOLD, False)(logits().bfloat16(), torch.tensor([0, 1, 2, 3, 0, 1]))
    assert half.dtype == torch.float32


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_written_out(temperature: float) -> None:
    student, teacher = logits(3), logits(6)[3:]
    p, q = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    expected = temperature**2 * (p * (p.log() - q.log())).sum(dim=1)
    torch.testing.assert_close(distillation_losses(student, teacher, temperature, False), expected)
    p, q = (teacher / temperature).sigmoid(), (student / temperature).sigmoid()
    both = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    expected = temperature**2 * both.mean(dim=1)
    torch.testing.assert_close(distillation_losses(student, teacher, temperature, True), expected)


@pytest.mark.parametrize("multilabel", [False, True])
def test_distillation_is_zero_where_the_student_agrees(multilabel: bool) -> None:
    losses = distillation_losses(logits(), logits(), 2.0, multilabel)
    torch.testing.assert_close(losses, torch.zeros(6), atol=1e-5, rtol=0)


def test_hot_distillation_matches_logits() -> None:
    """At high T the gradient tends to (student - teacher) / k of centred logits, whatever T (arXiv 1503.02531, 2.1)."""
    student, teacher = logits().requires_grad_(), logits(12)[6:]
    distillation_losses(student, teacher, 1e3, False).sum().backward()
    gap = (student - student.mean(dim=1, keepdim=True)) - (teacher - teacher.mean(dim=1, keepdim=True))
    torch.testing.assert_close(student.grad, gap.detach() / K, atol=2e-2, rtol=2e-2)


def test_a_label_the_teacher_rules_out_is_no_nan() -> None:
    teacher = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]])
    assert distillation_losses(logits(1), teacher, 2.0, False).isfinite().all()
