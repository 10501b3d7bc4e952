"""What mixrag's loggers have to say, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Notices(logging.Handler):
    def __init__(self, level: int, show: Callable[[str], None]) -> None:
        super().__init__(level)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._show(record.getMessage())
        except Exception:
            self.handleError(record)


@contextmanager
def notices(level: int, show: Callable[[str], None]) -> Iterator[None]:
    """Show what mixrag's loggers say from this level on; inside of another one, in its place."""
    logger, own = logging.getLogger("mixrag"), _Notices(level, show)
    before, others = logger.level, [each for each in logger.handlers if isinstance(each, _Notices)]
    for each in others:
        logger.removeHandler(each)
    logger.addHandler(own)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(own)
        logger.setLevel(before)
        for each in others:
            logger.addHandler(each)
