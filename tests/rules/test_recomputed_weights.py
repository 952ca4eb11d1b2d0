"""A parametrized weight that is computed again, where the model is many tiny operations as well."""

from __future__ import annotations

from test_rule_cases import facts_of

from perfdoctor.rules import Facts, catalogue, engine, ranking

RULES = [catalogue.find(catalogue.load().rules, code) for code in ("PD216", "PD239")]
RECOMPUTED = {
    "configuration.autograd_nodes": 4000,
    "configuration.parametrized_times": 48,
    "configuration.parametrized_of_forward": 0.5,
    "configuration.parametrized_of_backward": 0.5,
}


def _advice(**facts: float) -> list[tuple[str, list[str]]]:
    made = Facts(facts_of({"base": "fine_script", "facts": RECOMPUTED | facts}))
    found = ranking.worthwhile(engine.judge(RULES, made, {}).found)
    return [(r.rule, [c.rule for c in r.choices]) for r in ranking.recommend(found)]


def test_it_comes_before_other_ways_to_have_fewer_operations() -> None:
    assert _advice() == [("PD239", ["PD216"])]


def test_the_operations_are_told_of_alone_where_it_takes_little_of_their_time() -> None:
    little = dict.fromkeys(list(RECOMPUTED)[2:], 0.02)
    assert _advice(**little) == [("PD216", [])]
