"""Images made of this machine's own programs: no download.

`twinstack.local/busybox` is the static busybox of Debian's busybox-static with a link for each of its applets, an image
like any other. `twinstack.local/host` is the machine's root file system itself, below an overlay; the masks are the
directories that no container is shown. It is for trying and testing: what lies outside the masks is readable in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twinstack.node.images.manifests import ImageConfig, machine_platform

if TYPE_CHECKING:
    from tarfile import TarInfo

    from twinstack.node.images.store import Image, ImageStore

DOMAIN = "twinstack.local"  # no registry: nothing is pulled from it
HOST, BUSYBOX = f"{DOMAIN}/host:latest", f"{DOMAIN}/busybox:latest"
NAMES = (BUSYBOX, HOST)
MASKS = ("/root", "/home", "/work", "/run", "/tmp", "/var/log")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EPOCH = "1970-01-01T00:00:00Z"
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
_DIRECTORIES = {"dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755, "tmp": 0o1777}
_PT_INTERP = 3


def host(hidden: Sequence[str]) -> Image:
    """The machine itself; `hidden`: masks besides the usual ones."""
    from twinstack.node.images.store import Image

    id_ = f"sha256:{hashlib.sha256(HOST.encode()).hexdigest()}"
    config = ImageConfig(environment=(PATH,), working_directory="/")
    return Image(id_, (HOST,), (Path("/"),), 0, config, (*MASKS, *hidden))


def add_busybox(store: ImageStore) -> Image | None:
    """Make the image if the machine has a static busybox, None if not. Raises OSError."""
    program = static_busybox()
    if program is None:
        return None
    import subprocess

    applets = subprocess.run([program, "--list-full"], capture_output=True, text=True, check=True, timeout=10)
    layer = busybox_layer(Path(program).read_bytes(), applets.stdout.split())
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    its = machine_platform()
    config = {
        "created": _EPOCH,
        "os": its.os,
        "architecture": its.architecture,
        "config": {"Env": [PATH], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    with store.importing():
        store.add_layer(diff_id, lambda: io.BytesIO(layer))
        return store.add_image(json.dumps(config).encode(), [BUSYBOX])


def static_busybox() -> str | None:
    """The path of one that needs no libraries."""
    program = shutil.which("busybox")
    return program if program is not None and is_static(Path(program)) else None


def is_static(program: Path) -> bool:
    """Whether an ELF program of 64 bits names no loader (elf(5): it has no PT_INTERP header)."""
    with program.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:5] != b"\x7fELF\x02":
            return False
        order = "<" if head[5] == 1 else ">"
        (table,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
        file.seek(table)
        headers = file.read(size * count)
    kinds = [struct.unpack_from(f"{order}I", headers, at)[0] for at in range(0, len(headers) - 3, size)]
    return _PT_INTERP not in kinds


def busybox_layer(program: bytes, applets: list[str]) -> bytes:
    """A tar archive, the same for the same busybox. `applets`: paths like bin/ls."""
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        places = {os.path.dirname(path) for path in applets} | {"bin", "usr", "var"}
        for path, mode in sorted(dict.fromkeys(places - {""}, 0o755).items() | _DIRECTORIES.items()):
            archive.addfile(_entry(path, tarfile.DIRTYPE, mode))
        for path, text in _FILES.items():
            data = text.encode()
            archive.addfile(_entry(path, tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))
        archive.addfile(_entry("bin/busybox", tarfile.REGTYPE, 0o755, len(program)), io.BytesIO(program))
        for path in sorted(set(applets) - {"bin/busybox"}):
            link = _entry(path, tarfile.SYMTYPE, 0o777)
            link.linkname = "/bin/busybox"
            archive.addfile(link)
    return out.getvalue()


def _entry(path: str, kind: bytes, mode: int, size: int = 0) -> TarInfo:
    import tarfile

    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry
