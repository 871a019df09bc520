"""A client of the Container Runtime Interface (runtime.v1), as far as pod sandboxes go: messages encoded by hand."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

from twinstack.store.etcd.http2 import Code, Connection, Ended
from twinstack.store.etcd.protobuf import exact_bytes, fields, number, octets

PAUSE_IMAGE = "twinstack.local/pause:1"
_SERVICE = "/runtime.v1.RuntimeService/"
_PATIENCE = 60.0


class CallFailed(Exception):
    """A gRPC status other than OK."""


class Runtime:
    """A runtime that listens at a unix socket. One call at a time."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def run_sandbox(self, name: str, ports: list[tuple[int, int]]) -> str:
        """The sandbox's id. `ports`: of the node and of the pod."""
        metadata = octets(1, name.encode()) + octets(2, f"uid-{name}".encode()) + octets(3, b"default")
        config = octets(1, metadata) + octets(2, name.encode())
        for host, container in ports:
            config += octets(5, number(2, container) + number(3, host))
        config += exact_bytes(8, b"")  # no setting of Linux, but there must be some
        return self._text(self._call("RunPodSandbox", octets(1, config)), 1)

    def addresses(self, sandbox: str) -> list[str]:
        """Main address first."""
        status = self._bytes(self._call("PodSandboxStatus", octets(1, sandbox.encode())), 1)
        network = self._bytes(status, 5)
        more = [value for kind, value in fields(network) if kind == 2]
        return [self._text(network, 1), *(self._text(entry, 1) for entry in more if isinstance(entry, bytes))]

    def network_ready(self) -> bool:
        status = self._bytes(self._call("Status", b""), 1)
        for _, condition in fields(status):
            assert isinstance(condition, bytes)
            found = dict(fields(condition))
            if found[1] == b"NetworkReady":
                return bool(found.get(2))
        return False

    def remove_sandbox(self, sandbox: str) -> None:
        self._call("StopPodSandbox", octets(1, sandbox.encode()))
        self._call("RemovePodSandbox", octets(1, sandbox.encode()))

    def _bytes(self, message: bytes, field: int) -> bytes:
        value = dict(fields(message)).get(field, b"")
        assert isinstance(value, bytes)
        return value

    def _text(self, message: bytes, field: int) -> str:
        return self._bytes(message, field).decode()

    def _call(self, method: str, request: bytes) -> bytes:
        return asyncio.run(self._exchange(_SERVICE + method, request))

    async def _exchange(self, path: str, request: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: Connection("http", "localhost"), str(self._socket))
        ended: asyncio.Future[Ended] = loop.create_future()
        answers: list[bytes] = []
        try:
            connection.open(path, request, answers.append, ended.set_result, last=True)
            async with asyncio.timeout(_PATIENCE):
                how = await ended
        finally:
            connection.close("done")
            await connection.closed
        if how.code != Code.OK:
            raise CallFailed(f"{path}: {how.code} {how.message}")
        return b"".join(answers)


def pause_image() -> bytes:
    """An archive with an image of one program that does nothing, for ever."""
    layer = _tar({"pause": (_pause_program(), 0o755)})
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    blobs: dict[str, bytes] = {}

    def add(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)} | more

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add("config.v1+json", json.dumps(config).encode()),
        "layers": [add("layer.v1.tar", layer)],
    }
    names = {"io.containerd.image.name": PAUSE_IMAGE}
    index = {
        "schemaVersion": 2,
        "manifests": [add("manifest.v1+json", json.dumps(manifest).encode(), annotations=names)],
    }
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()} | blobs
    return _tar({name: (data, 0o644) for name, data in files.items()})


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _pause_program() -> bytes:
    """A static ELF program: pause(2) in a loop."""
    if os.uname().machine == "aarch64":  # ppoll(NULL, 0, NULL, NULL), there is no pause
        machine, code = 183, struct.pack("<6I", 0xD2800000, 0xD2800001, 0xD2800002, 0xD2800928, 0xD4000001, 0x17FFFFFB)
    else:
        machine, code = 62, bytes.fromhex("b822000000 0f05 ebf7")
    base, offset = 0x400000, 64 + 56
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + offset, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = offset + len(code)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code
