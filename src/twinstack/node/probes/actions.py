"""What a probe does once: ask by HTTP, connect, run a program in the container, ask by gRPC (v1 ProbeHandler).

Texts are those of kubelet 1.36 (pkg/kubelet/prober, pkg/probe, by behaviour): people and programs search events for
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from twinstack.api import core
from twinstack.node.probes import http_get
from twinstack.node.probes.dialing import dial_error
from twinstack.node.probes.state import ProbeSpec
from twinstack.node.runtime.base import ContainerKey, Session, StartError

USER_AGENT = "kube-probe/1.36"
OUTPUT_LIMIT = 10 << 10  # bytes of a program's output that are kept


class Executor(Protocol):
    """Runs one more program in a running container (node.runtime.base.Runtime)."""

    async def exec(self, key: ContainerKey, command: list[str], *, stdin: bool = False, tty: bool = False) -> Session:
        """Raises StartError."""


class Subject(NamedTuple):
    """What is probed: one run of a container, in a pod with this address."""

    key: ContainerKey
    container: core.Container
    address: str


class Result(NamedTuple):
    """`success` is None when the probe itself went wrong, so that nothing is known."""

    success: bool | None
    output: str = ""
    warning: bool = False


class CommandTimeout(Exception):
    """A program took too long and was killed."""


async def perform(spec: ProbeSpec, subject: Subject, runtime: Executor) -> Result:
    """Carry out a probe."""
    handler = spec.handler
    try:
        if "exec" in handler:
            return await _run(list(handler["exec"].get("command") or []), spec.timeout, subject, runtime)
        if "httpGet" in handler:
            return await _ask(handler["httpGet"], spec.timeout, subject)
        if "tcpSocket" in handler:
            return await _connect(handler["tcpSocket"], spec.timeout, subject)
        if "grpc" in handler:
            return await _check(handler["grpc"], spec.timeout, subject)
    except (ValueError, StartError) as error:
        return Result(None, str(error))
    return Result(None, f"missing probe handler for {subject.container.name}")


def port_number(port: int | str, container: core.Container) -> int:
    """A port by number, or by the name that the container gives it. Raises ValueError."""
    if isinstance(port, str):
        named = next((p.container_port for p in container.ports if p.name == port), None)
        if named is None and not port.isdecimal():
            raise ValueError(f"strconv.Atoi: parsing {json.dumps(port)}: invalid syntax")
        port = int(port) if named is None else named
    if not 0 < port < 1 << 16:
        raise ValueError(f"invalid port number: {port}")
    return port


async def run_in_container(
    runtime: Executor, key: ContainerKey, command: list[str], timeout: float | None
) -> tuple[int, bytes]:
    """A program's exit code and the beginning of its output. Raises StartError, CommandTimeout."""
    session = await runtime.exec(key, command)
    output = bytearray()
    try:
        async with asyncio.timeout(timeout):
            async with contextlib.aclosing(session.output()) as parts:
                async for _, part in parts:
                    output += part[: OUTPUT_LIMIT - len(output)]
            return await session.exit_code(), bytes(output)
    except TimeoutError:
        raise CommandTimeout(f'command timed out: "{" ".join(command)}" timed out after {timeout:.0f}s') from None
    finally:
        await session.close()


async def _run(command: list[str], timeout: float, subject: Subject, runtime: Executor) -> Result:
    try:
        code, output = await run_in_container(runtime, subject.key, command, timeout)
    except CommandTimeout as error:
        return Result(False, str(error))
    return Result(code == 0, output.decode(errors="replace"))


async def _ask(action: Mapping[str, Any], timeout: float, subject: Subject) -> Result:
    port = port_number(action.get("port", 0), subject.container)
    target = http_get.target(action, port, subject.address, USER_AGENT)
    try:
        response = await http_get.get(target, timeout)
    except http_get.HttpError as error:
        return Result(False, str(error))
    body = response.body.decode(errors="replace")
    if 300 <= response.status < 400:
        return Result(True, f"Probe terminated redirects, Response body: {body}", warning=True)
    if 200 <= response.status < 300:
        return Result(True, body)
    return Result(False, f"HTTP probe failed with statuscode: {response.status}")


async def _connect(action: Mapping[str, Any], timeout: float, subject: Subject) -> Result:
    host, port = action.get("host") or subject.address, port_number(action.get("port", 0), subject.container)
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except OSError as error:  # TimeoutError is one
        return Result(False, dial_error(host, port, error))
    transport.close()
    return Result(True)


async def _check(action: Mapping[str, Any], timeout: float, subject: Subject) -> Result:
    from twinstack.node.probes import grpc_health  # rarely needed

    port = port_number(action.get("port", 0), subject.container)
    try:
        status = await grpc_health.check(subject.address, port, action.get("service") or "", timeout)
    except grpc_health.RpcError as error:
        return Result(False, str(error))
    if status != grpc_health.SERVING:
        return Result(False, f'service unhealthy (responded with "{grpc_health.status_name(status)}")')
    return Result(True)
