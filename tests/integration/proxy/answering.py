"""The pods' server, a process of its own: says on every address, TCP and UDP, where it was reached and from whom.

It listens on wildcard sockets, so any number of pods cost nothing; datagrams are answered from the address that
they were sent to. A connection stays open until its client closes it, and hears its own words again. Ends when
standard input does.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys

_IP_PKTINFO = 8  # linux/in.h; the socket module has it from 3.12 on
_IPV6_FREEBIND = 78  # linux/in6.h: answer from addresses that are local by a route alone
_SO_RCVBUFFORCE = 33
_ROOM = 64 << 20  # bytes of datagrams that may wait: those of a burst, while this process is not running
_BURST = 256  # what is taken of one socket before the others have their turn


def serve(port: int) -> None:
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                sock = stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
                sock.bind((everywhere, port))
                if kind == socket.SOCK_STREAM:
                    sock.listen(4096)
                selector.register(sock, selectors.EVENT_READ, _accept if kind == socket.SOCK_STREAM else _answer)
        selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                key.data(key.fileobj, selector)


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    for _ in range(_BURST):
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, _echo)
        with contextlib.suppress(ConnectionError):
            connection.send(f"{connection.getsockname()[0]} {peer[0]}".encode())


def _echo(connection: socket.socket, selector: selectors.BaseSelector) -> None:
    try:
        words = connection.recv(200)
        if words:
            connection.send(words)
            return
    except OSError:  # the client has reset it
        pass
    selector.unregister(connection)
    connection.close()


def _answer(sock: socket.socket, selector: selectors.BaseSelector) -> None:
    is_ipv4 = sock.family == socket.AF_INET
    for _ in range(_BURST):
        try:
            _, ancillary, _, peer = sock.recvmsg(100, 64)
        except BlockingIOError:
            return
        level, kind, data = ancillary[0]
        # struct in_pktinfo: interface, source to use, destination; in6_pktinfo: address, interface
        packed = data[8:12] if is_ipv4 else data[:16]
        here = struct.pack("=i4s4x", 0, packed) if is_ipv4 else struct.pack("=16si", packed, 0)
        words = f"{socket.inet_ntop(sock.family, packed)} {peer[0]}".encode()
        sock.sendmsg([words], [(level, kind, here)], 0, peer)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
