"""What the tests keep in stores, and how they read along."""

from __future__ import annotations

from collections.abc import Sequence

from twinstack.store import Event, Opened, Record


def value_of(revision: int) -> bytes:
    """An API object with nothing but its revision."""
    return b'{"kind":"Thing","apiVersion":"v1","metadata":{"resourceVersion":"%d"}}' % revision


class Feed:
    """What a reader of the store sees: the published changes, applied."""

    def __init__(self) -> None:
        self.state: dict[str, tuple[int, bytes]] = {}
        self.revision = 0
        self.gaps: list[int] = []

    def load(self, opened: Opened) -> None:
        self.state = {record.key: (record.revision, record.value) for record in opened.records}
        self.revision = opened.revision

    def publish(self, events: Sequence[Event]) -> None:
        for event in events:
            assert event.revision >= self.revision
            assert event.previous == self.state.get(event.key, (0, b""))[0]
            self.revision = event.revision
            if event.value is None:
                del self.state[event.key]
            else:
                self.state[event.key] = (event.revision, event.value)

    def gap(self, revision: int) -> None:
        self.gaps.append(revision)


def records_of(state: dict[str, int]) -> list[Record]:
    return [Record(key, revision, value_of(revision)) for key, revision in state.items()]
