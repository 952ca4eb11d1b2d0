"""Collecting: everything that makes a Run."""
