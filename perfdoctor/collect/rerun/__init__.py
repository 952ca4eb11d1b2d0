"""A user's script, run again as the training of an arm: stopped between steps, changed on the way.

`process.py` is the process; `gate.py` holds the script between two steps; `modes.py` and
`loaders.py` change something while it stands still; `training.py` answers what trials ask.
"""
