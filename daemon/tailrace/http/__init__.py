"""The daemon's HTTP: what is asked becomes calls of the worker, what happens becomes streams."""
