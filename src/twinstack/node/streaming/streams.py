"""Streams of a SPDY connection, which clients open and name by headers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from twinstack.node.streaming import spdy
from twinstack.node.streaming.connection import Connection, Inbox
from twinstack.node.streaming.spdy import ResetStatus

MOST_STREAMS = 2048  # open at once on one connection
_LONGEST = 32 << 10  # bytes of one data frame

log = logging.getLogger(__name__)


class Stream:
    """A Channel; header names are lower case."""

    def __init__(self, streams: SPDYStreams, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self.inbox = Inbox()
        self.sent_all = False
        self.got_all = False
        self._streams = streams

    async def read(self) -> bytes:
        return await self.inbox.read()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _LONGEST):
            if self.sent_all:
                return
            await self._streams.send(self.number, data[start : start + _LONGEST])

    def finish(self) -> None:
        self._streams.finish(self)

    def reset(self, status: ResetStatus) -> None:
        """Break it off."""
        self._streams.reset(self, status)


class SPDYStreams:
    """The server's side. `opened` is told of every new stream, which has been accepted."""

    def __init__(self, connection: Connection, opened: Callable[[Stream], None]) -> None:
        self._connection = connection
        self._opened = opened
        self._encoder = spdy.Encoder()
        self._streams: dict[int, Stream] = {}
        self._pings = 0  # a server's have even numbers

    async def serve(self) -> None:
        """Until the client has said good-bye, or gone, or broken the protocol."""
        decoder = spdy.Decoder()
        last = 0
        try:
            while data := await self._connection.read():
                for frame in decoder.feed(data):
                    match frame:
                        case spdy.GoAway():
                            return
                        case spdy.Open(number) if number > last and number % 2:
                            last = number
                            self._open(frame)
                        case spdy.Open(number):
                            raise spdy.ProtocolError(f"stream {number} is out of order")
                        case spdy.Data():
                            await self._take(frame)
                        case spdy.Reset(number):
                            self._lose(number)
                        case spdy.Ping(number) if number % 2:
                            self._connection.write(self._encoder.ping(number))
        except spdy.ProtocolError as error:
            log.debug("SPDY: %s", error)
            self._connection.write(self._encoder.go_away(last))
        finally:
            for number in list(self._streams):
                self._lose(number)

    def _open(self, frame: spdy.Open) -> None:
        if len(self._streams) >= MOST_STREAMS:
            self._connection.write(self._encoder.reset(frame.stream, ResetStatus.REFUSED_STREAM))
            return
        stream = self._streams[frame.stream] = Stream(self, frame.stream, frame.headers)
        self._connection.write(self._encoder.reply(frame.stream))
        if frame.finished:
            self._got_all(stream)
        self._opened(stream)

    async def _take(self, frame: spdy.Data) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # it was broken off meanwhile
        stream.inbox.put(frame.data)
        if frame.finished:
            self._got_all(stream)
        await stream.inbox.room(self._ping)

    def _ping(self) -> None:
        self._pings += 2
        self._connection.write(self._encoder.ping(self._pings))

    def _got_all(self, stream: Stream) -> None:
        stream.got_all = True
        stream.inbox.end()
        self._forget_finished(stream)

    def _lose(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.sent_all = stream.got_all = True
            stream.inbox.end()

    def _forget_finished(self, stream: Stream) -> None:
        if stream.sent_all and stream.got_all:
            self._streams.pop(stream.number, None)

    async def send(self, number: int, data: bytes) -> None:
        self._connection.write(self._encoder.data(number, data))
        await self._connection.drain()

    def finish(self, stream: Stream) -> None:
        """The server's last word on a stream."""
        if not stream.sent_all:
            stream.sent_all = True
            self._connection.write(self._encoder.data(stream.number, b"", finished=True))
            self._forget_finished(stream)

    def reset(self, stream: Stream, status: ResetStatus) -> None:
        if self._streams.get(stream.number) is stream:
            self._connection.write(self._encoder.reset(stream.number, status))
            self._lose(stream.number)
