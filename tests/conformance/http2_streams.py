"""RFC 9113, sections 5 and 6.9: what a stream takes in each of its states, and windows, in both directions."""

import h2.connection
import h2.events
import h2.exceptions
from hyperframe import frame as frames

import wire
from case import Case, of
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    LAST_PING,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    Asker,
    asked,
    connection_error,
    conversation,
    frame,
    received,
    seen,
    settings,
    stream_error,
    window_update,
)
from http2_frames import CANCEL, NO_PRIORITY, PROTOCOL
from relay import Relay

#: No answer can end: its stream stays half-closed on our side.
HELD = settings((INITIAL_WINDOW_SIZE, 0))
CLOSED = "STREAM_CLOSED"
ONE_CODE = "the connection ends, as it may; the h2 crate says PROTOCOL_ERROR of a frame behind END_STREAM"
#: More than any window that a server gives, and no more than a case may cost.
ENDLESS = 64 * 1024 * 1024


def server_settings(connection: wire.Wire) -> dict[int, int]:
    came = received(connection)
    return came.settings if isinstance(came, frames.SettingsFrame) else {}


def begins_with_settings(relay: Relay) -> str:
    with wire.public(relay, "h2") as connection:
        connection.send(PREFACE + settings())
        first = received(connection)
        acknowledged = False
        while not acknowledged and (came := received(connection)) is not None:
            acknowledged = isinstance(came, frames.SettingsFrame) and "ACK" in came.flags
    return f"{type(first).__name__}, {'ACK' if acknowledged else 'no ACK'}"


def too_many_streams(relay: Relay) -> str:
    """One more than SETTINGS_MAX_CONCURRENT_STREAMS, each of them waited for."""
    with wire.public(relay, "h2") as connection:
        connection.send(PREFACE + settings())
        most = server_settings(connection).get(3)
        if most is None:
            return "no limit"
        asker = Asker(relay)
        numbers = range(1, 2 * most + 3, 2)
        connection.send(b"".join(asker.begun(stream=number) for number in numbers))
        connection.send(frame(PING, payload=LAST_PING))
        return seen(connection, {numbers[-1]})


def fills_the_window(relay: Relay) -> str:
    """DATA on one stream, and no more than its window may be awaited."""
    with wire.public(relay, "h2") as connection:
        connection.send(PREFACE + settings())
        window = server_settings(connection).get(INITIAL_WINDOW_SIZE, 65535)
        asker = Asker(relay)
        count = min(window, ENDLESS) // 16384 + 2
        data = frame(DATA, 0, 1, b" " * 16384) * count
        connection.send(asker.begun() + data + frame(PING, payload=LAST_PING))
        return seen(connection, {1})


def respects_windows(relay: Relay) -> str:
    """An answer's body comes as its window is opened, and not before."""
    with wire.public(relay, "h2") as connection:

        def body_until(kind: type[frames.Frame], flag: str = "") -> int:
            size = 0
            while (came := received(connection)) is not None:
                size += len(came.data) if isinstance(came, frames.DataFrame) else 0
                if isinstance(came, kind) and (not flag or flag in came.flags):
                    break
            return size

        ping = frame(PING, payload=LAST_PING)
        connection.send(PREFACE + HELD + Asker(relay).request())
        before = body_until(frames.HeadersFrame)
        connection.send(ping)
        before += body_until(frames.PingFrame)
        connection.send(window_update(1, 1))
        first = body_until(frames.DataFrame)
        connection.send(ping)
        first += body_until(frames.PingFrame)
        connection.send(window_update(1, 16384))
        rest = body_until(frames.DataFrame, "END_STREAM")
    return f"{before}, {first}, {'the rest' if rest > 1 else rest}"


