"""What a job ends with that fails: a code and a text, which the database and people are told."""

from __future__ import annotations

import errno

import structlog
import torch

from app.error_codes import INTERNAL, OUT_OF_MEMORY, kind_of
from models.errors import AnamorphError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_FULL_TEXTS = tuple(f"os error {number})" for number in sorted(_DISK_FULL))
_NO_MEMORY_TEXT = "can't allocate memory"  # of torch on a CPU, in a plain RuntimeError

log = structlog.get_logger()


class JobFailed(Exception):
    """What a job ended with: a stable code and a text to be shown."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def failure_of(error: Exception) -> JobFailed:
    """Return what people are told of an error; one that nobody foresaw is in the log alone."""
    if isinstance(error, AnamorphError):
        return JobFailed(kind_of(error).code, str(error))
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if exhausted or _NO_MEMORY_TEXT in str(error):
        return JobFailed(OUT_OF_MEMORY.code, "smaller pictures or batches need less memory")
    number = error.errno if isinstance(error, OSError) else None
    if number in _DISK_FULL or str(error).endswith(_DISK_FULL_TEXTS):
        return JobFailed("disk_full", "make room and resume the job; its last checkpoint is kept")
    log.error("a job failed", exc_info=error)
    return JobFailed(INTERNAL.code, "")
