"""Random UUIDs."""

from __future__ import annotations

import uuid

from twinstack.server.uuids import random_uuid


def test_they_differ_and_are_of_version_4() -> None:
    texts = [random_uuid() for _ in range(1000)]
    assert len(set(texts)) == 1000
    for text in texts:
        read = uuid.UUID(text)
        assert (str(read), read.version, read.variant) == (text, 4, uuid.RFC_4122)
