"""What PD501 says of an observed script: its framework's own words, and lines it shares."""

from __future__ import annotations

from perfdoctor.rules.facts import Facts
from perfdoctor.rules.observed import hot_lines
from perfdoctor.rules.run_batches import loading_lines

_VALIDATION = "validation"
#: What is the model, or of its own operations.
_MODEL = r"\bforward\b|torch|Tensor"
#: So much of what was seen of validation is in one line where that line is what it is about.
_MOSTLY = 0.5
#: Validations of an epoch, from which on they lie within it; parts of one that are as good as one.
_MORE_THAN_ONCE, _NEARLY_ONE = 1.2, 0.75
_LIGHTNING = ("/lightning/pytorch/", "/pytorch_lightning/")
#: The Trainer of transformers runs on accelerate, and so do loops written for it.
_TRAINER = ("/transformers/trainer", "/accelerate/accelerator")


def validation_code(facts: Facts, factor: int, every: int | None, times: int = 1) -> str:
    """The lines to write: of the framework whose files were seen, else of a loop.

    `every` is the present interval in epochs, None where it is not epochs or not known; `times` is
    how often it was done, 1 where that is not known.
    """
    files = [line.file.replace("\\", "/") for line in hot_lines(facts)]
    if any(name in file for file in files for name in _LIGHTNING):
        often = _times_an_epoch(facts, times) if every is None else None
        if often is not None:
            return _within_epochs(factor / often)
        now = "check_val_every_n_epoch" if every is None else f"{every * factor}"
        more = f"{factor} * " if every is None else ""
        return f"trainer = Trainer(check_val_every_n_epoch={more}{now})  # and your arguments"
    trainer = any(name in file for file in files for name in _TRAINER)
    if trainer and any("/transformers/" in file for file in files):
        return (
            "# with transformers' Trainer; in a loop of your own as often\n"
            'TrainingArguments(eval_strategy="steps", eval_steps='
            f"{factor} * eval_steps)"
        )
    if every is None:
        return f"if step % ({factor} * validate_every) == 0 or step == steps:\n    validate(model)"
    rare = every * factor
    return f"if epoch % {rare} == {rare - 1} or epoch == epochs - 1:\n    validate(model)"


def _times_an_epoch(facts: Facts, times: int) -> float | None:
    """How often an epoch it is done; None where that is not known, or no more than once.

    Some of them may lie outside of the epochs, as the one by which Lightning tries out the code.
    """
    epochs = facts.known("epochs.count")
    if not epochs or times - 1 < _MORE_THAN_ONCE * epochs:
        return None
    return times / epochs


def _within_epochs(interval: float) -> str:
    """Of Lightning, which counts in parts of an epoch up to a whole one, and then in epochs."""
    if interval < _NEARLY_ONE:
        return (
            f"trainer = Trainer(val_check_interval={interval:.2g})"
            "  # of an epoch, in place of yours; and your arguments"
        )
    return (
        f"trainer = Trainer(val_check_interval=1.0, check_val_every_n_epoch={round(interval) or 1})"
        "\n# in place of yours; and your arguments"
    )


def shared_line(facts: Facts) -> str:
    """What to know where validation spends its time in one line: of one that makes the training's
    batches, and of one that calls another library than the model."""
    lines = hot_lines(facts, _VALIDATION)
    seen = sum(line.share for line in lines)
    made = {(line.file, line.line) for line in loading_lines(facts)}
    for line in lines[:1]:
        here = [n for n in lines if (n.file, n.line) == (line.file, line.line)]
        if sum(n.share for n in here) < _MOSTLY * seen:
            return ""
        if (line.file, line.line) in made:
            return (
                f" But most of it is {line.place}, which makes the training's batches too: begin "
                "there, and validation gets shorter with it."
            )
        if line.library and not line.calls(_MODEL):
            return (
                f" But most of it is {line.words}: look there first whether it computes the same "
                "more than once, or one by one what can be computed all at once."
            )
    return ""
