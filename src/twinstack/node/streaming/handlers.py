"""exec, attach and port-forward on this node's pods, as requests to the kubelet API ask for them."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from twinstack.api import core
from twinstack.ip import Address, IPFamily
from twinstack.linux import namespaces
from twinstack.node.agent import Agent
from twinstack.node.http import Answer, Request, Upgrade
from twinstack.node.runtime.base import Container, Phase
from twinstack.node.streaming import negotiation, portforward, remotecommand
from twinstack.node.streaming.negotiation import Choice, Refusal
from twinstack.node.streaming.remotecommand import Talk, Wanted


class StreamingHandlers:
    """The three verbs, on the pods of one agent. They answer with an Upgrade, or say why not."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handle(self, request: Request) -> Answer | Upgrade | None:
        """None for a path that is not theirs."""
        try:
            match request.path:
                case ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container]:
                    return self._exec(request, namespace, pod, container)
                case ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container]:
                    return self._attach(request, namespace, pod, container)
                case ["portForward", namespace, pod] | ["portForward", namespace, pod, _]:
                    return self._port_forward(request, namespace, pod)
        except Refusal as refusal:
            return Answer(refusal.status, str(refusal).encode(), headers=refusal.headers)
        return None

    def _exec(self, request: Request, namespace: str, pod: str, container: str) -> Upgrade:
        _, run = self._running(namespace, pod, container)
        command = request.query.get("command", [])
        if not any(command):
            raise Refusal(400, "you must specify the command to execute")
        wanted = _wanted(request)
        runtime = self._agent.runtime
        begin = lambda: runtime.exec(run.key, command, stdin=wanted.stdin, tty=wanted.tty)  # noqa: E731
        return _upgrade(_command_choice(request), wanted, Talk(begin, command, "executing command"))

    def _attach(self, request: Request, namespace: str, pod: str, container: str) -> Upgrade:
        _, run = self._running(namespace, pod, container)
        wanted, runtime = _wanted(request), self._agent.runtime
        begin = lambda: runtime.attach(run.key, stdin=wanted.stdin)  # noqa: E731
        return _upgrade(_command_choice(request), wanted, Talk(begin, [], "attaching to container"))

    def _port_forward(self, request: Request, namespace: str, name: str) -> Upgrade:
        pod = self._agent.pod(namespace, name)
        if pod is None:
            raise Refusal(404, f'pod "{name}" does not exist')
        choice = negotiation.choose(
            request.headers,
            websocket_protocols=portforward.WEBSOCKET_PROTOCOLS,
            spdy_protocols=portforward.SPDY_PROTOCOLS,
        )
        ports = portforward.ports_of(request.query.get("port", []))
        if choice.protocol in remotecommand.WEBSOCKET_PROTOCOLS and not ports:
            raise Refusal(400, 'query parameter "port" is required')
        dialler = _Dialler(pod, None if pod.spec.host_network else self._agent.network.path(pod.metadata.uid))
        return Upgrade(choice.headers, lambda tunnel: portforward.serve(tunnel, choice, ports, dialler.dial))

    def _running(self, namespace: str, name: str, container: str) -> tuple[core.Pod, Container]:
        """The run that is meant, in kubelet's words if there is none. Raises Refusal."""
        found = self._agent.container(namespace, name, container)
        if found is None:
            raise Refusal(404, f'pod "{name}" does not exist')
        pod, runs = found
        running = [run for run in runs if run.phase is Phase.RUNNING]
        if not running:
            raise Refusal(500, f'container not found ("{container}")')
        return pod, running[-1]


def _upgrade(choice: Choice, wanted: Wanted, talk: Talk) -> Upgrade:
    return Upgrade(choice.headers, lambda tunnel: remotecommand.converse(tunnel, choice, wanted, talk))


def _command_choice(request: Request) -> Choice:
    return negotiation.choose(
        request.headers,
        websocket_protocols=remotecommand.WEBSOCKET_PROTOCOLS,
        spdy_protocols=remotecommand.SPDY_PROTOCOLS,
    )


def _wanted(request: Request) -> Wanted:
    """kubelet's names for the streams: input, output, error, tty; each is asked for by 1. Raises Refusal."""
    flags = {name: request.parameter(name) == "1" for name in ("input", "output", "error", "tty")}
    if not (flags["input"] or flags["output"] or flags["error"]):
        raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    return Wanted(flags["input"], flags["output"], flags["error"], flags["tty"])


def _reason(error: OSError) -> str:
    """In Go's words. A time-out is an OSError too."""
    return os.strerror(error.errno).lower() if error.errno else "i/o timeout"


class _Dialler:
    """Connects to a pod's ports from inside: `network` is its namespace, None the node's own."""

    def __init__(self, pod: core.Pod, network: Path | None) -> None:
        self._pod = pod
        self._network = network

    async def dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the loopback address of one family or the other: many servers listen on one alone. Raises OSError."""
        problems = []
        for address in portforward.LOOPBACKS:
            try:
                return await self._connect(address, port)
            except OSError as error:
                problems.append(f"{address.family}: {_reason(error)}")
        meta = self._pod.metadata
        text = f"failed to connect to localhost:{port} inside the pod's network namespace, {', '.join(problems)}"
        raise OSError(f"error forwarding port {port} to pod {meta.uid}, uid : {text}")

    async def _connect(self, address: Address, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = self._socket(address.family)
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(portforward.CONNECT_SECONDS):
                await loop.sock_connect(connection, (str(address), port))
            return await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise

    def _socket(self, family: IPFamily) -> socket.socket:
        def make() -> socket.socket:
            return socket.socket(family.af, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

        return make() if self._network is None else namespaces.inside(self._network, make)
