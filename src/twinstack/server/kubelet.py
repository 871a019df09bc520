"""The kubelet APIs of all nodes, reached over TLS with the server's client certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from twinstack.ip import Address
from twinstack.server import outgoing
from twinstack.server.egress import Egress
from twinstack.server.outgoing import Exchange, OutgoingRequest


class KubeletClient:
    """Speaks to the kubelets of all nodes. `context` is called once, when the first connection needs it."""

    def __init__(self, egress: Egress, context: Callable[[], ssl.SSLContext]) -> None:
        self._egress = egress
        self._make_context = context
        self._context: ssl.SSLContext | None = None

    async def get(self, address: Address, port: int, target: str) -> tuple[int, Exchange]:
        """The status of `GET target` and its body, the caller's to close. Raises Unreachable."""
        answer = await self.send(address, port, OutgoingRequest("GET", target))
        return await answer.head(), answer

    async def send(self, address: Address, port: int, request: OutgoingRequest) -> Exchange:
        """An answer whose head has come, the caller's to close. Raises Unreachable."""
        if self._context is None:
            self._context = self._make_context()
        return await outgoing.send(self._egress, address, port, request, self._context)


def kubelet_context(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """TLS towards kubelets: our client certificate, and theirs checked when an authority is given, as upstream.

    Raises OSError and ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(cafile=authority)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key)
    return context
