"""Which HTTP server and which event loop: the engine of `twinstack.server.http` beside uvicorn and aiohttp.

The API server needs client certificates, upgrades (SPDY, WebSocket), thousands of idle watches, and little CPU a
request. Each contender runs as its own process with the same certificate; the load comes from here. CPU is
the server's own (/proc/PID/task/*/schedstat), memory its PSS, so a busy machine blurs the figures little.

    python3 -m venv /tmp/contenders
    /tmp/contenders/bin/pip install -e . uvicorn aiohttp
    /tmp/contenders/bin/python bench/http_server.py [--rounds 3] [--watches 1000] [--requests 20000]

Contenders that are not installed are left out. Ratios are to twinstack on uvloop; JSON goes to bench/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import uvloop

CONTENDERS = ("twinstack/uvloop", "twinstack/asyncio", "uvicorn/uvloop", "aiohttp/uvloop")
BODY = json.dumps({"kind": "Service", "metadata": {"name": "x", "labels": {"a": "b" * 850}}}).encode()
EVENT = b'{"type":"MODIFIED","object":' + BODY + b"}\n"
CONNECTIONS = 8
RESULTS = Path(__file__).parent / "results" / "http_server.json"

HEADERS = (
    "Host: 127.0.0.1\r\nUser-Agent: kubectl/v1.36.2 (linux/amd64) kubernetes/8e16b12\r\n"
    "Accept: application/json\r\nAuthorization: Bearer 0123456789abcdef\r\nAccept-Encoding: gzip\r\n"
)


def request(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\n{HEADERS}{more}\r\n".encode()


# --- contenders: /object answers BODY, /watch streams EVENT on SIGUSR1, /user says the certificate's subject,
# --- /upgrade switches to a protocol that sends bytes back


class Bell:
    """Rings all waiting watches when the process gets SIGUSR1."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._ring)

    def _ring(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        await self._event.wait()


async def serve_twinstack(listener: socket.socket, files: dict[str, str]) -> None:
    from twinstack.server.authentication import certificate_user
    from twinstack.server.http import HTTPServer
    from twinstack.server.messages import Answer, Duplex, Request, Response, StreamResponse, StreamWriter, Upgrade
    from twinstack.server.tls import server_context

    bell = Bell()

    async def watch(writer: StreamWriter) -> None:
        while True:
            await bell.wait()
            writer.write(EVENT)

    async def echo(duplex: Duplex) -> None:
        while data := await duplex.read():
            duplex.write(data)

    async def handler(request: Request) -> Answer:
        if request.path == "/watch":
            return StreamResponse(status=200, produce=watch)
        if request.path == "/user":
            return Response(status=200, body=request.user.name.encode())
        if request.path == "/upgrade":
            return Upgrade(run=echo, headers=[("Upgrade", "echo")])
        return Response(status=200, body=BODY)

    server = HTTPServer(handler, identify=certificate_user)
    await server.start([listener], server_context(files["certificate"], files["key"], files["authority"]))
    await asyncio.Event().wait()


async def serve_uvicorn(listener: socket.socket, files: dict[str, str]) -> None:
    uvicorn: Any = importlib.import_module("uvicorn")  # not among our dependencies
    bell = Bell()

    async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"application/json")]
        if scope["path"] == "/watch":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            while True:
                await bell.wait()
                await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        body = BODY
        if scope["path"] == "/user":  # the tls extension of ASGI, if the server has it
            body = str(scope.get("extensions", {}).get("tls", {}).get("client_cert_name") or "").encode()
        status = 101 if scope["path"] == "/upgrade" else 200
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ssl_certfile=files["certificate"],
        ssl_keyfile=files["key"],
        ssl_ca_certs=files["authority"],
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=600,
        lifespan="off",
    )
    await uvicorn.Server(config).serve([listener])


