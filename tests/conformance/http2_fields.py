"""RFC 9113, section 8, and HPACK (RFC 7541): what makes a request malformed, and a block of fields unreadable."""

import hpack

from case import of
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    asked,
    block,
    connection_error,
    conversation,
    frame,
    malformed,
)

COMPRESSION = "COMPRESSION_ERROR"
TOO_LARGE = (
    "431 or 431, RST_STREAM NO_ERROR or RST_STREAM PROTOCOL_ERROR or GOAWAY PROTOCOL_ERROR or GOAWAY ENHANCE_YOUR_CALM"
)
NO_METHOD = "400 or 404 or 405 or 501 or RST_STREAM PROTOCOL_ERROR"

ONE_CODE = "the connection ends, as it must; the h2 crate says PROTOCOL_ERROR of every block that it can't read"
TRAILERS = "the h2 crate takes pseudo-headers in trailers for nothing; trailers are read by nobody here"
WHITE_SPACE = "the h2 crate takes white space around a value; no value is passed on from here"

CONNECTION_FIELDS = [
    (b"connection", b"close"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"websocket"),
]


def with_field(name: bytes, value: bytes):
    return lambda asker: asker.request((name, value))


def with_pseudo(**pseudo: bytes | None):
    return lambda asker: asker.request(**pseudo)


def twice(name: bytes):
    """A pseudo-header, and once more before it."""

    def build(asker) -> bytes:
        fields = asker.get()
        return asker.headers(1, [(name, dict(fields)[name]), *fields])

    return build


def trailers(*fields: tuple[bytes, bytes], flags: int = END_HEADERS | END_STREAM):
    """A POST, its body, and these behind it."""
    return lambda asker: asker.begun() + frame(DATA, 0, 1, asker.json) + asker.headers(1, list(fields), flags)


def counted(length: bytes, *sizes: int):
    """A POST with this content-length, and DATA of these sizes."""

    def build(asker) -> bytes:
        data = [frame(DATA, END_STREAM if at == len(sizes) else 0, 1, b" " * size) for at, size in enumerate(sizes, 1)]
        return asker.begun((b"content-length", length)) + b"".join(data)

    return build


def two_lengths(asker) -> bytes:
    right = str(len(asker.json)).encode()
    return asker.begun((b"content-length", right), (b"content-length", b"5")) + asker.body()


def large(count: int, size: int, ends: bool):
    """A GET with so many fields of this size, each in a CONTINUATION."""

    def build(asker) -> bytes:
        more = [frame(CONTINUATION, 0, 1, block([(b"x-%d" % at, b"a" * size)])) for at in range(count)]
        return (
            frame(HEADERS, END_STREAM, 1, block(asker.get()))
            + b"".join(more)
            + frame(CONTINUATION, END_HEADERS, 1) * ends
        )

    return build


def behind(more: bytes):
    """A GET whose block has these bytes behind it."""
    return lambda asker: frame(HEADERS, END_HEADERS | END_STREAM, 1, block(asker.get()) + more)


def before(more: bytes):
    return lambda asker: frame(HEADERS, END_HEADERS | END_STREAM, 1, more + block(asker.get()))


def indexed(asker) -> bytes:
    """Two requests; the second one names the fields of the first by their place in the dynamic table."""
    encoder = hpack.Encoder()
    return b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, encoder.encode(asker.get())) for stream in (1, 3))


MESSAGES = [
    *of(
        "RFC 9113 §8.1",
        asked,
        ("a request", "200", lambda a: a.request()),
        ("a request with a body", "201", lambda a: a.begun() + a.body()),
        ("trailers", "201", trailers((b"x-a", b"a"))),
        ("(§8.2.2) te: trailers", "200", with_field(b"te", b"trailers")),
        ("(§8.2.3) a cookie in crumbs", "200", lambda a: a.request((b"cookie", b"a=b"), (b"cookie", b"c=d"))),
        ("(§8.3.1) host in place of :authority", "200", lambda a: a.request((b"host", a.authority), authority=None)),
    ),
    *of(
        "RFC 9113 §8.1",
        malformed,
        ("trailers that do not end the stream", trailers((b"x-a", b"a"), flags=END_HEADERS)),
        ("a pseudo-header in trailers", trailers((b":path", b"/")), TRAILERS),
        ("(§8.1.1) less than content-length", counted(b"10", 3, 3)),
        ("(§8.1.1) more than content-length", counted(b"10", 8, 8)),
        ("(§8.1.1) content-length, and no body", lambda a: a.headers(1, a.post((b"content-length", b"10")))),
        ("(§8.1.1) content-length with a plus", counted(b"+1", 1)),
        ("(§8.1.1) two content-lengths that differ", two_lengths),
    ),
]

