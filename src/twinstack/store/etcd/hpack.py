"""Header blocks of HTTP/2 (RFC 7541), as a client needs them that allows no dynamic table. Pure.

What is sent are literals. What comes may use the static table and the Huffman code. That code is canonical, so
the lengths of its words say everything (RFC 7541, Appendix B).
"""

from __future__ import annotations

from collections.abc import Iterable

_STATIC = """\
:authority= :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 :status=204
:status=206 :status=304 :status=400 :status=404 :status=500 accept-charset= accept-encoding=gzip,deflate
accept-language= accept-ranges= accept= access-control-allow-origin= age= allow= authorization= cache-control=
content-disposition= content-encoding= content-language= content-length= content-location= content-range=
content-type= cookie= date= etag= expect= expires= from= host= if-match= if-modified-since= if-none-match= if-range=
if-unmodified-since= last-modified= link= location= max-forwards= proxy-authenticate= proxy-authorization= range=
referer= refresh= retry-after= server= set-cookie= strict-transport-security= transfer-encoding= user-agent= vary=
via= www-authenticate="""
_TABLE: list[tuple[str, str]] = [
    (entry.partition("=")[0], entry.partition("=")[2]) for entry in _STATIC.split()
]  # name and value of each index, from 1
_CODE_LENGTHS = bytes.fromhex(  # of the octets 0 to 255 and of the end
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606050505060606"
    "0606060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f0506050605060606050707"
    "0606060506070605050607070707070f0b0e0d1c14161414161616161717171717171817181816171817171717151617161717181615"
    "1416161717151716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b18"
    "15151a1a1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)


def _code_words() -> dict[tuple[int, int], int]:
    """(length in bits, code word) → octet."""
    words: dict[tuple[int, int], int] = {}
    word = length = 0
    for symbol in sorted(range(len(_CODE_LENGTHS)), key=lambda each: (_CODE_LENGTHS[each], each)):
        word <<= _CODE_LENGTHS[symbol] - length
        length = _CODE_LENGTHS[symbol]
        words[length, word] = symbol
        word += 1
    return words


_CODE_WORDS = _code_words()
_LONGEST_PADDING = 7


class HeaderError(ValueError):
    """A header block that breaks the rules, or that needs a dynamic table."""


def encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Literals without indexing. Names and values are ASCII."""
    block = bytearray()
    for pair in headers:
        block.append(0)
        for text in pair:
            _append_integer(block, len(text), 0x7F)
            block += text.encode("ascii")
    return bytes(block)


def _append_integer(block: bytearray, number: int, most: int) -> None:
    if number < most:
        block.append(number)
        return
    block.append(most)
    number -= most
    while number > 0x7F:
        block.append(0x80 | number & 0x7F)
        number >>= 7
    block.append(number)


def decode(block: bytes) -> dict[str, str]:
    """Raises HeaderError."""
    try:
        return _decode(block)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise HeaderError(f"malformed header block: {error}") from error


def _decode(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # a pair of the static table
            index, at = _integer(block, at, 0x7F)
            name, value = _entry(index)
            headers[name] = value
        elif first & 0x60 == 0x20:  # the size of the dynamic table: nothing, as asked for
            size, at = _integer(block, at, 0x1F)
            if size:
                raise HeaderError(f"a dynamic table of {size} bytes was not allowed")
        else:
            index, at = _integer(block, at, 0x3F if first & 0x40 else 0x0F)
            if index:
                name, _ = _entry(index)
            else:
                name, at = _string(block, at)
            headers[name], at = _string(block, at)
    return headers


def _entry(index: int) -> tuple[str, str]:
    if not index:
        raise HeaderError("index 0")
    return _TABLE[index - 1]


def _integer(block: bytes, at: int, most: int) -> tuple[int, int]:
    """The number whose first bits are the low ones of an octet, and where the next thing begins."""
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in (0, 7, 14, 21):
        octet = block[at]
        at += 1
        number += (octet & 0x7F) << shift
        if not octet & 0x80:
            return number, at
    raise HeaderError("a number is too large")


def _string(block: bytes, at: int) -> tuple[str, int]:
    huffman = block[at] & 0x80
    length, at = _integer(block, at, 0x7F)
    data = block[at : at + length]
    if len(data) < length:
        raise HeaderError("a string is cut off")
    return (_unpacked(data) if huffman else data).decode("latin-1"), at + length


def _unpacked(data: bytes) -> bytes:
    found = bytearray()
    word = length = 0
    for octet in data:
        for shift in range(7, -1, -1):
            word = word << 1 | octet >> shift & 1
            length += 1
            symbol = _CODE_WORDS.get((length, word))
            if symbol is not None:
                if symbol > 0xFF:
                    raise HeaderError("a string holds the end of strings")
                found.append(symbol)
                word = length = 0
    if length > _LONGEST_PADDING or word != (1 << length) - 1:
        raise HeaderError("wrong padding of a string")
    return bytes(found)
