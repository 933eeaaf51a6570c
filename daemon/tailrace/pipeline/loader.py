"""From a file's path to a pipeline, or to every mistake in it at once."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Final

from tailrace.errors import InvalidInputError, Problem
from tailrace.pipeline.checks import check_depths, check_graph, check_triggers, check_variables
from tailrace.pipeline.document import MAX_BYTES, parse_document
from tailrace.pipeline.keys import PIPELINE
from tailrace.pipeline.model import Pipeline
from tailrace.pipeline.names import Names
from tailrace.pipeline.reading import Reading
from tailrace.pipeline.texts import check_texts
from tailrace.pipeline.variants import graph_of

NAME: Final = re.compile("[a-z0-9][a-z0-9-]*")


def load_pipeline(path: Path, *, display: str | None = None) -> Pipeline:
    """Read a pipeline file; its name is the file's stem.

    *display* is how messages name the file: by default *path* as it was given.

    Raises:
        InvalidInputError: the file can't be read or has mistakes; all of them
            are told, in the file's order, as ``FILE:LINE:COLUMN: WHERE: PROBLEM;
            HINT``.
    """
    shown = display if display is not None else str(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                problem = Problem("file", "isn't a regular file", "name a YAML file", shown)
                raise InvalidInputError([problem])
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "can't be read").lower()
        raise InvalidInputError([Problem("file", reason, "name a YAML file", shown)]) from None
    return read_pipeline(data, name=path.stem, display=shown)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a FIFO that nobody writes to would hold up the daemon for good."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_pipeline(data: bytes, *, name: str, display: str) -> Pipeline:
    """Read a pipeline from the bytes of its file.

    Raises:
        InvalidInputError: as `load_pipeline`.
    """
    document = parse_document(data)
    reading = Reading(document)
    if not NAME.fullmatch(name):
        hint = "rename the file: a-z, 0-9 and '-', as in analyze.yaml"
        reading.mistake("", f"'{name}' can't be a pipeline's name", hint, told="file")
    pipeline = Pipeline(name=name)
    if document.root is not None:
        reading.place("", document.root)
        fields: dict[str, Any] = PIPELINE.read(reading, document.root, "")
        pipeline = _check(reading, Pipeline(name=name, **fields))
    if reading.mistakes:
        raise InvalidInputError(reading.problems(display))
    return pipeline


def _check(reading: Reading, pipeline: Pipeline) -> Pipeline:
    check_graph(reading, pipeline)
    check_depths(reading, pipeline)
    check_variables(reading, pipeline)
    check_texts(reading, pipeline, Names(pipeline, graph_of(pipeline), reading))
    return check_triggers(reading, pipeline)
