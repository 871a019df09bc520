"""Lifecycle hooks of containers: after the start, before the end (v1 LifecycleHandler)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from twinstack.node.probes import http_get
from twinstack.node.probes.actions import CommandTimeout, Executor, Subject, port_number, run_in_container
from twinstack.node.runtime.base import StartError

USER_AGENT = "kube-lifecycle/1.36"
LONGEST = 3600.0  # seconds that a hook may take which nothing else bounds


class HookError(Exception):
    """A hook did not do its work. The text may hold secrets: it is for the node's log, not for events."""


async def run(handler: Mapping[str, Any], subject: Subject, runtime: Executor, timeout: float = LONGEST) -> None:
    """Raises HookError, TimeoutError. Any answer to an HTTP request will do, as for kubelet."""
    try:
        if "exec" in handler:
            command = list(handler["exec"].get("command") or [])
            code, output = await run_in_container(runtime, subject.key, command, timeout)
            if code:
                raise HookError(f"exec {command}: exit code {code}: {output.decode(errors='replace')}")
        elif "httpGet" in handler:
            action = handler["httpGet"]
            port = port_number(action.get("port") or 80, subject.container)
            await http_get.get(http_get.target(action, port, subject.address, USER_AGENT), timeout)
        elif "sleep" in handler:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(float(handler["sleep"].get("seconds") or 0))
        else:
            raise HookError(f"invalid handler: {', '.join(handler)}")
    except (CommandTimeout, StartError, ValueError, http_get.HttpError) as error:
        raise HookError(str(error)) from error
