"""RFC 9113, sections 3 to 6: the preface, frames, settings, flow control."""

import struct

from case import of
from http2 import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    asked,
    block,
    connection_error,
    conversation,
    frame,
    settings,
    stream_error,
    window_update,
)

CANCEL = struct.pack("!I", 8)
NO_PRIORITY = struct.pack("!IB", 0, 15)
LARGEST_WINDOW = 2**31 - 1
PROTOCOL, SIZE, FLOW = "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "FLOW_CONTROL_ERROR"
SIZE_OR_PROTOCOL = f"{SIZE} or GOAWAY {PROTOCOL}"
#: RFC 9113 §3.4: of a preface that is none, GOAWAY may be left out.
NO_PREFACE = f"{PROTOCOL} or dropped"

ONE_CODE = "the connection ends, as it must; the h2 crate says PROTOCOL_ERROR of every frame that it can't read"
NO_CHECK = "the h2 crate does not ask whether SETTINGS come first; nothing is gained by leaving them out"


def split(asker, parts: int = 2, flags: int = END_STREAM, between: bytes = b"") -> bytes:
    """A GET in HEADERS and CONTINUATIONs, and what comes behind the first."""
    whole = block(asker.get())
    size = -(-len(whole) // parts)
    first, *rest = (whole[at : at + size] for at in range(0, len(whole), size))
    more = [frame(CONTINUATION, END_HEADERS if at == len(rest) else 0, 1, part) for at, part in enumerate(rest, 1)]
    return frame(HEADERS, flags, 1, first) + between + b"".join(more)


def padded(content: bytes, padding: int) -> bytes:
    return bytes([padding]) + content + bytes(padding)


def bare(*parts, **how):
    """A frame that no request goes before."""
    return lambda asker: frame(*parts, **how)


def on_stream(*parts, **how):
    """A frame on stream 1, whose body has still to come."""
    return lambda asker: asker.begun() + frame(*parts, **how)


def get_frame(flags: int, payload, stream: int = 1):
    """A GET whose HEADERS have these flags too."""
    return lambda asker: frame(HEADERS, END_HEADERS | END_STREAM | flags, stream, payload(block(asker.get())))


def set_to(setting: int, value: int):
    return lambda asker: settings((setting, value))


PREFACES = [
    connection_error(
        "RFC 9113 §3.4",
        "another preface",
        NO_PREFACE,
        bare(PING, payload=b"12345678"),
        preface=b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ),
    connection_error(
        "RFC 9113 §3.4",
        "PING in place of the first SETTINGS",
        NO_PREFACE,
        bare(PING, payload=b"12345678"),
        NO_CHECK,
        first=b"",
    ),
    connection_error(
        "RFC 9113 §3.4",
        "HEADERS in place of the first SETTINGS",
        NO_PREFACE,
        lambda a: a.request(),
        NO_CHECK,
        first=b"",
        streams=(1,),
    ),
]

UNKNOWN = [
    *of(
        "RFC 9113 §5.5",
        conversation,
        ("a frame of a type that nobody knows", "passed over", bare(0x42, 0xFF, 0, b"a" * 16)),
        ("the same on an idle stream", "passed over", bare(0x42, 0xFF, 7, b"a" * 16)),
        ("(§4.1) flags that mean nothing", "PING ACK", bare(PING, 0xFE, 0, b"12345678")),
        ("(§4.1) the reserved bit of a stream's number", "PING ACK", bare(PING, 0, 1 << 31, b"12345678")),
        ("(§6.5.2) a setting that nobody knows", "passed over", set_to(0xFF, 1)),
        ("(§7) an error's code that nobody knows", "passed over", on_stream(RST_STREAM, 0, 1, b"\0\0\0\xff")),
    ),
]

SIZES = [
    asked(
        "RFC 9113 §4.2",
        "DATA of 16,384 bytes",
        "201",
        lambda a: a.begun() + frame(DATA, END_STREAM, 1, a.json.ljust(16384)),
    ),
    stream_error("RFC 9113 §4.2", "DATA of 16,385 bytes", SIZE, on_stream(DATA, END_STREAM, 1, b" " * 16385)),
    *of(
        "RFC 9113 §4.2",
        connection_error,
        ("HEADERS of 16,385 bytes", SIZE, lambda a: frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes(16385))),
        ("a frame of an unknown type of 16,385 bytes", SIZE, bare(0x42, 0, 0, bytes(16385))),
        ("the announcement of 16 MiB", SIZE, on_stream(DATA, 0, 1, b"", length=2**24 - 1)),
        ("(§6.4) RST_STREAM of 3 bytes", SIZE, on_stream(RST_STREAM, 0, 1, CANCEL[1:]), ONE_CODE),
        ("(§6.5) SETTINGS of 5 bytes", SIZE, bare(SETTINGS, 0, 0, b"\0\1\0\0\0"), ONE_CODE),
        ("(§6.5) SETTINGS with ACK and 6 bytes", SIZE, bare(SETTINGS, ACK, 0, b"\0\1\0\0\0\0"), ONE_CODE),
        ("(§6.7) PING of 6 bytes", SIZE, bare(PING, 0, 0, b"123456"), ONE_CODE),
        ("(§6.8) GOAWAY of 4 bytes", SIZE_OR_PROTOCOL, bare(GOAWAY, 0, 0, bytes(4))),
        ("(§6.9) WINDOW_UPDATE of 3 bytes", SIZE, bare(WINDOW_UPDATE, 0, 0, b"\0\0\1"), ONE_CODE),
    ),
    stream_error("RFC 9113 §6.3", "PRIORITY of 4 bytes", SIZE, on_stream(PRIORITY, 0, 1, bytes(4)), ONE_CODE),
]

