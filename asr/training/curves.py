"""The curves of a training, in a file that TensorBoard reads."""

import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from asr.files import errors_name


class Curves:
    """One event file, written at once: TensorBoard's own writer does it in a thread, where errors end in a traceback.

    Args:
        folder: of the event files of a run; it is made where it is missing.
        first_step: values of earlier files from this step on are no longer shown.

    Raises:
        OSError: on every call, when the disk is full; it names the file.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.file = self.path.open("wb")
        self._write(file_version="brain.Event:2")
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each of the curves with these names."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=points))

    def close(self) -> None:
        """Close the file."""
        with errors_name(self.path):
            self.file.close()

    def _write(self, **fields: Any) -> None:
        with errors_name(self.path):
            RecordWriter(self.file).write(Event(wall_time=time.time(), **fields).SerializeToString())
            self.file.flush()
