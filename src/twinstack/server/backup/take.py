"""Copy all that a running server stores on SQLite into a file.

    twinstack server backup state.backup --kubeconfig FILE

The server goes on meanwhile; the user of the kubeconfig must be one of its administrators. The file holds every
secret of the cluster and is readable by its owner alone. It appears under its name once it is whole and checked.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from twinstack.client import kubeconfig, tls
from twinstack.client.kubeconfig import ClusterAccess, KubeconfigError
from twinstack.server.backup.page import PATH
from twinstack.store import StoreError
from twinstack.store.backups import Contents, inspect
from twinstack.store.database import sync_directory

_PATIENCE = 60.0  # seconds that the server may say nothing
_CHUNK = 1 << 20  # bytes


class BackupError(Exception):
    """No backup was made; the message says why."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="where the backup goes; replaced if it is there")
    parser.add_argument(
        "--kubeconfig", default=os.environ.get("KUBECONFIG", ""), metavar="FILE", help="the server; default $KUBECONFIG"
    )


def run(args: argparse.Namespace) -> int:
    try:
        if not args.kubeconfig:
            raise BackupError("which server? Give --kubeconfig FILE, or set KUBECONFIG")
        contents = take(kubeconfig.load(args.kubeconfig), args.file)
    except (BackupError, KubeconfigError, StoreError) as error:
        sys.stderr.write(f"twinstack: {error}\n")
        return 1
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"twinstack: no backup was made: {str(error) or type(error).__name__}\n")
        return 1
    sys.stdout.write(f"{args.file}: {contents.records} records up to revision {contents.revision}\n")
    return 0


def take(access: ClusterAccess, file: Path) -> Contents:
    """Raises BackupError, KubeconfigError, StoreError, OSError and HTTPException; `file` is then as it was."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as into:
            _download(access, into)
            into.flush()
            os.fsync(into.fileno())
        contents = inspect(temporary)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(str(file))
    return contents


def _download(access: ClusterAccess, into: IO[bytes]) -> None:
    """A chunked answer that is cut off raises HTTPException."""
    url = urlsplit(access.server)
    connection = http.client.HTTPSConnection(
        url.hostname or "", url.port or 443, timeout=_PATIENCE, context=tls.context(access)
    )
    try:
        connection.request("GET", PATH, headers=_authorization(access))
        answer = connection.getresponse()
        if answer.status != 200:
            raise BackupError(_refusal(answer.status, answer.read()))
        while chunk := answer.read(_CHUNK):
            into.write(chunk)
    finally:
        connection.close()


def _authorization(access: ClusterAccess) -> dict[str, str]:
    token = Path(access.token_file).read_text(encoding="ascii").strip() if access.token_file else access.token
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refusal(code: int, body: bytes) -> str:
    if code == 404:
        return "the server has no store of its own to back up: on etcd, use `etcdctl snapshot save`"
    try:
        return f"the server refuses: {json.loads(body)['message']}"
    except (ValueError, KeyError, TypeError):
        return f"the server answers {code}"
