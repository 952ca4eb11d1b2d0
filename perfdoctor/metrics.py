"""What the name of a metric tells: whether less is better, and whether it is a validation's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfdoctor.record import Floats

_FEWEST = 3
_VALIDATION = {"val", "valid", "validation", "test", "eval", "evaluation", "dev", "heldout"}
_TRAINING = {"train", "training", "tr"}
#: What judges a model, the best judge first; more is better.
_QUALITY = (
    "map5095", "map", "ap", "miou", "iou", "top1", "acc1", "acc", "accuracy", "f1", "bleu",
    "sacrebleu", "rouge", "rougel", "dice", "auc", "auroc", "ndcg", "mrr", "recall", "precision",
    "score", "reward", "r2", "pearson", "spearman", "psnr", "ssim", "kappa", "mcc", "top5", "acc5",
    "ap50", "map50",
)  # fmt: skip
#: Errors judge as well; less is better.
_ERRORS = (
    "wer", "cer", "ter", "eer", "fid", "kid", "lpips", "top1err", "err", "error", "mae", "rmse",
    "mse", "mape", "ppl", "perplexity", "bpc", "bpb",
)  # fmt: skip
_LOSSES = ("loss", "nll", "elbo", "xent", "ce", "crossentropy", "objective")
#: An error in percent is one even of "top-1".
_KINDS = ((_ERRORS, True, False), (_QUALITY, False, False), (_LOSSES, True, True))
#: Names that signs would take apart, longest first.
_SPELLINGS = {
    r"map\W?_?(?:@?0?\.?50?[:_-]0?\.?95)": " map5095 ",
    r"map\W?_?@?0?\.50?(?![:\d])": " map50 ",
    r"(?:acc|prec)@(\d)": r" acc\1 ",
    r"err(?:or)?@\d": " top1err ",
    r"top-(\d)": r" top\1 ",
    r"mean_iou": " miou ",
    r"r\^2": " r2 ",
}
#: The best value so far never gets worse; a loss's scale is no loss.
_NO_JUDGES = {"best", "max", "min", "far", "scale", "weight", "time", "lr"}
_WORD = re.compile(r"[A-Z]?[a-z]+[0-9]*|[A-Z]+[0-9]*|[0-9]+")


@dataclass(frozen=True)
class Judge:
    """A metric to judge epochs by. `rank`: the lower, the better it judges."""

    name: str
    lower_is_better: bool
    rank: tuple[int, int, int]


def judge(name: str) -> Judge | None:
    """What the name tells; None if it is no measure of how good a model is."""
    words = _words(name)
    if _NO_JUDGES & set(words):
        return None
    for known, lower_is_better, is_loss in _KINDS:
        places = [known.index(word) for word in words if word in known]
        if places:
            return Judge(name, lower_is_better, (_phase(words, is_loss), min(places), len(name)))
    return None


def _phase(words: list[str], is_loss: bool) -> int:
    """Validation before training, losses last; what names no phase is a validation's quality,
    but a training's loss."""
    if _VALIDATION & set(words):
        return 2 if is_loss else 0
    if is_loss:
        return 4
    return 3 if _TRAINING & set(words) else 1


def choose(metrics: Mapping[str, Floats]) -> Judge | None:
    """The metric to judge by: of the validation, accuracies and errors before losses.

    Only such as were told at least three times and vary.
    """
    found = [j for name, values in metrics.items() if _varies(values) and (j := judge(name))]
    return min(found, key=lambda j: j.rank, default=None)


def _varies(values: Floats) -> bool:
    finite = values[np.isfinite(values)]
    return finite.size >= _FEWEST and bool(finite.min() < finite.max())


def _words(name: str) -> list[str]:
    """`val/mAP@0.5:0.95` → val, map5095; `valAcc` and `val_acc` → val, acc."""
    for spelled, word in _SPELLINGS.items():
        name = re.sub(spelled, word, name, flags=re.IGNORECASE)
    pieces = [piece for piece in re.split(r"[^A-Za-z0-9]+", name) if piece]
    inner = [word for piece in pieces for word in _WORD.findall(piece)]
    return [word.lower() for word in (*pieces, *inner)]
