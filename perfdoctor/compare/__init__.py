"""Comparing what is known already: nothing here measures.

`runs` ranks configurations and logged runs; `shifts` and `differences` tell what changed from one
side to the other, quantities and all else; `checks` and `judging` decide whether it got worse.
"""

from __future__ import annotations
