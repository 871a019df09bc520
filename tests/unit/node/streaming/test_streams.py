"""Streams of a SPDY connection: opened, used, finished and broken off by a client."""

from __future__ import annotations

import asyncio

from tests.unit.node.streaming.wires import Wire

from twinstack.node.streaming.spdy import Data, Decoder, Encoder, Frame, GoAway, Ping, Reply, Reset, ResetStatus
from twinstack.node.streaming.streams import MOST_STREAMS, SPDYStreams, Stream


def frames(data: bytes) -> list[Frame]:
    return list(Decoder().feed(data))


def test_a_stream_both_ways() -> None:
    async def main() -> None:
        client = Encoder()
        wire = Wire(client.open(1, {"streamType": "stdin"}), client.data(1, b"in"), ends=False)
        opened: list[Stream] = []
        streams = SPDYStreams(wire, opened.append)
        serving = asyncio.ensure_future(streams.serve())
        await asyncio.sleep(0.01)
        (stream,) = opened
        assert stream.headers == {"streamtype": "stdin"}
        assert await stream.read() == b"in"
        wire.say(client.data(1, b"last", finished=True))
        assert [await stream.read(), await stream.read()] == [b"last", b""]
        await stream.write(b"out" * 20_000)
        stream.finish()
        stream.finish()
        await stream.write(b"too late")
        wire.say(client.go_away(0))
        await serving
        reply, *data = frames(wire.sent)
        assert reply == Reply(1, {}, False)
        assert b"".join(each.data for each in data if isinstance(each, Data)) == b"out" * 20_000
        assert data[-1] == Data(1, b"", True)

    asyncio.run(main())


def test_a_client_that_goes_or_resets_ends_its_streams() -> None:
    async def main() -> None:
        client = Encoder()
        wire = Wire(client.open(1, {}), client.open(3, {}), client.reset(1, ResetStatus.CANCEL), ends=False)
        opened: list[Stream] = []
        serving = asyncio.ensure_future(SPDYStreams(wire, opened.append).serve())
        await asyncio.sleep(0.01)
        first, second = opened
        assert await first.read() == b""
        sent = wire.sent
        first.finish()
        await first.write(b"nobody")
        first.reset(ResetStatus.CANCEL)
        assert wire.sent == sent  # nothing more is said on it
        wire.say(b"")
        await serving
        assert await second.read() == b""

    asyncio.run(main())


def test_pings_of_the_client_are_returned() -> None:
    async def main() -> list[Frame]:
        client = Encoder()
        wire = Wire(client.ping(7), client.ping(8))
        await SPDYStreams(wire, lambda _: None).serve()
        return frames(wire.sent)

    assert asyncio.run(main()) == [Ping(7)]


def test_numbers_must_grow_and_be_odd() -> None:
    async def main(*numbers: int) -> list[Frame]:
        client = Encoder()
        wire = Wire(*(client.open(number, {}) for number in numbers), ends=False)
        await SPDYStreams(wire, lambda _: None).serve()
        return frames(wire.sent)

    for numbers, last in (((2,), 0), ((5, 3), 5), ((1, 1), 1)):
        assert asyncio.run(main(*numbers))[-1] == GoAway(last)


def test_there_is_an_end_to_streams() -> None:
    async def main() -> list[Frame]:
        client = Encoder()
        wire = Wire(b"".join(client.open(2 * number + 1, {}) for number in range(MOST_STREAMS + 1)))
        await SPDYStreams(wire, lambda _: None).serve()
        return frames(wire.sent)

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers[-2:]] == [Reply, Reset]


def test_a_reader_who_is_slow_holds_the_connection_up() -> None:
    async def main() -> None:
        client = Encoder()
        wire = Wire(client.open(1, {}), *(client.data(1, bytes(100_000)) for _ in range(5)), client.ping(1), ends=False)
        opened: list[Stream] = []
        serving = asyncio.ensure_future(SPDYStreams(wire, opened.append).serve())
        await asyncio.sleep(0.01)
        assert Ping(1) not in frames(wire.sent)
        assert len(await opened[0].read()) == 300_000
        await asyncio.sleep(0.01)
        assert frames(wire.sent)[-1] == Ping(1)
        serving.cancel()

    asyncio.run(main())