STREAM_ZERO = of(
    "RFC 9113 §6",
    connection_error,
    ("(§6.1) DATA on stream 0", PROTOCOL, bare(DATA, 0, 0, b"a")),
    ("(§6.2) HEADERS on stream 0", PROTOCOL, lambda a: a.request(stream=0)),
    ("(§6.3) PRIORITY on stream 0", PROTOCOL, bare(PRIORITY, 0, 0, NO_PRIORITY)),
    ("(§6.4) RST_STREAM on stream 0", PROTOCOL, bare(RST_STREAM, 0, 0, CANCEL)),
    ("(§6.5) SETTINGS on stream 1", PROTOCOL, bare(SETTINGS, 0, 1)),
    ("(§6.6) PUSH_PROMISE from a client", PROTOCOL, on_stream(PUSH_PROMISE, END_HEADERS, 1, bytes(4))),
    ("(§6.7) PING on stream 1", PROTOCOL, bare(PING, 0, 1, b"12345678")),
    ("(§6.8) GOAWAY on stream 1", PROTOCOL, bare(GOAWAY, 0, 1, bytes(8))),
    ("(§6.10) CONTINUATION on stream 0", PROTOCOL, bare(CONTINUATION, END_HEADERS, 0)),
)

PADDING = [
    *of(
        "RFC 9113 §6.1",
        asked,
        ("DATA with padding", "201", lambda a: a.begun() + frame(DATA, END_STREAM | PADDED, 1, padded(a.json, 200))),
        (
            "DATA that is padding alone",
            "201",
            lambda a: a.begun() + frame(DATA, PADDED, 1, padded(b"", 255)) + a.body(),
        ),
        ("(§6.2) HEADERS with padding", "200", get_frame(PADDED, lambda good: padded(good, 9))),
        ("(§6.2) HEADERS with a priority", "200", get_frame(PRIORITISED, lambda good: NO_PRIORITY + good)),
    ),
    *of(
        "RFC 9113 §6.1",
        connection_error,
        ("DATA with more padding than payload", PROTOCOL, on_stream(DATA, END_STREAM | PADDED, 1, b"\x05aaaa")),
        ("DATA with PADDED and no payload", SIZE_OR_PROTOCOL, on_stream(DATA, END_STREAM | PADDED, 1)),
        ("(§6.2) HEADERS with more padding than payload", PROTOCOL, get_frame(PADDED, lambda good: b"\xff" + good[:9])),
        ("(§6.2) HEADERS with half of a priority", SIZE_OR_PROTOCOL, get_frame(PRIORITISED, lambda good: b"\0\0")),
    ),
]

