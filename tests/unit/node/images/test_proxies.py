"""Which servers are reached by a proxy."""

from __future__ import annotations

import pytest

from twinstack.node.images.errors import ImageError
from twinstack.node.images.proxies import Proxy, find

PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}


@pytest.mark.parametrize(
    ("exceptions", "name", "port", "proxied"),
    [
        ("", "registry.example", 443, True),
        ("", "localhost", 443, False),
        ("", "127.0.0.2", 5000, False),
        ("", "::1", 5000, False),
        ("*", "registry.example", 443, False),
        ("example", "registry.example", 443, False),
        ("example", "an-example", 443, True),
        ("a.b, Registry.Example", "registry.example.", 443, False),
        ("registry.example:443", "registry.example", 443, False),
        ("registry.example:5000", "registry.example", 443, True),
        (".example", "registry.example", 443, False),
        (".registry.example", "registry.example", 443, True),
        ("*.example", "registry.example", 443, False),
        ("*.registry.example", "registry.example", 443, True),
        ("10.1.0.0/16", "10.1.2.3", 443, False),
        ("10.1.0.0/16", "10.2.2.3", 443, True),
        ("10.1.0.0/99", "10.1.2.3", 443, True),
        ("fd00::/8", "fd00::7", 443, False),
        ("fd00::/8", "registry.example", 443, True),
        ("10.1.2.3", "10.1.2.3", 443, False),
        ("10.1.2.3:443", "10.1.2.3", 443, False),
        ("10.1.2.3:80", "10.1.2.3", 443, True),
        ("fd00::7", "fd00:0::7", 443, False),
        ("[fd00::7]:443", "fd00::7", 443, False),
        ("[fd00::7]:80", "fd00::7", 443, True),
    ],
)
def test_exceptions(exceptions: str, name: str, port: int, proxied: bool) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        found = find(PROXY | {variable: exceptions}, "https", name, port)
        assert found == (Proxy("proxy.example", 3128) if proxied else None)


def test_variables() -> None:
    assert find({}, "https", "registry.example", 443) is None
    assert find(PROXY, "http", "registry.example", 80) is None
    assert find({"http_proxy": "[fd00::1]:8080"}, "http", "registry.example", 80) == Proxy("fd00::1", 8080)
    secret = {"https_proxy": "http://me:s%40cret@proxy.example"}
    assert find(secret, "https", "registry.example", 443) == Proxy("proxy.example", 80, "Basic bWU6c0BjcmV0")
    for bad in ("socks5://proxy.example", "http://", "http://proxy.example:x"):
        with pytest.raises(ImageError, match="HTTPS_PROXY: "):
            find({"HTTPS_PROXY": bad}, "https", "registry.example", 443)
