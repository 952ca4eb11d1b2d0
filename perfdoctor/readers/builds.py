"""Lines that count something, but no training: what a compiler, an installer, a pull or the
scheduler of a cluster prints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from perfdoctor.readers.lexer import Kind
from perfdoctor.readers.line_values import Seen
from perfdoctor.readers.phases import TRAIN_WORDS, VALIDATION_WORDS
from perfdoctor.readers.roles import Field
from perfdoctor.readers.word_sets import STEP, word_set

#: What Ninja, CMake and Docker write behind their counters: "[12/340]", "[ 12%]".
_AT_WORK = re.compile(
    r"(?:\[\s*[0-9]{1,7}(?:/[0-9]{1,7}|%)\]|\([0-9]{1,7}/[0-9]{1,7}\):?)\s{1,8}(?:"
    r"(?:Building|Linking|Compiling|Generating|Built|Performing|Creating|Installing|Re-running|"
    r"Running|Copying|Scanning|Resolving|Fetching|FROM|RUN|COPY|ADD|WORKDIR)(?:\s|$)"
    r"|(?:\S{0,200}[/\\])?(?:c\+\+|g\+\+|gcc|cc|clang(?:\+\+)?|nvcc|hipcc|ccache|cl|ld|ar|cmake|rustc)"
    r"(?:-[0-9.]{1,8})?(?:\.exe)?\s)"
)
#: Options that compilers take; so many of them make a command.
_COMPILER = re.compile(
    r"(?<!\S)-(?:[DIWLO][^\s-]\S{0,200}|std=\S{1,20}|f[a-z][\w-]{2,40}|gencode|c|o)(?=\s)"
)
_FEWEST_OPTIONS = 3
#: Words beside a fraction that make it one of a training.
_OF_TRAINING = STEP | TRAIN_WORDS | VALIDATION_WORDS | word_set("epoch epochs ep loss iteration")
_LINE_OF_TIME = ("time", "clock", "rank", "step", "step_total")


#: "real 0m11.058s" of the shell, what CMake, BuildKit and apt say of their own work, and what
#: llama.cpp says of answers.
_OF_A_COMMAND = re.compile(
    r"^\s{0,8}(?:real|user|sys)\s{1,8}[0-9]{1,6}m[0-9]{1,2}[.,][0-9]{1,4}s\s{0,8}$"
    r"|^-- (?:Configuring|Generating) done \("
    r"|^#[0-9]{1,5} (?:DONE [0-9.]{1,12}s\s{0,8}$"
    r"|(?:exporting|extracting|transferring|writing|pushing|unpacking|sending|resolve|sha256:)\b)"
    r"|(?:^|\s)Fetched [0-9.,]{1,12} ?[kKMG]?i?B in [0-9]"
    r"|(?:_print_timings|_perf_print|_perf_context_print|_perf_sampler_print):"
    r"|^\s{0,8}(?:srun|sbatch|salloc|slurmstepd[\w.-]{0,60}): "  # "STEP 307.0 ON c17 CANCELLED"
)


def is_of_a_build(line: str) -> bool:
    """Whether a compiler's command, a build's progress, what a cluster's scheduler says, or the
    time of a whole command or of the answers of a model that is served stands in the line."""
    if _AT_WORK.search(line[:300]) is not None or _OF_A_COMMAND.search(line[:200]) is not None:
        return True
    return len(_COMPILER.findall(line[:2000])) >= _FEWEST_OPTIONS


def only_counts(seen: Sequence[Seen], fields: Sequence[Field]) -> bool:
    """Whether the only thing that a line tells, besides its time, is a part of a whole without a
    name: "[3/8] RUN pip install" counts as well as a training does."""
    if not any(f.role == "step" for f in fields):
        return False
    if any(f.role not in _LINE_OF_TIME for f in fields):
        return False
    if any(v.label.any(_OF_TRAINING) for v in seen):
        return False
    return not any(v.token.kind == Kind.NUMBER and not v.token.integer for v in seen)
