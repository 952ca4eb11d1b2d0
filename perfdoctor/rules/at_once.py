"""What goes of operations that are done part by part, where all parts are done at once."""

from __future__ import annotations

from perfdoctor.rules.facts import Facts

#: Of the lesser of what goes of the layer and of all, this goes at least (our own choice): beside
#: the rest of a step they lie in other caches.
_LEAST = 0.6


def goes_at_once(facts: Facts, name: str) -> tuple[float, float, float]:
    """The part of them that goes: least, likely, most; from settings whose names begin so.

    They count by their number, those with weights as so many activations as one takes the time of:
    both were timed part by part and at once. Views cost what starting them costs, and of these one
    is left.
    """

    def told(what: str) -> float:
        return facts.number(f"configuration.{name}_{what}")

    layers, views = told("of_layers"), told("of_views")
    others = max(0.0, told("operations") - layers - views)
    of_layer, beside, of_views = 1 - told("left"), 1 - told("beside_left"), 1 - 1 / told("calls")
    layers *= told("times_beside")
    likely = (layers * of_layer + views * of_views + others * beside) / (layers + views + others)
    return _LEAST * min(of_layer, likely), likely, max(of_views, likely)
