"""The run folder: what a run is, on disk, for every program that looks at it.

The runner writes it, everybody else reads it; nothing here knows why.
"""
