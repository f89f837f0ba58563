"""Structured logs on standard error: JSON for machines, coloured lines on a terminal."""

from __future__ import annotations

import logging
import sys
import warnings

import structlog


def configure_logs(level: str) -> None:
    """Set up structlog for this process, and in its form what libraries log, from warnings on.

    Whoever has set up `logging` already, as the host of an app may have, keeps it as it is.
    """
    terminal = sys.stderr.isatty()
    least = getattr(logging, level.upper())
    described: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if terminal else [structlog.processors.format_exc_info]),
    ]
    renderer = _terminal_renderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*described, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(renderer, foreign_pre_chain=described))
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, least))
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about pictures that anybody may send
    # Without a handler of its own DBOS would give itself one, for lines of its own form.
    logging.getLogger("dbos").addHandler(logging.NullHandler())


def _terminal_renderer() -> structlog.dev.ConsoleRenderer:
    # The default formatter prints the values of local variables: of pictures, that is.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
