"""Readers: from a file that an earlier run left behind to a Reading.

A format is a class with `score` and `read` and a line in the table of `catalogue.py`; formats that
are lines of text need no code, only a `Form` in the table of their family.
"""
