"""What a training job leaves on the disk, one folder a job.

    home/jobs/<id>/events.jsonl   what happened, one line each; a line's number is the event's id
                   recipe.json    the recipe as it is trained, with the number of steps decided
                   lock           held by the process that trains the job
                   state.safetensors, losses.jsonl, samples/, models/: see models.training

Only the worker writes, and the API reads. Lines are appended whole and never change.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)


class Event(NamedTuple):
    """One line of events.jsonl: its number from 1, kind and figures, and the byte it ends at."""

    id: int
    kind: str
    data: dict[str, Any]
    end: int


def _event(number: int, line: bytes, end: int) -> Event:
    data = json.loads(line)
    return Event(number, data.pop("event"), data, end)


class JobFolder:
    """The files of one job."""

    def __init__(self, home: Path, job_id: str) -> None:
        self.path = home / "jobs" / job_id
        self.events_file = self.path / "events.jsonl"
        self.recipe_file = self.path / "recipe.json"
        self.losses_file = self.path / "losses.jsonl"

    def open_events(self) -> None:
        """Prepare to append: cut off a line that a kill left half written."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.events_file.exists():
            with self.events_file.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

    def append(self, kind: str, **data: Any) -> None:
        """Append an event; a full disk costs the event and not the training."""
        line = {"event": kind, "at": datetime.now(UTC).isoformat(timespec="milliseconds")} | data
        text = (json.dumps(line) + "\n").encode()
        try:
            with self.events_file.open("ab", buffering=0) as file:
                written = file.write(text)
                if written < len(text):  # of a disk that is full now, or the next line would go on
                    file.truncate(file.tell() - written)
                    raise OSError(errno.ENOSPC, "no room for the whole line")
        except OSError as error:
            log.warning("event %s is not recorded: %s", kind, error)

    def events(self, after: int = 0, end: int = 0) -> Iterator[Event]:
        """Yield the complete events whose id is above `after`.

        With `end`, that of the event `after`, what is before is not read again.
        """
        for number, line in enumerate(self._lines(end), after + 1 if end else 1):
            end += len(line)
            if number > after:
                yield _event(number, line, end)

    def latest(self) -> dict[str, dict[str, Any]]:
        """Return the data of the last event of each kind."""
        last = {line.split(b'"', 4)[3]: line for line in self._lines()}  # {"event": "KIND", ...
        events = (_event(0, line, 0) for line in last.values())
        return {event.kind: event.data for event in events}

    def started_at(self) -> datetime | None:
        """Return when a worker last took the job up, in whole seconds as the database has times."""
        states = [line for line in self._lines() if line.startswith(b'{"event": "state"')]
        events = (_event(0, line, 0).data for line in reversed(states))
        at = next((event["at"] for event in events if event["state"] == "running"), None)
        return datetime.fromisoformat(at).replace(microsecond=0) if at else None

    def _lines(self, offset: int = 0) -> Iterator[bytes]:
        """Yield the complete lines from a byte on."""
        with contextlib.suppress(FileNotFoundError), self.events_file.open("rb") as file:
            file.seek(offset)
            for line in file:
                if line.endswith(b"\n"):
                    yield line

    def samples(self) -> list[int]:
        """Return the steps of which there is a sample grid, in order."""
        folder = self.path / "samples"
        return sorted(int(path.stem) for path in folder.glob("*.png") if path.stem.isdecimal())

    def sample_file(self, step: int) -> Path | None:
        """Return the sample grid of a step, if there is one."""
        path = self.path / "samples" / f"{step:06d}.png"
        return path if path.is_file() else None

    def loss_curves(self) -> bytes | None:
        """Draw the losses so far as a PNG; None before the first of them."""
        from models.reports import draw_curves

        if not self.losses_file.exists():
            return None
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "losses.png"
            draw_curves(self.losses_file, target)
            return target.read_bytes() if target.exists() else None
