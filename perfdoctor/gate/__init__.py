"""`perfdoctor check`: has the code become slower than another revision, a baseline, its history?

`repository` finds the two sides, `worktrees` makes them, `pairs_*` measure one pair of processes
after the other, `deciding` stops when it is clear, `against` puts it together.
"""

from __future__ import annotations
