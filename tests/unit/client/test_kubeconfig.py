from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from twinstack.client import kubeconfig
from twinstack.client.kubeconfig import KubeconfigError, load


def document(**user: Any) -> dict[str, Any]:
    return {
        "current-context": "a",
        "contexts": [
            {"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
            {"name": "b", "context": {"cluster": "d", "user": "u"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://[fd00::1]:6443/", "certificate-authority-data": _b64("CA")}},
            {"name": "d", "cluster": {"server": "https://d:1", "insecure-skip-tls-verify": True}},
        ],
        "users": [{"name": "u", "user": user}],
    }


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_json_with_inline_data(tmp_path: Path) -> None:
    access = load(write(tmp_path, document(**{"client-certificate-data": _b64("C"), "client-key-data": _b64("K")})))
    assert access.server == "https://[fd00::1]:6443"
    assert (access.ca_data, access.client_cert, access.client_key) == (b"CA", b"C", b"K")
    assert access.namespace == "team"


def test_another_context(tmp_path: Path) -> None:
    access = load(write(tmp_path, document(token="t")), "b")
    assert (access.server, access.insecure, access.token, access.namespace) == ("https://d:1", True, "t", "default")


def test_yaml_with_files_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    for name in ("ca", "cert", "key"):
        (tmp_path / "pki" / name).write_text(name)
    text = """
current-context: x
contexts: [{name: x, context: {cluster: x, user: x}}]
clusters:
- name: x
  cluster: {server: "http://127.0.0.1:8080", certificate-authority: pki/ca}
users:
- name: x
  user: {client-certificate: pki/cert, client-key: pki/key, tokenFile: token}
"""
    access = load(write(tmp_path, text))
    assert (access.ca_data, access.client_cert, access.client_key) == (b"ca", b"cert", b"key")
    assert access.token_file == str(tmp_path / "token")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "neither JSON nor YAML"),
        ("[]", "holds no object"),
        ({}, "no current-context"),
        ({"current-context": "z", "contexts": [{"name": "a"}]}, "no context 'z'; it has: a"),
        (document(exec={}), "kubectl create token"),
        (document(**{"client-certificate-data": _b64("C")}), "needs client-certificate and client-key"),
        (document(**{"client-certificate-data": "%"}), "client-certificate-data is not base64"),
        (document(**{"client-certificate": "absent"}), "cannot read client-certificate absent"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message.replace("'", ".")):
        load(write(tmp_path, content))


def test_a_missing_file_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="--kubeconfig"):
        load(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("host", "url"),
    [("fd00::1", "https://[fd00::1]:443"), ("10.0.0.1", "https://10.0.0.1:443"), ("k", "https://k:443")],
)
def test_in_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "ca.crt").write_text("CA")
    (tmp_path / "namespace").write_text("here\n")
    access = kubeconfig.in_cluster()
    assert (access.server, access.namespace, access.token_file) == (url, "here", str(tmp_path / "token"))


def test_not_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeconfigError, match="not inside a Pod"):
        kubeconfig.in_cluster()
