"""What a classification head minimises: one loss a document, weighted, focal or smoothed; and what a student adds.

The training loop divides the sum of a step's losses by its number of documents. Weighted losses are therefore not
divided by the sum of a batch's weights, as torch's own mean is: a document counts the same in whichever batch it falls.

Shapes: n documents of train, b documents of a batch, k labels. Losses are in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evalsuite.contracts import Bools
from evalsuite.llm.options import LossOptions

# One document in ten thousand would otherwise weigh as much as all the others, and one batch would undo the rest.
LARGEST_POSITIVE_WEIGHT = 100.0


class ClassificationLoss:
    """Cross-entropy of one label a document; for multi-label tasks binary cross-entropy, the mean over labels.

    ``gold``, bool [n, k], is train's: balanced weights are counted in it, once.
    """

    def __init__(self, options: LossOptions, gold: Bools, multilabel: bool) -> None:
        self.options, self.multilabel = options, multilabel
        balanced = positive_weights if multilabel else class_weights
        self.weights = balanced(gold) if options.class_weights == "balanced" else None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses, float32 [b], of ``logits`` [b, k] for label indices, int64 [b], or 0 and 1 a label, float32 [b, k].

        Label smoothing e (arXiv 1512.00567) makes targets (1 - e) y + e / k, or (1 - e) y + e / 2 a label where there
        may be several. Focal loss (arXiv 1708.02002, equation 4) multiplies by (1 - p)^gamma, p the probability given
        to what is true; the truth it means is the target before smoothing.
        """
        logits = logits.float()
        weights = None if self.weights is None else self.weights.to(logits.device)
        gamma, smoothing = self.options.focal_gamma, self.options.label_smoothing
        if self.multilabel:
            smooth = targets * (1 - smoothing) + smoothing / 2
            losses = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none", pos_weight=weights)
            return (losses * _focus((logits * (2 * targets - 1)).sigmoid(), gamma)).mean(dim=1)
        losses = F.cross_entropy(logits, targets, weights, label_smoothing=smoothing, reduction="none")
        return losses * _focus(logits.softmax(dim=1).gather(1, targets[:, None])[:, 0], gamma)


def class_weights(gold: Bools) -> Tensor:
    """n / (k * count), float32 [k], k the labels that occur: documents weigh 1 on average (scikit-learn's "balanced").

    A label that never occurs gets 1; it could only matter through label smoothing.
    """
    counts = torch.from_numpy(gold.sum(axis=0))
    weights = len(gold) / (counts.count_nonzero() * counts.clamp(min=1))
    return torch.where(counts > 0, weights, 1.0).float()


def positive_weights(gold: Bools) -> Tensor:
    """Negatives / positives of each label, at most 100, float32 [k]: torch's ``pos_weight``.

    Weighted so, the two sides of a label pull alike. A label without a positive gets 1.
    """
    positives = torch.from_numpy(gold.sum(axis=0))
    weights = (len(gold) - positives) / positives.clamp(min=1)
    return torch.where(positives > 0, weights, 1.0).clamp(max=LARGEST_POSITIVE_WEIGHT).float()


def distillation_losses(student: Tensor, teacher: Tensor, temperature: float, multilabel: bool) -> Tensor:
    """How far a student's softened distribution is from its teacher's: float32 [b], of logits [b, k] each.

    T^2 KL(softmax(teacher / T) || softmax(student / T)); for multi-label tasks the divergence of two Bernoulli
    distributions a label, sigmoid(teacher / T) and sigmoid(student / T), the mean over labels. T^2 keeps the size of
    the gradients whatever T is (Hinton et al., arXiv 1503.02531, section 2).
    """
    student, teacher = student.float() / temperature, teacher.float() / temperature
    if multilabel:
        soft = teacher.sigmoid()
        cross = F.binary_cross_entropy_with_logits(student, soft, reduction="none")
        entropy = F.binary_cross_entropy_with_logits(teacher, soft, reduction="none")
        return temperature**2 * (cross - entropy).mean(dim=1)
    soft = teacher.softmax(dim=1)
    return temperature**2 * F.kl_div(student.log_softmax(dim=1), soft, reduction="none").sum(dim=1)


def _focus(probability: Tensor, gamma: float) -> Tensor | float:
    """(1 - p)^gamma; never of exactly 0, where a gamma below 1 has no gradient."""
    return (1 - probability).clamp(min=torch.finfo(torch.float32).eps) ** gamma if gamma else 1.0
