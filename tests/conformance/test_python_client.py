"""A session of the official Python client 37, typed as objects, dynamic client and watch, with its answers.

The client (tests/conformance/python_client.py) tells what it asked and what it got; both must be as recorded but for
what a server chooses, and groups that this server does not have.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conformance.wire import Chosen, differences
from tests.server_process import HOST, TOKEN, Server

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("sessions") / "python-client-37.jsonl.xz"
PROGRAM = Path(__file__).with_name("python_client.py")
CLIENT = Path(sys.executable).parent.parent / "clients" / "python"
RECORDED_PORT = 16443
GROUP = re.compile(r"/apis/[^/]+/v1")
# Answers that are about the server, or about what else it holds.
UNCOMPARED = re.compile(
    r"/version|/apis|/apis/discovery\.k8s\.io/v1/endpointslices\?limit=1|/apis/networking\.k8s\.io/v1/servicecidrs"
)


def asked(row: JSON) -> str:
    path = re.sub(r"(timeoutSeconds|resourceVersion)=\d+", r"\1=N", row["path"])
    return f"{row['method']} {path} {row['type'] or ''} {row['status']}"


def in_order(rows: list[JSON]) -> list[JSON]:
    """Groups are asked about in the order in which a server names them, which is not always the same."""
    groups = [row for row in rows if GROUP.fullmatch(row["path"])]
    first = rows.index(groups[0])
    return rows[:first] + sorted(groups, key=lambda row: str(row["path"])) + rows[first + len(groups) :]


def run_client(server: Server) -> list[JSON]:
    access = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": f"https://{HOST}:{server.port}",
                    "certificate-authority": str(server.certificate),
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    kubeconfig = server.directory / "kubeconfig"
    kubeconfig.write_text(json.dumps(access))
    environment = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "HOME": str(server.directory),
        "TMPDIR": str(server.directory),
        "PYTHONPATH": str(CLIENT),
    }
    done = subprocess.run(
        [sys.executable, PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_python_client_asks_and_is_answered_as_recorded(tmp_path: Path) -> None:
    with lzma.open(RECORDING, "rt", encoding="utf-8") as lines:
        recorded = in_order(list(map(json.loads, lines)))
    server = Server(tmp_path, "--advertise-address=10.9.9.9")
    with server.running():
        here = in_order(run_client(server))
    assert [asked(row) for row in here] == [asked(row) for row in recorded]
    chosen = Chosen((RECORDED_PORT, server.port))
    different = [
        f"{row['method']} {row['path']} {found}"
        for row, other in zip(recorded, here, strict=True)
        if isinstance(row["answer"], dict) and not UNCOMPARED.fullmatch(row["path"])
        for found in differences(chosen, row["answer"], other["answer"])
    ]
    assert not different, f"{len(different)} differ\n" + "\n".join(different)
