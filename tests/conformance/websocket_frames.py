"""RFC 6455, sections 5 to 8 and 10: frames, close frames, messages."""

import struct

from case import of
from websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    closing,
    frame,
    hello,
    message,
    session,
)

ERROR = "close 1002"
NO_TEXT = "close 1007 or close 1003"
#: What our protocol answers a binary message that is none of its frames.
FOREIGN = "close 4500"
TOO_LARGE = "close 1009"
MAX_FRAME_BYTES = 16384
BAD_GATEWAY = (
    "tungstenite does not know 1014, which the IANA registry has added, and answers as to one that is not valid"
)

VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


def reserved(bit: int) -> int:
    return FIN | 0x80 >> bit


def in_16_bits(size: int) -> bytes:
    return b"\x7e" + struct.pack("!H", size)


def in_64_bits(size: int) -> bytes:
    return b"\x7f" + struct.pack("!Q", size)


def pieces(payload: bytes, between: bytes = b"") -> bytes:
    """A message in three frames, the second one empty."""
    return frame(BINARY, payload[:5]) + between + frame(CONTINUATION) + message(CONTINUATION, payload[5:])


def single_bytes(payload: bytes) -> bytes:
    first, *rest = (payload[at : at + 1] for at in range(len(payload)))
    return frame(BINARY, first) + b"".join(frame(CONTINUATION, byte) for byte in rest) + message(CONTINUATION)


FRAMES = [
    *of(
        "RFC 6455 §5.1",
        session,
        ("a frame that is not masked", ERROR, message(PING, b"a", mask=None)),
        ("a close frame that is not masked", ERROR, message(CLOSE, mask=None)),
        (
            "the second frame is not masked",
            "Welcome, " + ERROR,
            lambda a: message(BINARY, hello(a)) + message(PING, mask=None),
        ),
        ("a frame that is not masked, and 200 kB behind it", ERROR, message(PING, mask=None) + bytes(200_000)),
    ),
    *of(
        "RFC 6455 §5.2",
        session,
        *[(f"RSV{bit} in a ping", ERROR, frame(reserved(bit) | PING, b"a")) for bit in (1, 2, 3)],
        *[(f"RSV{bit} in a message", ERROR, frame(reserved(bit) | BINARY, b"a")) for bit in (1, 2, 3)],
        *[(f"opcode {code:X}", ERROR, message(code, b"a")) for code in [*range(3, 8), *range(0xB, 0x10)]],
        ("125 bytes, their length in 16 bits", ERROR, message(BINARY, b"a" * 125, length=in_16_bits(125))),
        ("no bytes, their length in 16 bits", ERROR, message(BINARY, length=in_16_bits(0))),
        ("125 bytes, their length in 64 bits", ERROR, message(BINARY, b"a" * 125, length=in_64_bits(125))),
        ("300 bytes, their length in 64 bits", ERROR, message(BINARY, b"a" * 300, length=in_64_bits(300))),
        ("a ping's length in 16 bits", ERROR, message(PING, b"a", length=in_16_bits(1))),
        (
            "a continuation's length in 64 bits",
            ERROR,
            frame(BINARY, b"a") + message(CONTINUATION, b"a", length=in_64_bits(1)),
        ),
        ("the highest bit of 64", f"{ERROR} or {TOO_LARGE}", message(BINARY, length=b"\x7f" + b"\xff" * 8)),
        ("the highest bit of 64, in a ping", ERROR, message(PING, length=b"\x7f" + b"\xff" * 8)),
    ),
    *of(
        "RFC 6455 §5.3",
        session,
        ("a mask of zeros", "pong of 1, goes on", message(PING, b"a", mask=bytes(4))),
    ),
    *of(
        "RFC 6455 §5.4",
        session,
        ("a continuation of nothing", ERROR, message(CONTINUATION, b"a")),
        ("a continuation of nothing, which is not the last", ERROR, frame(CONTINUATION, b"a")),
        ("a message within a message", ERROR, frame(BINARY, b"a") + message(BINARY, b"a")),
        ("a text within a message", ERROR, frame(BINARY, b"a") + message(TEXT, b"a")),
        ("a ping in two frames", ERROR, frame(PING, b"a") + message(CONTINUATION, b"a")),
        ("a close in two frames", ERROR, frame(CLOSE, struct.pack("!H", 1000))),
        ("a message in three frames", "Welcome, goes on", lambda a: pieces(hello(a))),
        ("a message in frames of one byte", "Welcome, goes on", lambda a: single_bytes(hello(a))),
        ("a ping between frames", "pong of 1, Welcome, goes on", lambda a: pieces(hello(a), message(PING, b"a"))),
    ),
    *of(
        "RFC 6455 §5.5",
        session,
        ("a ping of 125 bytes", "pong of 125, goes on", message(PING, b"a" * 125)),
        ("a ping of 126 bytes", ERROR, message(PING, b"a" * 126)),
        ("a pong of 126 bytes", ERROR, message(PONG, b"a" * 126)),
        ("a close of 126 bytes", ERROR, closing(1000, b"a" * 124)),
        ("(§5.5.2) an empty ping", "pong of 0, goes on", message(PING)),
        ("(§5.5.3) a pong that nobody asked for", "goes on", message(PONG, b"a")),
    ),
]

