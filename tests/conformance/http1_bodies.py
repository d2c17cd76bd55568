"""RFC 9112, sections 6 to 9: where a body ends, and where a connection does. What two readers see differently is how a
request is smuggled past one of them."""

import wire
from case import Case, of
from http1 import UNREADABLE, answer, exchange, get, post, sent, with_fields
from relay import Relay

CL, TE = b"Content-Length: LENGTH", b"Transfer-Encoding: chunked"
#: What must never be answered when it stands in a body.
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
TAKEN_OR_REFUSED = "201, closed or " + UNREADABLE
UNKNOWN_CODING = "501, closed or 501, open or 400, open or " + UNREADABLE


def chunked(size=b"N", end: bytes = b"\r\n", last: bytes = b"0\r\n\r\n", short: int = 0, line: bytes = b"\r\n"):
    """One chunk; N in `size` is its length, less `short`."""
    return lambda content: size.replace(b"N", b"%x" % (len(content) - short)) + line + content + end + last


def with_body(*fields: bytes, body=lambda content: content, **how):
    return lambda relay: post(relay, *fields, body=body, **how)


def in_chunks(**how):
    return with_body(TE, body=chunked(**how))


def coded(*codings: bytes):
    return with_body(*[b"Transfer-Encoding: " + coding for coding in codings], body=chunked())


def length(value: bytes):
    return with_body(b"Content-Length: " + value)


def continues(relay: Relay) -> str:
    """The body is sent when it is asked for."""
    head, content = post(relay, CL, b"Expect: 100-continue").split(b"\r\n\r\n", 1)
    with wire.public(relay, "http/1.1") as connection:
        connection.send(head + b"\r\n\r\n")
        interim = connection.take_until(b"\r\n\r\n")
        if interim is None or not interim.startswith(b"HTTP/1.1 100"):
            return "no 100"
        return "100, " + exchange(connection, content, get(relay))


def is_slow(relay: Relay) -> str:
    """Half of a head, and nothing more."""
    with wire.public(relay, "http/1.1") as connection:
        connection.send(get(relay)[:100])
        came = answer(connection)
        return "closed" if came is None else f"{came[0]}, closed" if not connection.more() else "open"


FRAMING = [
    *of(
        "RFC 9112 §6",
        sent,
        ("Content-Length", "201, open", with_body(CL)),
        ("chunks", "201, open", in_chunks()),
        ("neither: no body", "400, open", with_body(body=lambda _: b"")),
        ("a body that nobody reads", "200, open or 200, closed or " + UNREADABLE, lambda r: unread(r)),
    ),
    *of(
        "RFC 9112 §6.1",
        sent,
        ("Transfer-Encoding and Content-Length", TAKEN_OR_REFUSED, with_body(TE, CL, body=chunked())),
        ("Content-Length and Transfer-Encoding", TAKEN_OR_REFUSED, with_body(CL, TE, body=chunked())),
        (
            "a request behind the last chunk, and a Content-Length that holds it",
            TAKEN_OR_REFUSED,
            with_body(CL, TE, body=lambda content: chunked()(content) + SMUGGLED),
        ),
        ("Transfer-Encoding in HTTP/1.0", TAKEN_OR_REFUSED, with_body(TE, body=chunked(), version=b"HTTP/1.0")),
        ("an encoding that nobody knows, then chunked", UNKNOWN_CODING, coded(b"brew, chunked")),
        ("gzip, chunked", UNKNOWN_CODING, coded(b"gzip, chunked")),
    ),
    *of(
        "RFC 9112 §6.3",
        sent,
        ("chunked is not the last encoding", UNREADABLE, coded(b"chunked, identity")),
        ("chunked twice", UNKNOWN_CODING, coded(b"chunked, chunked")),
        ("chunked in two fields", UNKNOWN_CODING, coded(b"chunked", b"chunked")),
        ("two encodings, the last not chunked", UNREADABLE, coded(b"chunked", b"identity")),
        ("xchunked", UNKNOWN_CODING, coded(b"xchunked")),
        ("a vertical tab before chunked", UNREADABLE, coded(b"\x0bchunked")),
        ("chunked, quoted", UNKNOWN_CODING, coded(b'"chunked"')),
        ("an empty Transfer-Encoding", UNREADABLE, with_body(b"Transfer-Encoding:", CL)),
        ("CHUNKED", "201, open", coded(b"CHUNKED")),
    ),
    *of(
        "RFC 9112 §6.3",
        sent,
        ("Content-Length with a plus", UNREADABLE, length(b"+LENGTH")),
        ("Content-Length -1", UNREADABLE, length(b"-1")),
        ("Content-Length in hexadecimal", UNREADABLE, length(b"0x80")),
        ("Content-Length with a space inside", UNREADABLE, length(b"1 2")),
        ("an empty Content-Length", UNREADABLE, length(b"")),
        ("Content-Length of two values", UNREADABLE, length(b"LENGTH, 5")),
        ("Content-Length 2^64", UNREADABLE, length(b"18446744073709551616")),
        ("Content-Length with a fraction", UNREADABLE, length(b"5.0")),
        ("two Content-Lengths that differ", UNREADABLE, with_body(CL, b"Content-Length: 5")),
        ("the same Content-Length twice", "201, open or " + UNREADABLE, with_body(CL, CL)),
    ),
    sent("RFC 9112 §8", "the client ends within a body", "400, closed or closed", length(b"4000"), ends=True),
    sent(
        "RFC 9112 §8",
        "the client ends within a chunk",
        "400, closed or closed",
        in_chunks(short=-9, end=b"", last=b""),
        ends=True,
    ),
]

