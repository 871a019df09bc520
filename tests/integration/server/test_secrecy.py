"""What nobody but the server's owner may read: not in its log at any verbosity, not in files of others."""

from __future__ import annotations

import base64
import http.client
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server_process import HOST, TOKEN, Server

SECRET = "c29tZXRoaW5nIHByaXZhdGU"
WRONG = "eyJhbGciOiJSUzI1NiJ9.eyJ3cm9uZyI6InRva2VuIn0.c2lnbmF0dXJl"
SECRETS = "/api/v1/namespaces/default/secrets"
ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"


class Asker:
    """Requests with headers of their own, each on a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __call__(self, method: str, path: str, body: str = "", token: str = TOKEN, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPSConnection(HOST, self._server.port, timeout=30, context=self._server.context())
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            if token:
                fields["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body or None, {"Content-Type": "application/json"} | fields)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), "--v", "4")
    with server.running():
        yield server


def test_the_log_tells_no_secrets(server: Server) -> None:
    ask = Asker(server)
    issued = provoke(ask)
    keys = [path.read_text() for path in server.directory.rglob("*.key")]
    assert keys
    lines = [line for text in keys for line in text.splitlines() if not line.startswith("-----")]
    log = server.log()
    assert "a bearer token was refused" in log, "it does log"
    told = [word for word in (TOKEN, SECRET, WRONG, *issued, *lines) if word in log]
    assert told == []
    assert base64.b64decode(SECRET + "=").decode() not in log
    assert re.findall(r"(?i)bearer [\w.-]{12,}", log) == []
    assert "Traceback" not in log


def provoke(ask: Asker) -> list[str]:
    """Everything with a secret in it that a server might be tempted to log; returns tokens that it issued."""
    data = json.dumps({"metadata": {"name": "a"}, "data": {"password": f"{SECRET}="}})
    assert ask("POST", SECRETS, data)[0] == 201
    assert ask("POST", SECRETS, data[:-9])[0] == 400
    assert ask("POST", SECRETS, data.replace('"a"', '"A_"'))[0] == 422
    assert ask("POST", SECRETS, data.replace(f'"{SECRET}="', f'["{SECRET}"]'))[0] == 400
    assert ask("GET", f"{SECRETS}/a", token=WRONG)[0] == 401
    assert ask("GET", f"{SECRETS}/a?access_token={WRONG}")[0] == 200
    assert ask("GET", f"{SECRETS}?fieldSelector=data.password%3D{SECRET}")[0] == 400
    assert ask("GET", f"{SECRETS}/a", Impersonate_User="alice", Impersonate_Extra_Token=SECRET)[0] in (200, 403)
    assert ask("GET", f"{SECRETS}/a", token="", Cookie=f"session={SECRET}", Authorization=f"Basic {SECRET}")[0] in (
        401,
        403,
    )
    protocol = f"base64url.bearer.authorization.k8s.io.{base64.urlsafe_b64encode(WRONG.encode()).decode().rstrip('=')}"
    ask(
        "GET",
        f"{SECRETS}?watch=1",
        token="",
        Sec_WebSocket_Protocol=protocol,
        Upgrade="websocket",
        Connection="Upgrade",
    )
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": WRONG}}
    ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", json.dumps(review))
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    made = ask("POST", "/api/v1/namespaces/default/serviceaccounts", json.dumps({"metadata": {"name": "default"}}))
    assert made[0] in (201, 409)
    code, answer = ask("POST", f"{ACCOUNT}/token", json.dumps(request))
    assert code == 201, answer
    token = json.loads(answer)["status"]["token"]
    ask("GET", f"{SECRETS}/a", token=token)
    ask("GET", f"{SECRETS}/a", token=token[:-4])
    assert ask("DELETE", f"{SECRETS}/a")[0] == 200
    return [token, token.rpartition(".")[2]]


def test_files_are_their_owners_alone(server: Server) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    made = [path for path in server.directory.rglob("*") if path.name not in ("log", "tokens.csv", "cache")]
    public = {".crt", ".pub"}
    assert {"state.db", "state.db-wal", "apiserver.key", "sa.key"} <= {path.name for path in made}
    readable = [path for path in made if path.is_file() and path.suffix not in public and mode(path) & 0o077]
    assert readable == []
    assert [path for path in made if path.is_dir() and mode(path) != 0o700] == []
