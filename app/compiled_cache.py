"""Compiled networks on disk, so that a version opened once opens again without being traced.

    folder/<what it was made of and by>-<part>-<dtype>    SHA-256 of the rest, then OpenVINO's bytes

Tracing a network keeps Python, and so every request, waiting; this does not. The whole folder can
be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from functools import cached_property
from pathlib import Path

import structlog
import torch

import models
from models.files import write_atomically
from models.openvino_core import new_core, openvino

_MAX_BYTES = 512 * 2**20  # the longest unused go first
_DIGEST_BYTES = 32

log = structlog.get_logger()


class CompiledCache:
    """What was compiled here of every network, until the code, OpenVINO or the CPU is another.

    Several processes can share a folder. A file that is damaged or cannot be written is as if it
    were not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, sha256: str, part: str, dtype: str) -> bytes | None:
        """Return what was put for a part of the network with these weights, or None."""
        path = self._path(sha256, part, dtype)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a folder that is read only serves as well
            os.utime(path)
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        # OpenVINO does not notice weights with a wrong bit.
        if hashlib.sha256(content).digest() != digest:
            log.warning("a compiled network is damaged and made anew", file=path.name)
            return None
        return content

    def put(self, sha256: str, part: str, dtype: str, content: bytes) -> None:
        """Keep `content`; what has not been used for longest makes room."""
        data = hashlib.sha256(content).digest() + content
        path = self._path(sha256, part, dtype)
        try:
            write_atomically(path, lambda target: target.write_bytes(data))
            self._make_room()
        except OSError as error:
            log.warning("a compiled network is not kept", error=repr(error))

    def _make_room(self) -> None:
        files = [(file, file.stat()) for file in self._folder.iterdir()]
        left_bytes = _MAX_BYTES
        for file, stat in sorted(files, key=lambda pair: pair[1].st_mtime, reverse=True):
            left_bytes -= stat.st_size
            if left_bytes < 0:
                file.unlink(missing_ok=True)

    def _path(self, sha256: str, part: str, dtype: str) -> Path:
        key = hashlib.sha256(f"{self._maker} {sha256}".encode()).hexdigest()
        return self._folder / f"{key[:32]}-{part}-{dtype}"

    @cached_property
    def _maker(self) -> str:
        """What the outcome depends on beside the weights: versions, this machine's CPU, our code.

        The number of threads does not matter.
        """
        core = new_core()
        names = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        cpu = [str(core.get_property("CPU", name)) for name in names]
        code = hashlib.sha256()
        for file in sorted(Path(models.__file__).parent.rglob("*.py")):
            code.update(file.read_bytes())
        for name in ("engines", "frozen", "openvino_runner"):
            code.update(Path(__file__).with_name(f"{name}.py").read_bytes())
        return " ".join((openvino.get_version(), torch.__version__, *cpu, code.hexdigest()))
