"""exec, attach, cp, logs, port-forward and proxies as a person types them, with real kubectl over every transport."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cluster import ANSWERING, BIN, PATIENCE, Cluster, http, until
from tests.e2e.terminal import Terminal

from twinstack.ip import Address

IMAGE = "twinstack.local/host"
POD = "streams"
PROMPT = "$ "
FORCED_SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
TRANSPORTS = pytest.mark.parametrize("transport", [{}, FORCED_SPDY], ids=["websocket", "spdy"])
# One port a family: the server on 8004 does not know IPv6, and the one on 8006 knows nothing else.
SERVE = """
import http.server, socket, threading

class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.server.server_port} {self.path}\\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *words):
        pass

class Six(Server):
    address_family = socket.AF_INET6

six, four = Six(("::", 8006), Handler), Server(("0.0.0.0", 8004), Handler)
print("serving", flush=True)
threading.Thread(target=six.serve_forever).start()
four.serve_forever()
"""


def pod(name: str, command: list[str], **more: Any) -> dict[str, Any]:
    container = {"name": "c", "image": IMAGE, "command": command}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **more},
    }


@pytest.fixture(scope="module")
def cluster(dual: Cluster) -> Iterator[Cluster]:
    """The cluster with a pod that serves each family on a port of its own, and a Service for each."""
    dual.apply(pod(POD, ["python3", "-c", SERVE]))
    for family, port in (("IPv4", 8004), ("IPv6", 8006)):
        spec = {"selector": {"app": POD}, "ipFamilies": [family], "ports": [{"port": 80, "targetPort": port}]}
        name = f"{POD}-{family.lower()}"
        dual.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    dual.kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=60s")
    until(lambda: "serving" in dual.kubectl("logs", POD), "the pod serves")
    for family in ("ipv4", "ipv6"):
        (address,) = dual.addresses(f"{POD}-{family}")
        until(lambda address=address: dual.answers(address), "its Services are known")  # type: ignore[misc]
    yield dual
    dual.kubectl("delete", f"pod/{POD}", f"service/{POD}-ipv4", f"service/{POD}-ipv6")


def kubectl(
    cluster: Cluster, *words: str, transport: dict[str, str] | None = None, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [str(BIN / "kubectl"), *words],
        env=cluster.environment | (transport or {}),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def on_terminal(cluster: Cluster, *words: str, transport: dict[str, str] | None = None) -> Terminal:
    environment = cluster.environment | (transport or {})
    return Terminal([str(BIN / "kubectl"), *words], environment, columns=101, rows=33)


# -- exec


@TRANSPORTS
def test_exec_gives_streams_and_exit_code(cluster: Cluster, transport: dict[str, str]) -> None:
    done = kubectl(cluster, "exec", POD, "--", "sh", "-c", "echo out; echo err >&2; exit 3", transport=transport)
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr == b"err\ncommand terminated with exit code 3\n"
    blob = os.urandom(3_000_000)
    done = kubectl(cluster, "exec", "-i", POD, "--", "cat", transport=transport, stdin=blob)
    assert (done.returncode, done.stdout == blob) == (0, True)
    done = kubectl(cluster, "exec", POD, "--", "nosuch", transport=transport)
    assert done.returncode == 1
    assert b'exec: "nosuch": executable file not found in $PATH' in done.stderr


@TRANSPORTS
def test_exec_on_a_terminal(cluster: Cluster, transport: dict[str, str]) -> None:
    with on_terminal(cluster, "exec", "-it", POD, "--", "sh", transport=transport) as terminal:
        terminal.until("# ")
        until(lambda: _size(terminal) == "33 101", "the size of the window, which comes beside what is typed")
        terminal.type("tty; echo $TERM\r")
        terminal.until("\r\n/dev/pts/")
        terminal.until("xterm\r\n")
        terminal.resize(90, 20)
        until(lambda: _size(terminal) == "20 90", "the new size of the window")
        terminal.type("sleep 100\r")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.type("echo code $?\r")
        terminal.until("code 130\r\n")
        terminal.type("exit 5\r")
        assert terminal.wait() == 5


def _size(terminal: Terminal) -> str:
    terminal.type("echo; stty size; echo do''ne\r")
    return terminal.until("\r\ndone").splitlines()[-1]


@TRANSPORTS
@pytest.mark.parametrize("flags", [[], ["-i"]], ids=["plain", "stdin"])
def test_a_kubectl_that_is_killed_takes_its_program_along(
    cluster: Cluster, transport: dict[str, str], flags: list[str]
) -> None:
    mark = f"51{os.getpid()}{len(flags)}"
    words = [str(BIN / "kubectl"), "exec", *flags, POD, "--", "sleep", mark]
    with subprocess.Popen(words, env=cluster.environment | transport, stdin=subprocess.PIPE) as process:
        until(lambda: _sleeps(mark), "the program runs")
        process.send_signal(signal.SIGKILL)
        until(lambda: not _sleeps(mark), "the program has ended")


def _sleeps(mark: str) -> bool:
    wanted = f"sleep\0{mark}\0".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if path.read_bytes() == wanted:
                return True
    return False


# -- run and attach


@TRANSPORTS
def test_run_rm_it(cluster: Cluster, transport: dict[str, str]) -> None:
    name = f"shell-{len(transport)}"
    words = ["run", "--rm", "-it", name, f"--image={IMAGE}", "--restart=Never", "--command", "--", "sh"]
    with on_terminal(cluster, *words, transport=transport) as terminal:
        terminal.until("# ")
        until(lambda: _size(terminal) == "33 101", "the size of the window")
        terminal.type("hostname\r")
        terminal.until(f"\r\n{name}\r\n")
        terminal.resize(70, 40)
        until(lambda: _size(terminal) == "40 70", "the new size of the window")
        terminal.type("exit 7\r")
        assert terminal.wait() == 7
        assert f'pod "{name}" deleted' in terminal.said
    assert kubectl(cluster, "get", "pod", name).returncode == 1


@TRANSPORTS
def test_run_rm_with_input_from_a_pipe(cluster: Cluster, transport: dict[str, str]) -> None:
    name = f"pipe-{len(transport)}"
    words = ["run", "--rm", "-i", name, f"--image={IMAGE}", "--restart=Never", "--command", "--"]
    lines = b"".join(b"%06d\n" % number for number in range(100_000, 0, -1))
    done = kubectl(cluster, *words, "sh", "-c", "sort; exit 4", transport=transport, stdin=lines)
    assert done.returncode == 4
    assert done.stdout.startswith(b"".join(sorted(lines.splitlines(keepends=True))))


def test_attach_to_a_shell_that_goes_on(cluster: Cluster) -> None:
    manifest = pod("lasting", ["sh"])
    manifest["spec"]["containers"][0] |= {"stdin": True, "tty": True}
    cluster.apply(manifest)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/lasting", "--timeout=60s")
    try:
        for number in "12":
            with on_terminal(cluster, "attach", "-it", "lasting") as terminal:
                terminal.until("try pressing enter.")
                terminal.type(f"echo visit {number} $LAST; LAST={number}\r")
                terminal.until(f"visit {number} {'' if number == '1' else '1'}".rstrip() + "\r\n")
        assert "visit 2 1" in cluster.kubectl("logs", "lasting")
    finally:
        cluster.kubectl("delete", "pod", "lasting")


# -- cp


@TRANSPORTS
def test_copies_there_and_back(cluster: Cluster, transport: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "blob").write_bytes(os.urandom(2_000_000))
    (source / "below" / "text").write_text("hello\n")
    target = f"{POD}:/srv/copy-{len(transport)}"
    assert kubectl(cluster, "cp", str(source), target, transport=transport).returncode == 0
    assert kubectl(cluster, "cp", target, str(tmp_path / "back"), transport=transport).returncode == 0
    for name in ("blob", "below/text"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


# -- port-forward


@contextmanager
def forwarded(cluster: Cluster, what: str, port: int, transport: dict[str, str]) -> Iterator[int]:
    words = [str(BIN / "kubectl"), "port-forward", what, f":{port}"]
    environment = cluster.environment | transport
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first, second = process.stdout.readline(), process.stdout.readline()
            assert first.startswith("Forwarding from 127.0.0.1:"), first
            assert second.startswith("Forwarding from [::1]:"), second
            yield int(first.split(":")[1].split()[0])
        finally:
            process.kill()


@TRANSPORTS
@pytest.mark.parametrize(
    ("what", "port", "there"),
    [(f"pod/{POD}", 8004, 8004), (f"pod/{POD}", 8006, 8006), (f"svc/{POD}-ipv6", 80, 8006)],
)
def test_port_forward(cluster: Cluster, transport: dict[str, str], what: str, port: int, there: int) -> None:
    with forwarded(cluster, what, port, transport) as local:
        for host in ("127.0.0.1", "::1"):
            for number in range(5):
                address = Address.parse(host)
                assert _http_path(address, local, f"/{number}") == f"{there} /{number}\n"


def _http_path(address: Address, port: int, path: str) -> str:
    with socket.create_connection((str(address), port), timeout=ANSWERING) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer.partition(b"\r\n\r\n")[2].decode()


def test_port_forward_to_a_port_that_nobody_listens_on(cluster: Cluster) -> None:
    words = [str(BIN / "kubectl"), "port-forward", f"pod/{POD}", ":9"]
    with subprocess.Popen(words, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        local = int(process.stdout.readline().split(b":")[1].split()[0])
        with pytest.raises(ConnectionError):
            http(Address.parse("127.0.0.1"), local)
        assert process.wait(PATIENCE) == 1
        said = process.stderr.read()
        assert b"connection refused" in said


# -- logs


def test_logs(cluster: Cluster) -> None:
    script = "for n in 1 2 3; do echo line $n; done; until [ -e /tmp/go ]; do sleep 0.1; done; echo late; exit 1"
    cluster.apply(pod("talker", ["sh", "-c", script], restartPolicy="OnFailure"))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
        until(lambda: "line 3" in cluster.kubectl("logs", "talker"), "it talks")
        assert cluster.kubectl("logs", "--tail=2", "talker") == "line 2\nline 3\n"
        assert cluster.kubectl("logs", "--since=1h", "talker") == "line 1\nline 2\nline 3\n"
        stamped = cluster.kubectl("logs", "--timestamps", "--tail=1", "talker")
        assert stamped.split(" ", 1)[0].endswith("Z")
        cluster.kubectl("logs", "--since-time=tomorrow", "talker", expect=1)
        time.sleep(1.2)
        assert cluster.kubectl("logs", "--since=1s", "talker") == ""
        words = [str(BIN / "kubectl"), "logs", "-f", "--tail=1", "talker"]
        with subprocess.Popen(words, env=cluster.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "line 3\n"
            cluster.kubectl("exec", "talker", "--", "touch", "/tmp/go")
            assert process.stdout.read() == "late\n"
        until(
            lambda: cluster.get("pod", "talker")["status"]["containerStatuses"][0]["restartCount"] == 1, "it restarts"
        )
        assert cluster.kubectl("logs", "--previous", "talker") == "line 1\nline 2\nline 3\nlate\n"
    finally:
        cluster.kubectl("delete", "pod", "talker")


def test_logs_of_a_reader_who_pauses(cluster: Cluster) -> None:
    """`kubectl logs -f | less`: nothing is lost, and nothing is cut off."""
    cluster.apply(pod("chatty", ["sh", "-c", "seq 1 400000; sleep 60"]))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/chatty", "--timeout=60s")
        words = [str(BIN / "kubectl"), "logs", "-f", "chatty"]
        with subprocess.Popen(words, env=cluster.environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            time.sleep(2)
            lines = [process.stdout.readline() for _ in range(400_000)]
            process.kill()
        assert lines == [b"%d\n" % number for number in range(1, 400_001)]
    finally:
        cluster.kubectl("delete", "pod", "chatty")


# -- proxies


def test_proxies(cluster: Cluster) -> None:
    base = "/api/v1/namespaces/default"
    for path, answer in (
        (f"{base}/pods/{POD}:8004/proxy/a?b=c", "8004 /a?b=c\n"),
        (f"{base}/pods/http:{POD}:8006/proxy/", "8006 /\n"),
        (f"{base}/services/{POD}-ipv4/proxy/x", "8004 /x\n"),
        (f"{base}/services/{POD}-ipv6:80/proxy/x", "8006 /x\n"),
    ):
        assert cluster.kubectl("get", "--raw", path) == answer
    posted = kubectl(cluster, "create", "--raw", f"{base}/services/{POD}-ipv6/proxy/p", "-f", "-", stdin=b"{}")
    assert posted.stdout == b"8006 /p\n"
    node = f"/api/v1/nodes/{cluster.name}-1/proxy"
    assert cluster.kubectl("get", "--raw", f"{node}/healthz") == "ok"
    assert json.loads(cluster.kubectl("get", "--raw", f"{node}/pods"))["kind"] == "PodList"
    for path, words in (
        (f"{base}/services/hello:81/proxy/", 'no service port 81 found for service "hello"'),
        (f"{base}/pods/{POD}:9/proxy/", "error trying to reach service: dial tcp"),
    ):
        done = kubectl(cluster, "get", "--raw", path)
        assert done.returncode == 1
        assert words in done.stderr.decode()


def test_debug(cluster: Cluster) -> None:
    words = ["debug", POD, f"--image={IMAGE}", "--quiet"]
    script = "for _ in $(seq 20); do sleep 0.1; hostname; done"  # whoever attaches late, sees the rest
    assert set(cluster.kubectl(*words, "-c", "first", "--attach", "--", "sh", "-c", script).split()) == {POD}
    assert cluster.kubectl(*words, "-c", "second", "-i", "--", "sh", stdin="echo typed; exit\n") == "typed\n"
    assert "Ephemeral Containers:\n  first:" in cluster.kubectl("describe", "pod", POD)
