"""One bed a module, and a program whose tables go with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.proxy.bed import Bed
from tests.integration.proxy.program import Program


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    bed = Bed()
    try:
        bed.build()
        yield bed
    finally:
        bed.remove()


@pytest.fixture
def program(bed: Bed) -> Iterator[Program]:
    program = Program(bed)
    try:
        yield program
    finally:
        program.close()
        bed.clear()
