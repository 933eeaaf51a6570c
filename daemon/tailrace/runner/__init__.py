"""Executes one run: a small process of its own, which owns the steps and writes the run folder."""