FIELDS = [
    *of(
        "RFC 9113 §8.2.1",
        malformed,
        ("a name in capitals", with_field(b"X-A", b"a")),
        ("a space in a name", with_field(b"x a", b"a")),
        ("a colon in a name", with_field(b"x:a", b"a")),
        ("a byte above 127 in a name", with_field(b"x\xe9", b"a")),
        ("an empty name", with_field(b"", b"a")),
        ("NUL in a value", with_field(b"x-a", b"a\0b")),
        ("CR in a value", with_field(b"x-a", b"a\rb")),
        ("LF in a value", with_field(b"x-a", b"a\nb")),
        ("a value that begins with a space", with_field(b"x-a", b" a"), WHITE_SPACE),
        ("a value that ends with a space", with_field(b"x-a", b"a "), WHITE_SPACE),
        ("a value that begins with a tab", with_field(b"x-a", b"\ta"), WHITE_SPACE),
        ("a value that ends with a tab", with_field(b"x-a", b"a\t"), WHITE_SPACE),
    ),
    *of(
        "RFC 9113 §8.2.2",
        malformed,
        *[(name.decode(), with_field(name, value)) for name, value in CONNECTION_FIELDS],
        ("te: gzip", with_field(b"te", b"gzip")),
        ("te: trailers, gzip", with_field(b"te", b"trailers, gzip")),
    ),
]

PSEUDO = [
    *of(
        "RFC 9113 §8.3",
        malformed,
        ("a pseudo-header that nobody knows", with_pseudo(brew=b"a")),
        (":status in a request", with_pseudo(status=b"200")),
        ("a pseudo-header behind a field", lambda a: a.request((b":path", b"/"), path=None)),
        *[(f"no :{name}", with_pseudo(**{name: None})) for name in ("method", "scheme", "path")],
        *[(f"two of {name.decode()}", twice(name)) for name in (b":method", b":scheme", b":path", b":authority")],
    ),
    *of(
        "RFC 9113 §8.3.1",
        malformed,
        ("an empty :path", with_pseudo(path=b"")),
        (":path without a slash", with_pseudo(path=b"v1/x")),
        ("a space in :path", with_pseudo(path=b"/v1/a b")),
        ("an empty :method", with_pseudo(method=b"")),
        (":method that is no token", with_pseudo(method=b"G(T")),
        ("an empty :authority", with_pseudo(authority=b"")),
        (":authority with a user", lambda a: a.request(authority=b"user@" + a.authority)),
        ("host and :authority that differ", with_field(b"host", b"other")),
        ("two hosts, and no :authority", lambda a: a.request((b"host", a.authority), (b"host", b"b"), authority=None)),
        ("neither host nor :authority", with_pseudo(authority=None)),
        ("(§8.5) CONNECT with :scheme and :path", with_pseudo(method=b"CONNECT")),
        ("(RFC 8441 §3) :protocol, which is not offered", with_pseudo(method=b"CONNECT", protocol=b"websocket")),
    ),
    asked("RFC 9113 §8.5", "CONNECT", NO_METHOD, with_pseudo(method=b"CONNECT", scheme=None, path=None)),
    asked("RFC 9113 §10.5.1", "fields of 36 kB", TOO_LARGE, large(3, 12_000, ends=True)),
    asked("RFC 9113 §10.5.1", "CONTINUATIONs without an end", TOO_LARGE, large(400, 1_000, ends=False)),
]

#: The 20 bits of "test", and what has to fill the last byte.
TEST = b"\x49\x50\x9f"

HPACK = [
    *of(
        "RFC 7541",
        connection_error,
        ("(§6.1) index 0", COMPRESSION, behind(b"\x80"), ONE_CODE),
        ("(§2.3.3) an index behind both tables", COMPRESSION, behind(b"\xff\x20"), ONE_CODE),
        ("(§2.3.3) a name's index behind both tables", COMPRESSION, behind(b"\x7f\x20\x01a"), ONE_CODE),
        ("(§4.2) the table's size at the end of a block", COMPRESSION, behind(b"\x20"), ONE_CODE),
        ("(§4.2) a table over SETTINGS_HEADER_TABLE_SIZE", COMPRESSION, before(b"\x3f\xe2\x1f"), ONE_CODE),
        ("(§5.1) an integer over 64 bits", COMPRESSION, behind(b"\xff" * 21 + b"\x7f"), ONE_CODE),
        ("(§5.1) an integer without an end", COMPRESSION, behind(b"\xff\xff"), ONE_CODE),
        ("(§5.2) a string that is longer than the block", COMPRESSION, behind(b"\x00\x7f\x01a"), ONE_CODE),
        ("(§5.2) a field without a value", COMPRESSION, behind(b"\x00\x01a"), ONE_CODE),
        (
            "(§5.2) Huffman's code, filled with more than 7 bits",
            COMPRESSION,
            behind(b"\x00\x01a\x84" + TEST + b"\xff"),
            ONE_CODE,
        ),
        ("(§5.2) Huffman's code, filled with zeros", COMPRESSION, behind(b"\x00\x01a\x83\x49\x50\x90"), ONE_CODE),
        ("(§5.2) Huffman's code of EOS", COMPRESSION, behind(b"\x00\x01a\x87" + TEST + b"\xff" * 4), ONE_CODE),
    ),
    asked("RFC 7541 §5.2", "Huffman's code, filled with 4 bits", "200", behind(b"\x00\x01a\x83" + TEST)),
    asked("RFC 7541 §4.2", "a table of no size, then of 4,096 bytes", "200", before(b"\x20\x3f\xe1\x1f")),
    conversation("RFC 7541 §6.1", "fields of the dynamic table", "200, 200", indexed, streams=(1, 3)),
]

CASES = [*MESSAGES, *FIELDS, *PSEUDO, *HPACK]
