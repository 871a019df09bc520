"""How a proxy in a Pod finds its API server."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinstack.client import kubeconfig
from twinstack.proxy.command import _access
from twinstack.proxy.configuration import Configuration


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pod's files, and the variables that a kubelet sets."""
    for name in ("ca.crt", "namespace"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1")


@pytest.mark.usefixtures("pod")
def test_the_way_to_the_api_server_must_not_be_its_service(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _access(Configuration("n", master="https://[fd00::1]:6443/")).server == "https://[fd00::1]:6443"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "172.30.0.1")  # as the manifest of the DaemonSet may say
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert _access(Configuration("n")).server == "https://172.30.0.1:6443"
    assert not caplog.records
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert _access(Configuration("n")).server == "https://10.96.0.1:6443"  # it works where tables are left over
    (record,) = caplog.records
    assert "answers only where a proxy has run" in record.message
