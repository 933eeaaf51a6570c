"""The daemon's own log, on standard error: JSON for journals and pipes, colours in a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Final

import structlog

from tailrace.settings import Log

# What a journal knows as priorities: sd-daemon(3), SD_INFO and so on.
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def set_up_logs(settings: Log) -> None:
    """Send structlog's events, and the warnings of libraries, to standard error, one a line.

    Tracebacks never show the values of variables: one of them may be a secret.
    systemd's journal gets each line's priority in front, which it takes off.
    """
    level = logging.getLevelName(settings.level.upper())
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = _JournalFormatter if _is_journal() else structlog.stdlib.ProcessorFormatter
    handler.setFormatter(
        formatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_json() if as_json else _console()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries' own
    logging.getLogger("tailrace").setLevel(level)


class _JournalFormatter(structlog.stdlib.ProcessorFormatter):
    """Puts the priority in front of a line: sd-daemon(3), and `SyslogLevelPrefix=`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        found = (number for level, number in _PRIORITIES if record.levelno >= level)
        return f"<{next(found, 7)}>{super().format(record)}"


def _is_journal() -> bool:
    """Whether standard error is the stream to the journal that systemd opened for us."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def _json() -> list[Any]:
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(tracebacks),
        structlog.processors.JSONRenderer(),
    ]


def _console() -> list[Any]:
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