CHUNKS = [
    *of(
        "RFC 9112 §7.1",
        sent,
        ("a size with 0x", UNREADABLE, in_chunks(size=b"0xN")),
        ("a size with a minus", UNREADABLE, in_chunks(size=b"-N")),
        ("a size with a plus", UNREADABLE, in_chunks(size=b"+N")),
        ("a size that is no number", UNREADABLE, in_chunks(size=b"G")),
        ("an empty size", UNREADABLE, in_chunks(size=b"")),
        ("a size over 64 bits", UNREADABLE, in_chunks(size=b"1000000000000000N")),
        ("a space before the size", UNREADABLE, in_chunks(size=b" N")),
        ("a chunk that does not end with CRLF", UNREADABLE, in_chunks(end=b"xx")),
        ("a chunk that is longer than its size", UNREADABLE, in_chunks(short=2)),
        ("a size that ends with a bare LF", UNREADABLE, in_chunks(line=b"\n")),
        ("a size that ends with a bare CR", UNREADABLE, in_chunks(line=b"\rX\n")),
    ),
    *of(
        "RFC 9112 §7.1.1",
        sent,
        ("an extension is passed over", "201, open", in_chunks(size=b"N;a=b")),
        ("a bare LF in an extension", UNREADABLE, in_chunks(size=b"N;a\nb")),
        ("an extension of 100 kB", UNREADABLE + " or 413, closed", in_chunks(size=b"N;" + b"a" * 100_000)),
    ),
    *of(
        "RFC 9112 §7.1.2",
        sent,
        ("a trailer", "201, open", in_chunks(last=b"0\r\nX-A: a\r\n\r\n")),
        ("a trailer that is no field", UNREADABLE, in_chunks(last=b"0\r\nX A\r\n\r\n")),
        (
            "Content-Length as a trailer",
            "201, open or " + TAKEN_OR_REFUSED,
            in_chunks(last=b"0\r\nContent-Length: 5\r\n\r\n"),
        ),
        (
            "a trailer of 100 kB",
            UNREADABLE + " or 431, closed",
            in_chunks(last=b"0\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n"),
        ),
    ),
]

CONNECTIONS = [
    *of(
        "RFC 9112 §9",
        sent,
        ("(§9.3) Connection: close", "200, closed", with_fields(b"Connection: close")),
        ("(§9.3.2) two requests at once are answered in order", "200, 404, open", lambda r: get(r) + SMUGGLED),
        (
            "(§9.6) what comes behind Connection: close",
            "200, closed",
            lambda r: get(r, b"Connection: close") + SMUGGLED,
        ),
    ),
    *of("RFC 9112 §9.5", Case, ("half of a head, and nothing more", "closed or 408, closed", is_slow)),
    *of(
        "RFC 9110",
        sent,
        (
            "(§8.6) a body over the limit",
            "413, closed or 413, open",
            with_body(CL, body=lambda content: content + b" " * 20_000),
        ),
        ("(§7.8) an upgrade to h2c is passed over", "200, open", lambda r: get(r, *H2C)),
        (
            "(§10.1.1) an expectation that nobody knows",
            "417, closed or 417, open or 200, open",
            with_fields(b"Expect: brew"),
        ),
    ),
    Case("RFC 9110", "(§10.1.1) Expect: 100-continue", "100, 201, open", continues),
]

H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
CASES = [*FRAMING, *CHUNKS, *CONNECTIONS]


def unread(relay: Relay) -> bytes:
    return get(relay, b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED
