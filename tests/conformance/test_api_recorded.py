"""A third of the recorded answers of a real API server (kube-apiserver 1.36.2), family by family, played to ours.

`api.jsonl.xz` has one scenario a line: requests, and to those that count the recorded answer. The floors are what
holds today.
"""

from __future__ import annotations

import asyncio
import functools
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.replay import Player

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("api.jsonl.xz")
FLOORS = {
    "apply": 0.99,
    "cidrs": 1.0,
    "kinds": 0.99,
    "lists": 0.99,
    "nodes": 1.0,
    "patch": 1.0,
    "rbac": 1.0,
    "request": 0.99,
    "slices": 0.99,
}
AT_ONCE = 40  # watches wait for their time; scenarios have servers of their own


@functools.cache
def scenarios() -> list[JSON]:
    return [json.loads(line) for line in lzma.decompress(RECORDING.read_bytes()).decode().splitlines()]


async def played(family: str, directory: Path) -> list[Player]:
    gate = asyncio.Semaphore(AT_ONCE)
    players = [Player(scenario) for scenario in scenarios() if scenario["family"] == family]

    async def play(number: int, player: Player) -> None:
        async with gate:
            await player.play(directory / f"{number}.db")

    async with asyncio.TaskGroup() as group:
        for number, player in enumerate(players):
            group.create_task(play(number, player))
    return players


@pytest.mark.parametrize("family", sorted(FLOORS))
def test_answers_are_the_recorded_ones(family: str, tmp_path: Path) -> None:
    players = asyncio.run(played(family, tmp_path))
    steps = sum(player.steps for player in players)
    differences = [difference for player in players for difference in player.differences]
    assert steps > 100
    assert 1 - len(differences) / steps >= FLOORS[family], "\n".join(differences[:20])
