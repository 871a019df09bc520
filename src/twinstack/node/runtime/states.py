"""A container as the agent is shown it, from what its directory holds."""

from __future__ import annotations

from twinstack.node.logs import LogOptions, LogReader
from twinstack.node.runtime.base import Container, ContainerKey, Phase
from twinstack.node.runtime.records import ContainerDirectory, Exit, Record

LAST_LINES, LAST_BYTES = 80, 2048  # of a log that stand for last words, as kubelet takes them


def created(key: ContainerKey, record: Record) -> Container:
    return Container(
        *(key, Phase.CREATED, record.image, record.image_id, record.created_at),
        user=record.user,
        stop_signal=record.stop_signal,
    )


def exited(container: Container, directory: ContainerDirectory, end: Exit) -> Container:
    running, record = directory.running(), directory.record()
    message = end.message
    if not message and end.code and record is not None and record.last_words_from_log:
        message = _last_of_log(directory)
    return container._replace(
        phase=Phase.EXITED,
        started_at=running.started_at if running else 0.0,
        finished_at=end.finished_at,
        exit_code=end.code,
        reason=end.reason or ("Error" if end.code else "Completed"),
        message=message,
    )


def _last_of_log(directory: ContainerDirectory) -> str:
    reader = LogReader(directory.log, LogOptions(tail_lines=LAST_LINES))
    try:
        return b"".join(reader.read())[-LAST_BYTES:].decode(errors="replace")
    finally:
        reader.close()
