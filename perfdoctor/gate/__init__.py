"""`perfdoctor check`: has the code become slower than another revision, a baseline, its history?

`against`: `repository` finds the two sides, `worktrees` and `sides` make them ready,
`lock_step_pairs` or `process_pairs` measure pair after pair, `deciding` stops when it is clear,
`explaining` tells why. `with_baseline` and `with_history` compare `sessions` of other occasions.
"""

from __future__ import annotations
