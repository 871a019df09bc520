from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path

import pytest

from twinstack.client.process import run_component
from twinstack.client.rest import Client


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    document = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(kubeconfig: str, number: signal.Signals) -> None:
    ended = False

    async def main(client: Client) -> None:
        nonlocal ended
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(10)
        finally:
            ended = True

    assert run_component("test", kubeconfig, main) == 0
    assert ended


def test_a_configuration_that_cannot_work_is_one_line(kubeconfig: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def part() -> None:
        raise ValueError("these flags contradict each other")

    async def main(client: Client) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())
            group.create_task(asyncio.sleep(10))

    assert run_component("test", kubeconfig, main) == 1
    assert [record.message for record in caplog.records] == ["these flags contradict each other"]


def test_a_kubeconfig_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(client: Client) -> None:
        raise AssertionError("never reached")

    assert run_component("test", str(tmp_path / "nothing"), main) == 1
    assert "cannot read kubeconfig" in caplog.text


def test_a_fault_of_ours_is_not_hidden(kubeconfig: str) -> None:
    async def main(client: Client) -> None:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        run_component("test", kubeconfig, main)