def satisfies_h2(relay: Relay) -> str:
    """Ten requests and ten with bodies at once, by a client that holds the server to the standard."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    asker, awaited, statuses = Asker(relay), set(), set()
    for number in range(1, 41, 2):
        has_body = number > 20
        client.send_headers(number, asker.post() if has_body else asker.get(), end_stream=not has_body)
        if has_body:
            client.send_data(number, Asker(relay).json, end_stream=True)
        awaited.add(number)
    with wire.public(relay, "h2") as connection:
        while awaited:
            connection.send(client.data_to_send())
            if not connection.more():
                return "dropped"
            try:
                events = client.receive_data(connection.buffer)
            except h2.exceptions.ProtocolError as error:
                return f"{type(error).__name__}: {error}"
            connection.buffer = b""
            for event in events:
                match event:
                    case h2.events.ResponseReceived():
                        statuses.add(dict(event.headers)[b":status"].decode())
                    case h2.events.DataReceived():
                        client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded() | h2.events.StreamReset():
                        awaited.discard(event.stream_id)
    return " and ".join(sorted(statuses))


STATES = [
    *of(
        "RFC 9113 §5.1",
        connection_error,
        ("DATA on an idle stream", PROTOCOL, lambda a: frame(DATA, END_STREAM, 1, b"a")),
        ("WINDOW_UPDATE on an idle stream", PROTOCOL, lambda a: window_update(1, 5)),
        ("RST_STREAM on an idle stream", PROTOCOL, lambda a: frame(RST_STREAM, 0, 1, CANCEL)),
        (
            "HEADERS behind RST_STREAM",
            f"{CLOSED} or RST_STREAM {CLOSED} or GOAWAY {PROTOCOL}",
            lambda a: a.begun() + frame(RST_STREAM, 0, 1, CANCEL) + a.request(),
        ),
    ),
    conversation(
        "RFC 9113 §6.3", "PRIORITY on an idle stream", "passed over", lambda a: frame(PRIORITY, 0, 7, NO_PRIORITY)
    ),
    stream_error(
        "RFC 9113 §5.1",
        "DATA behind END_STREAM",
        CLOSED,
        lambda a: a.request() + frame(DATA, END_STREAM, 1, b"a"),
        ONE_CODE,
        first=HELD,
    ),
    stream_error(
        "RFC 9113 §5.1", "HEADERS behind END_STREAM", CLOSED, lambda a: a.request() + a.request(), ONE_CODE, first=HELD
    ),
    connection_error(
        "RFC 9113 §5.1",
        "CONTINUATION behind END_STREAM",
        PROTOCOL,
        lambda a: a.request() + frame(CONTINUATION, END_HEADERS, 1),
        first=HELD,
    ),
    asked(
        "RFC 9113 §5.1",
        "PRIORITY and WINDOW_UPDATE behind END_STREAM",
        "200",
        lambda a: a.request() + frame(PRIORITY, 0, 1, NO_PRIORITY) + window_update(1, 5000),
        first=HELD,
    ),
    conversation(
        "RFC 9113 §5.1",
        "RST_STREAM behind END_STREAM",
        "200 or passed over",
        lambda a: a.request() + frame(RST_STREAM, 0, 1, CANCEL),
        first=HELD,
    ),
    conversation(
        "RFC 9113 §5.1",
        "DATA behind RST_STREAM",
        f"passed over or RST_STREAM {CLOSED} or GOAWAY {CLOSED}",
        lambda a: a.begun() + frame(RST_STREAM, 0, 1, CANCEL) + a.body(),
    ),
    *of(
        "RFC 9113 §5.1.1",
        connection_error,
        ("a stream with an even number", PROTOCOL, lambda a: a.request(stream=2)),
        (
            "a smaller number than one before",
            f"{PROTOCOL} or GOAWAY {CLOSED}",
            lambda a: a.begun(stream=5) + a.request(stream=3),
        ),
    ),
    asked(
        "RFC 9113 §6.8",
        "a GOAWAY while a stream is open",
        "200",
        lambda a: a.request() + frame(GOAWAY, 0, 0, bytes(8)) + window_update(1, 5000),
        first=HELD,
    ),
]

OPEN_LIMITS = [
    *of(
        "RFC 9113",
        Case,
        ("(§3.4) SETTINGS come first, and ours are acknowledged", "SettingsFrame, ACK", begins_with_settings),
        (
            "(§5.1.2) a stream too many",
            "RST_STREAM REFUSED_STREAM or RST_STREAM PROTOCOL_ERROR or GOAWAY PROTOCOL_ERROR",
            too_many_streams,
        ),
        ("(§6.9.1) an answer waits for its window", "0, 1, the rest", respects_windows),
        ("twenty requests at once, by PyPI's h2", "200 and 201", satisfies_h2),
        (
            "(§6.9.1) more DATA than the window",
            "413 or 413, RST_STREAM NO_ERROR or RST_STREAM FLOW_CONTROL_ERROR or GOAWAY FLOW_CONTROL_ERROR",
            fills_the_window,
        ),
    ),
]

CASES = [*STATES, *OPEN_LIMITS]