BLOCKS = [
    asked("RFC 9113 §6.10", "a block in four frames", "200", lambda a: split(a, parts=4)),
    *of(
        "RFC 9113 §6.10",
        connection_error,
        ("CONTINUATION of nothing", PROTOCOL, bare(CONTINUATION, END_HEADERS, 1)),
        ("CONTINUATION behind END_HEADERS", PROTOCOL, on_stream(CONTINUATION, END_HEADERS, 1, block([(b"x-a", b"a")]))),
        ("DATA within a block", PROTOCOL, lambda a: split(a, flags=0, between=frame(DATA, 0, 1, b"a"))),
        ("PING within a block", PROTOCOL, lambda a: split(a, between=frame(PING, payload=b"12345678"))),
        ("a frame of an unknown type within a block", PROTOCOL, lambda a: split(a, between=frame(0x42, 0, 1))),
        ("HEADERS of another stream within a block", PROTOCOL, lambda a: split(a, between=a.request(stream=3))),
        (
            "CONTINUATION of another stream within a block",
            PROTOCOL,
            lambda a: split(a, between=frame(CONTINUATION, 0, 3)),
        ),
    ),
]

SETTING = [
    *of(
        "RFC 9113 §6.5.2",
        connection_error,
        ("SETTINGS_ENABLE_PUSH 2", PROTOCOL, set_to(ENABLE_PUSH, 2)),
        ("SETTINGS_INITIAL_WINDOW_SIZE 2^31", FLOW, set_to(INITIAL_WINDOW_SIZE, 2**31), ONE_CODE),
        ("SETTINGS_MAX_FRAME_SIZE 16,383", PROTOCOL, set_to(MAX_FRAME_SIZE, 16383)),
        ("SETTINGS_MAX_FRAME_SIZE 2^24", PROTOCOL, set_to(MAX_FRAME_SIZE, 2**24)),
    ),
    conversation("RFC 9113 §6.7", "PING", "PING ACK", bare(PING, payload=b"12345678")),
    conversation("RFC 9113 §6.7", "PING with ACK is not answered", "passed over", bare(PING, ACK, 0, b"12345678")),
]

WINDOWS = [
    asked("RFC 9113 §6.9", "WINDOW_UPDATE of a stream", "201", lambda a: a.begun() + window_update(1, 5) + a.body()),
    stream_error(
        "RFC 9113 §6.9", "WINDOW_UPDATE of a stream by 0", PROTOCOL, lambda a: a.begun() + window_update(1, 0)
    ),
    stream_error(
        "RFC 9113 §6.9.1", "a stream's window of 2^31", FLOW, lambda a: a.begun() + window_update(1, LARGEST_WINDOW)
    ),
    *of(
        "RFC 9113 §6.9",
        connection_error,
        ("WINDOW_UPDATE by 0", PROTOCOL, lambda a: window_update(0, 0)),
        ("(§6.9.1) a connection's window of 2^31", FLOW, lambda a: window_update(0, LARGEST_WINDOW)),
        (
            "(§6.9.2) a setting that takes a stream's window over 2^31 - 1",
            FLOW,
            lambda a: a.begun() + window_update(1, LARGEST_WINDOW - 65535) + settings((INITIAL_WINDOW_SIZE, 65536)),
        ),
    ),
]

CASES = [*PREFACES, *UNKNOWN, *SIZES, *STREAM_ZERO, *PADDING, *BLOCKS, *SETTING, *WINDOWS]