CLOSES = [
    *of(
        "RFC 6455 §5.5.1",
        session,
        ("a close without a code", "close without a code or close 1000", message(CLOSE)),
        ("a close of 1 byte", ERROR, message(CLOSE, b"\x03")),
        ("a message behind the close", "close 1000", lambda a: closing(1000) + message(BINARY, hello(a))),
        ("a close within a message", "close 1000", frame(BINARY, b"a") + closing(1000)),
        ("a reason that is not UTF-8", "close 1007 or " + ERROR, closing(1000, b"\xce\xba\xff")),
        ("a reason that ends within a character", "close 1007 or " + ERROR, closing(1000, b"\xce")),
    ),
    *of(
        "RFC 6455 §7.4",
        session,
        *[(f"close {code}", f"close {code} or close 1000", closing(code, b"bye")) for code in VALID],
        ("close 1014", "close 1014 or close 1000", closing(1014, b"bye"), BAD_GATEWAY),
        *[(f"close {code}, which is not valid", ERROR, closing(code)) for code in INVALID],
    ),
]

MESSAGES = [
    *of(
        "RFC 6455 §8.1",
        session,
        ("a text that is not UTF-8", NO_TEXT, message(TEXT, b"\xce\xba\xff")),
        ("a text that ends within a character", NO_TEXT, message(TEXT, b"\xce")),
        ("a surrogate in a text", NO_TEXT, message(TEXT, b"\xed\xa0\x80")),
        ("a text in two frames that is not UTF-8", NO_TEXT, frame(TEXT, b"a") + message(CONTINUATION, b"\xff")),
        ("a character in two frames", "close 1003", frame(TEXT, b"\xce") + message(CONTINUATION, b"\xba")),
    ),
    *of(
        "RFC 6455 §7.4.1",
        session,
        ("a text, where only binary is taken", "close 1003", message(TEXT, b"a")),
        ("an empty message", FOREIGN, message(BINARY)),
        ("a message that is no frame of ours", FOREIGN, message(BINARY, b"\xff\xff")),
    ),
    *of(
        "RFC 6455 §10.4",
        session,
        ("a message of 16,384 bytes", FOREIGN, message(BINARY, b"\xff" * MAX_FRAME_BYTES)),
        ("a message of 16,385 bytes", TOO_LARGE, message(BINARY, b"\xff" * (MAX_FRAME_BYTES + 1))),
        (
            "frames of 16,385 bytes",
            TOO_LARGE,
            frame(BINARY, b"\xff" * MAX_FRAME_BYTES) + message(CONTINUATION, b"\xff"),
        ),
        ("the announcement of 2^63 - 1 bytes", TOO_LARGE, message(BINARY, length=in_64_bits(2**63 - 1))),
        ("the announcement of 2^63 - 1 bytes of text", TOO_LARGE, message(TEXT, length=in_64_bits(2**63 - 1))),
        ("a megabyte", TOO_LARGE, message(BINARY, bytes(1_000_000))),
    ),
]

CASES = [*FRAMES, *CLOSES, *MESSAGES]
