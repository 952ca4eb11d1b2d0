"""PD226: attention is computed operation by operation, or head by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from perfdoctor.report import Evidence, Finding, Prediction
from perfdoctor.rules.facts import Facts
from perfdoctor.rules.measured import beside, computing_share, is_trace
from perfdoctor.rules.observed import (
    RUNS,
    at,
    beside_steps,
    hot_lines,
    is_run,
    line_evidence,
    stage_share,
    without,
)
from perfdoctor.rules.run_gains import up_to
from perfdoctor.rules.wording import grouped, percent
from perfdoctor.stages import BACKWARD, FORWARD, LOSS

_NOW_S, _LEFT = "configuration.plain_attention_s", "configuration.plain_attention_left"
_LAYERS = "configuration.plain_attention_layers"
_HEADS = "configuration.plain_attention_heads"
_TOKENS = "configuration.plain_attention_tokens"
_MASKED = "configuration.plain_attention_masked"
_NAMED = "configuration.attention"
_STEP_S = "steps.time.mean_s"
#: Of what goes when it is measured by itself: least and most (our own choice): beside the rest of a
#: step it lies in other caches, and a mask that is known to be causal costs less.
_LEAST, _MORE = 0.6, 1.5
#: Lines of attention, by what they call.
_CALLS = r"\b(softmax|matmul|bmm|einsum|masked_fill)\b"


class UnfusedAttention:
    """Attention is computed step by step, with its whole matrix of weights in memory.

    ## What it does
    Looks for softmax kernels in a trace without one of fused attention. In the graph of a step of
    an observed script it looks for a softmax between two batched products, and for heads that are
    computed one after the other from the same features; on a CPU it measures, after the training,
    how long the largest of them takes and how long fused. A transformers model says itself that it
    uses "eager" attention.

    ## Why it is slow
    The weights of all pairs of tokens are written, scaled, masked, normalised and read again. A
    fused kernel keeps them on the chip, and needs no memory for them. Heads in a loop start every
    operation once for each head, on a small part of the numbers.

    ## Evidence and threshold
    The part of the traced time that is softmax; of an observed script, the time by which a step
    gets shorter where that was measured, and else that of forward and backward.
    - `softmax_share` = 0.05 (source: our own choice; the products beside it take several times as
      long)
    - `gain` = 0.05 (source: our own choice; less is not worth a change)
    - `share` = 0.3 (source: our own choice; below, computing is not what the training spends its
      time on)

    ## What to change
    `torch.nn.functional.scaled_dot_product_attention`, or `attn_implementation="sdpa"`; one linear
    layer for the queries, keys and values of all heads.

    ## How the gain is predicted
    Where it was measured, the difference goes: 60 % of it at least, 1.5 times as much at most. From
    a trace a bound: no more than softmax and three times that for what goes with it. Else a range,
    from nothing to 1.5 times as fast.

    ## When not to
    Where the attention weights themselves are needed, or a mask that no fused kernel knows.
    """

    code: ClassVar[str] = "PD226"
    name: ClassVar[str] = "unfused-attention"
    needs: ClassVar[tuple[str, ...]] = ()
    verify_with: ClassVar[str | None] = None
    cause: ClassVar[str] = "unfused-attention"
    thresholds: ClassVar[Mapping[str, float]] = {
        "softmax_share": 0.05,
        "gain": 0.05,
        "share": 0.3,
    }
    sources: ClassVar[tuple[str, ...]] = (*RUNS, "log", "trace")

    def evaluate(self, facts: Facts) -> Finding | None:
        """Fires if attention is seen to be computed in parts."""
        if is_run(facts):
            return self._measured(facts) if facts.has(_NOW_S) else self._named(facts)
        if not is_trace(facts) or (facts.known("counters.fused_attention_s") or 0.0) > 0:
            return None
        active_s = facts.number("counters.active_s")
        share = facts.number("counters.softmax_s") / active_s if active_s > 0 else 0.0
        if share < facts.threshold("softmax_share"):
            return None
        evidence = beside(facts, "softmax", share, "share of time", "softmax_share")
        title = f"Softmax kernels take {percent(share)} of the time, and no fused attention runs"
        return self._finding(facts, title, (evidence,), up_to(min(0.9, 4 * share)), 0.5)

    def _measured(self, facts: Facts) -> Finding | None:
        """What was timed both ways on this host, after the training."""
        now_s, step_s = facts.number(_NOW_S), facts.number(_STEP_S)
        if now_s <= 0 or step_s <= 0:
            return None
        whole = sum(stage_share(facts, stage) for stage in (FORWARD, BACKWARD, LOSS))
        share = min(whole, now_s / step_s * (1 - beside_steps(facts)))
        goes = share * (1 - facts.number(_LEFT))
        if goes < facts.threshold("gain"):
            return None
        lines = [line for line in hot_lines(facts, FORWARD) if line.calls(_CALLS)]
        where = at(lines[0]) if lines else ""
        title = f"{_how(facts)}: {percent(goes)} of the training could go{where}"
        evidence = (
            beside(facts, "time that goes", goes, "share of training", "gain"),
            Evidence(metric="attention as it is", value=share, unit="share of training"),
            Evidence(metric="left of it when fused", value=facts.number(_LEFT), unit="share"),
            *line_evidence(lines, 1),
        )
        most = min(_MORE, whole / goes)
        return self._finding(facts, title, evidence, without(goes, _LEAST, 1.0, most), 0.85)

    def _named(self, facts: Facts) -> Finding | None:
        """What a model says of itself, or its graph shows, where nothing was timed."""
        eager = facts.has(_NAMED) and facts.text(_NAMED) == "eager"
        if not eager and not facts.known(_LAYERS):
            return None
        share = computing_share(facts)
        if share < facts.threshold("share"):
            return None
        evidence = beside(facts, "forward, loss and backward", share, "share", "share")
        named = "The model computes attention step by step (attn_implementation='eager')"
        title = named if eager else _how(facts)
        return self._finding(facts, title, (evidence,), up_to(share / 3), 0.5)

    def _finding(
        self,
        facts: Facts,
        title: str,
        evidence: tuple[Evidence, ...],
        predicted: Prediction,
        confidence: float,
    ) -> Finding:
        return Finding(
            stage=FORWARD,
            title=title,
            advice=_advice(facts),
            change={"attention": "sdpa"},
            snippet=_snippet(facts),
            evidence=evidence,
            cause=self.cause,
            predicted=predicted,
            confidence=confidence,
            effort="lines",
            safety="numerics",
        )


def _heads(facts: Facts) -> int:
    """Heads that are computed one after the other; 1 where they are computed together."""
    return round(facts.known(_HEADS) or 1)


def _how(facts: Facts) -> str:
    layers, tokens = grouped(facts.number(_LAYERS)), grouped(facts.number(_TOKENS))
    of_layers = "" if layers == "1" else f" in {layers} layers"
    if _heads(facts) > 1:
        heads = grouped(_heads(facts))
        return f"{heads} attention heads are computed one after the other{of_layers}"
    return f"Attention to {tokens} tokens is computed operation by operation{of_layers}"


def _advice(facts: Facts) -> str:
    if _heads(facts) > 1:
        return (
            "Compute all heads at once: one linear layer gives the queries, keys and values of "
            "all, and scaled_dot_product_attention, the fused one, does the rest. What the model "
            "computes stays the same but for rounding."
        )
    if facts.has(_NOW_S) or not facts.has(_NAMED):
        return "Use fused attention: torch.nn.functional.scaled_dot_product_attention."
    return (
        "Use fused attention: scaled_dot_product_attention, or attn_implementation='sdpa' where "
        "the model is made."
    )


def _snippet(facts: Facts) -> str:
    if not facts.known(_LAYERS):
        return (
            "model = AutoModel.from_pretrained(name, attn_implementation='sdpa')\n"
            "# or, in a model of your own:\n"
            "out = F.scaled_dot_product_attention(q, k, v, is_causal=True)"
        )
    call = "out = F.scaled_dot_product_attention(q, k, v)"
    if facts.has(_MASKED) and facts.get(_MASKED) is True:
        call = f"{call[:-1]}, attn_mask=may_look)  # or is_causal=True"
    if _heads(facts) == 1:
        return f"{call}\n# q, k, v: batch × heads × tokens × width"
    return (
        "q, k, v = self.qkv(x).view(B, T, 3, heads, -1).permute(2, 0, 3, 1, 4)\n"
        f"{call}\nout = out.transpose(1, 2).reshape(B, T, -1)"
    )