async def serve_aiohttp(listener: socket.socket, files: dict[str, str]) -> None:
    web: Any = importlib.import_module("aiohttp.web")
    bell = Bell()

    async def watch(request: Any) -> Any:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await bell.wait()
            await response.write(EVENT)

    async def answer(request: Any) -> Any:
        return web.Response(body=BODY, content_type="application/json")

    async def user(request: Any) -> Any:
        certificate = request.transport.get_extra_info("peercert") or {}
        names = [value for name in certificate.get("subject", ()) for key, value in name if key == "commonName"]
        return web.Response(text="".join(names))

    async def upgrade(request: Any) -> Any:
        response = web.StreamResponse(status=101, headers={"Connection": "upgrade", "Upgrade": "echo"})
        await response.prepare(request)
        await response.write(await request.content.readany())
        return response

    app = web.Application()
    app.add_routes([web.get("/watch", watch), web.get("/user", user), web.get("/upgrade", upgrade)])
    app.add_routes([web.get("/object", answer)])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["certificate"], files["key"])
    context.load_verify_locations(files["authority"])
    context.verify_mode = ssl.CERT_OPTIONAL
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=context).start()
    await asyncio.Event().wait()


SERVERS = {"twinstack": serve_twinstack, "uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def serve(contender: str, descriptor: int, files: dict[str, str]) -> None:
    """The child: one contender on an inherited listening socket."""
    name, loop = contender.split("/")
    work = SERVERS[name](socket.socket(fileno=descriptor), files)
    if loop == "uvloop":
        uvloop.run(work)
    else:
        asyncio.run(work)


# --- load


class Repeat(asyncio.Protocol):
    """Sends a request, waits for the whole answer, sends it again."""

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self._left, self._done, self._missing = count, done, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(request("/object"))

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            self._missing = length - len(rest)
        else:
            self._missing -= len(data)
        if self._missing:
            return
        self._left -= 1
        if self._left:
            self._transport.write(request("/object"))
        else:
            self._transport.close()
            self._done.set_result(None)


class Watch(asyncio.Protocol):
    """Holds a stream and counts whole events."""

    events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(request("/watch"))

    def data_received(self, data: bytes) -> None:
        Watch.events += data.count(b"MODIFIED")


class Child:
    """A contender's process."""

    def __init__(self, contender: str, files: dict[str, str]) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = listener.getsockname()[1]
        words = [sys.executable, __file__, "--serve", contender, str(listener.fileno()), json.dumps(files)]
        self.process = subprocess.Popen(words, pass_fds=[listener.fileno()])
        listener.close()

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> float:
        """PSS in KB."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("Pss:")))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def client_context(files: dict[str, str], *, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files["authority"])
    if certificate:
        context.load_cert_chain(files["client"], files["client_key"])
    return context


async def measure(contender: str, files: dict[str, str], requests: int, watches: int) -> dict[str, float | bool]:
    """One round: figures of one contender in a fresh process."""
    child = Child(contender, files)
    try:
        context = client_context(files)
        await ready(child.port, context)
        figures: dict[str, float | bool] = {"start_memory_mb": child.memory() / 1024}
        await load(child.port, context, requests // 10)
        before = child.cpu()
        await load(child.port, context, requests)
        figures["get_cpu_us"] = (child.cpu() - before) / requests * 1e6
        figures |= await watch(child, context, watches)
        figures["sees_client_certificate"] = b"bench-user" in await ask(child.port, files, "/user")
        echoed = await ask(child.port, files, "/upgrade", "Connection: Upgrade\r\nUpgrade: echo\r\n", b"ping")
        figures["takes_upgrades"] = echoed.startswith(b"HTTP/1.1 101") and echoed.endswith(b"ping")
        return figures
    finally:
        child.stop()


async def ready(port: int, context: ssl.SSLContext) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError("a contender did not start")


async def load(port: int, context: ssl.SSLContext, requests: int) -> None:
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CONNECTIONS)]
    for end in ends:
        repeat = Repeat(requests // CONNECTIONS, end)
        await loop.create_connection(lambda repeat=repeat: repeat, "127.0.0.1", port, ssl=context)  # type: ignore[misc]
    await asyncio.gather(*ends)


async def watch(child: Child, context: ssl.SSLContext, watches: int) -> dict[str, float | bool]:
    """Memory of idle watches, and the CPU of one event to all of them."""
    loop = asyncio.get_running_loop()
    memory, cpu = child.memory(), child.cpu()
    held = [(await loop.create_connection(Watch, "127.0.0.1", child.port, ssl=context))[1] for _ in range(watches)]
    opened = child.cpu() - cpu
    await asyncio.sleep(0.5)
    per_watch = (child.memory() - memory) / watches
    times = []
    for _ in range(5):
        Watch.events, cpu = 0, child.cpu()
        child.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 10
        while Watch.events < watches and time.monotonic() < end:  # noqa: ASYNC110 - counted by the protocols
            await asyncio.sleep(0.02)
        times.append((child.cpu() - cpu) / watches * 1e6)
    for each in held:
        each.transport.abort()
    return {
        "watch_memory_kb": per_watch,
        "watch_open_cpu_us": opened / watches * 1e6,
        "event_cpu_us": statistics.median(times),
    }


async def ask(port: int, files: dict[str, str], path: str, more: str = "", then: bytes = b"") -> bytes:
    """What comes back within a moment from a client with a certificate."""
    context = client_context(files, certificate=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(request(path, more))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.write(then)
    try:
        answer += await asyncio.wait_for(reader.read(1 << 16), 1)
    except (TimeoutError, ConnectionError, ssl.SSLError):
        answer += b""
    writer.close()
    return answer


# --- the whole


def make_files(directory: Path) -> dict[str, str]:
    from twinstack.ip import Address
    from twinstack.pki.ca import CertificateAuthority

    authority = CertificateAuthority.create("bench")
    certificate, key = authority.issue("server", addresses=[Address.parse("127.0.0.1")], server=True)
    client, client_key = authority.issue("bench-user", client=True)
    contents = {
        "authority": authority.certificate_pem,
        "certificate": certificate,
        "key": key,
        "client": client,
        "client_key": client_key,
    }
    for name, data in contents.items():
        (directory / name).write_bytes(data)
    return {name: str(directory / name) for name in contents}


def summary(rounds: list[dict[str, float | bool]]) -> dict[str, float | bool]:
    """The median of each figure; a capability counts when every round had it."""
    result: dict[str, float | bool] = {}
    for name, first in rounds[0].items():
        values = [each[name] for each in rounds]
        result[name] = all(values) if isinstance(first, bool) else round(statistics.median(values), 2)
    return result


def report(results: dict[str, dict[str, float | bool]]) -> None:
    names = list(next(iter(results.values())))
    print(f"{'':24}" + "".join(f"{contender:>26}" for contender in results))
    base = results[CONTENDERS[0]]
    for name in names:
        cells = []
        for figures in results.values():
            value, reference = figures[name], base[name]
            if isinstance(value, bool):
                cells.append("yes" if value else "no")
            else:
                cells.append(f"{value:.1f} ({value / reference:.2f}x)")
        print(f"{name:24}" + "".join(f"{cell:>26}" for cell in cells))


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--watches", type=int, default=1_000)
    args = parser.parse_args()
    contenders = [each for each in CONTENDERS if importlib.util.find_spec(each.split("/")[0])]
    rounds: dict[str, list[dict[str, float | bool]]] = {each: [] for each in contenders}
    with tempfile.TemporaryDirectory() as directory:
        files = make_files(Path(directory))
        for _ in range(args.rounds):
            for each in contenders:  # interleaved: what else the machine does hits all alike
                rounds[each].append(uvloop.run(measure(each, files, args.requests, args.watches)))
    results = {each: summary(figures) for each, figures in rounds.items()}
    report(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"cpus": os.cpu_count(), "python": sys.version, "results": results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
