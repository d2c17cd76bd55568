"""A connection of HTTP/2 whose every frame the case writes itself. hyperframe reads the frames that come, hpack the fields.

Seen are the answers and the errors, in the order in which they came; of a connection that the server ends, only how. Behind
what is sent comes a PING, so that what is to be passed over is seen to be.
"""

import json
import struct

import hpack
from hyperframe import frame as frames

import wire
from case import Case
from http1 import AVAILABILITY, INVITATIONS
from relay import Relay
from wire import Wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITISED = 0x4, 0x8, 0x20
#: RFC 9113 §6.5.2.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)
#: RFC 9113 §7, in the order of their numbers.
ERRORS = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED"
).split()
LAST_PING = b"the end?"

Fields = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    """`length` is the payload's if it is not given."""
    length = len(payload) if length is None else length
    return struct.pack("!I", length)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack("!HI", *pair) for pair in pairs))


def window_update(stream: int, by: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", by))


def block(fields: Fields) -> bytes:
    """Nothing of it enters the dynamic table: each block stands for itself."""
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*field) for field in fields])


class Asker:
    """What this relay's portal asks."""

    def __init__(self, relay: Relay):
        self.authority = relay.authority.encode()
        self.bearer = b"Bearer " + relay.portal.assertion().encode()
        self.json = json.dumps(relay.portal.invitation()).encode()

    def get(self, *more: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
        """Answered 200. `path=None` leaves that pseudo-header out."""
        good = {"method": b"GET", "scheme": b"https", "authority": self.authority, "path": AVAILABILITY}
        named = [(b":" + name.encode(), value) for name, value in (good | pseudo).items() if value is not None]
        return [*named, (b"authorization", self.bearer), *more]

    def post(self, *more: tuple[bytes, bytes]) -> Fields:
        """Answered 201 if the JSON follows."""
        return self.get((b"content-type", b"application/json"), *more, method=b"POST", path=INVITATIONS)

    def headers(self, stream: int, fields: Fields, flags: int = END_HEADERS | END_STREAM) -> bytes:
        return frame(HEADERS, flags, stream, block(fields))

    def request(self, *more: tuple[bytes, bytes], stream: int = 1, **pseudo: bytes | None) -> bytes:
        """A whole GET."""
        return self.headers(stream, self.get(*more, **pseudo))

    def begun(self, *more: tuple[bytes, bytes], stream: int = 1) -> bytes:
        """A POST whose body has still to come."""
        return self.headers(stream, self.post(*more), END_HEADERS)

    def body(self, stream: int = 1) -> bytes:
        return frame(DATA, END_STREAM, stream, self.json)


def received(connection: Wire) -> frames.Frame | None:
    head = connection.take(9)
    if head is None:
        return None
    came, length = frames.Frame.parse_frame_header(memoryview(head))
    payload = connection.take(length)
    if payload is None:
        return None
    came.parse_body(memoryview(payload))
    return came


def seen(connection: Wire, streams: set[int]) -> str:
    """Until these streams have ended and the last PING is answered, or the connection ends."""
    words, gone, answered, decoder = [], "", False, hpack.Decoder()
    while not connection.buffer and connection.more():
        pass
    if connection.buffer.startswith(b"HTTP/"):
        return "an answer of HTTP/1.1"
    while streams or not answered or gone:
        match came := received(connection):
            case None:
                # What was answered before the end does not excuse anything.
                return gone or "dropped"
            case frames.HeadersFrame():
                words.append(dict(decoder.decode(came.data)).get(":status", "trailers"))
            case frames.RstStreamFrame():
                words.append(f"RST_STREAM {ERRORS[came.error_code]}")
                streams.discard(came.stream_id)
            case frames.GoAwayFrame():
                gone = f"GOAWAY {ERRORS[came.error_code]}"
            case frames.PingFrame() if "ACK" in came.flags and came.opaque_data == LAST_PING:
                answered = True
            case frames.PingFrame() if "ACK" in came.flags:
                words.append("PING ACK")
        if "END_STREAM" in came.flags:
            streams.discard(came.stream_id)
    return ", ".join(words) or "passed over"


def conversation(
    section: str,
    what: str,
    expected: str,
    build,
    reason: str = "",
    streams: tuple[int, ...] = (),
    preface: bytes = PREFACE,
    first: bytes = settings(),
) -> Case:
    """A connection, the bytes that `build` makes, and a PING. These streams have to end."""

    def run(relay: Relay) -> str:
        with wire.public(relay, "h2") as connection:
            connection.send(preface + first + build(Asker(relay)) + frame(PING, payload=LAST_PING))
            return seen(connection, set(streams))

    return Case(section, what, expected, run, reason)


def asked(section: str, what: str, expected: str, build, reason: str = "", **how) -> Case:
    """The same, of stream 1."""
    return conversation(section, what, expected, build, reason, (1,), **how)


def connection_error(section: str, what: str, code: str, build, reason: str = "", **how) -> Case:
    return conversation(section, what, f"GOAWAY {code}", build, reason, **how)


def stream_error(section: str, what: str, code: str, build, reason: str = "", **how) -> Case:
    """An endpoint may take it for an error of the connection (RFC 9113 §5.4)."""
    return asked(section, what, f"RST_STREAM {code} or GOAWAY {code}", build, reason, **how)


def malformed(section: str, what: str, build, reason: str = "") -> Case:
    """A server may answer first (RFC 9113 §8.1.1)."""
    expected = "400 or RST_STREAM PROTOCOL_ERROR or 400, RST_STREAM PROTOCOL_ERROR or GOAWAY PROTOCOL_ERROR"
    return asked(section, what, expected, build, reason)
