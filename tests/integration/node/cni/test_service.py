"""The executable and the service behind it, where the other one or its words are not as they should be."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from twinstack.node.cni import service
from twinstack.node.cni.install import PERL, install

VERSION = {"CNI_COMMAND": "VERSION"}
LANGUAGES = pytest.mark.parametrize("perl", [PERL, Path("/none")], ids=["perl", "python"])


@LANGUAGES
def test_the_executable_says_when_the_service_dies_in_the_middle(tmp_path: Path, perl: Path) -> None:
    """So that the runtime tries again; and nothing that was sent is lost on the way."""
    executable = install(tmp_path / "bin", str(tmp_path / "socket"), perl)
    config = json.dumps({"cniVersion": "1.0.0", "filler": "x" * 3_000_000}).encode()
    heard = bytearray()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()

        def hear() -> None:
            connection, _ = listener.accept()
            with connection:
                while part := connection.recv(1 << 16):
                    heard.extend(part)

        thread = threading.Thread(target=hear)
        thread.start()
        environment = {"CNI_COMMAND": "ADD", "CNI_ARGS": "A=1", "SECRET": "no"}
        done = subprocess.run([executable], input=config, env=environment, capture_output=True, check=False, timeout=60)
        thread.join()
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 11
    variables, _, text = bytes(heard).partition(b"\0\0")
    assert set(variables.split(b"\0")) == {b"CNI_COMMAND=ADD", b"CNI_ARGS=A=1"}
    assert text == config


@LANGUAGES
def test_the_executable_does_without_a_service(tmp_path: Path, perl: Path) -> None:
    executable = install(tmp_path / "bin", str(tmp_path / "none"), perl)
    assert install(tmp_path / "bin", str(tmp_path / "none"), perl) == executable  # again, in its place
    assert os.listdir(tmp_path / "bin") == ["twinstack-cni"]
    done = subprocess.run(
        [executable], input=b'{"cniVersion": "0.3.1"}', env=VERSION, capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout)["cniVersion"] == "0.3.1"


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[None]:
    server = service.listen(path)
    try:
        yield
    finally:
        server.close()


def ask(path: Path, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        try:
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while part := client.recv(1 << 16):
                answer += part
        except (BrokenPipeError, ConnectionResetError):
            return b""
    return answer


@LANGUAGES
def test_what_the_service_is_told(tmp_path: Path, perl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "socket"
    monkeypatch.setattr(service, "LONGEST_CALL", 1 << 16)

    async def main() -> None:
        async with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            with pytest.raises(FileExistsError):
                service.listen(path)
            for words, answer in (
                (b"CNI_COMMAND=VERSION\0\0{}", b'0{"cniVersion": "1.1.0"'),
                (b"CNI_COMMAND=NO\0\0{}", b"1{"),
                (b"CNI_COMMAND=ADD\0CNI_CONTAINERID=\xff\0\0", b"1{"),
                (b"", b""),
                (b"\0\0\0", b""),
                (b"nonsense", b""),
                (b"CNI_COMMAND=VERSION\0\0" + b"x" * (1 << 17), b""),
            ):
                said = await asyncio.to_thread(ask, path, words)
                assert said.startswith(answer), words[:30]
                assert bool(said) == bool(answer), words[:30]
            executable = install(tmp_path / "bin", str(path), perl)
            called = asyncio.to_thread(subprocess.run, [executable], env=VERSION, input=b"", capture_output=True)
            assert json.loads((await called).stdout)["cniVersion"] == "1.1.0"
        async with serving(path):  # over the socket that a killed one has left
            assert (await asyncio.to_thread(ask, path, b"CNI_COMMAND=VERSION\0\0{}"))[:1] == b"0"

    asyncio.run(main())
