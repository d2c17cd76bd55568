"""RFC 6455 from a raw socket.

Seen is what comes back: a close frame's code, a pong, our `Welcome`; "dropped" is the end of the connection without a close
frame. Behind what is sent comes a ping, so that what is to be passed over is seen to be: it "goes on".
"""

import base64
import os
import struct

import http1
import wire
from case import Case
from jose import uuid7
from parties import Agent
from relay import Relay
from wire import Wire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
MASK = b"\x01\x02\x03\x04"
LAST_PING = b"is anybody there"


def key() -> bytes:
    return base64.b64encode(os.urandom(16))


def upgrade(
    relay: Relay,
    *fields: bytes,
    agent: Agent | None = None,
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
    without: bytes = b"",
) -> bytes:
    """A good one, with these fields in place of those of the same name."""
    good = {
        b"Host": relay.authority.encode(),
        b"Authorization": b"Bearer " + (agent or relay.agent).assertion().encode(),
        b"Connection": b"Upgrade",
        b"Upgrade": b"websocket",
        b"Sec-WebSocket-Version": b"13",
        b"Sec-WebSocket-Key": key(),
        b"Sec-WebSocket-Protocol": b"writeback.v1",
    }
    given = {field.split(b":")[0] for field in fields} | {without}
    kept = [name + b": " + value for name, value in good.items() if name not in given]
    return http1.message(method + b" /v1/agent/session " + version, [*kept, *fields])


def shortest(size: int) -> bytes:
    if size < 126:
        return bytes([size])
    return b"\x7e" + struct.pack("!H", size) if size < 65536 else b"\x7f" + struct.pack("!Q", size)


def frame(first: int, payload: bytes = b"", mask: bytes | None = MASK, length: bytes | None = None) -> bytes:
    """`first` is FIN, RSV and the opcode; `length` is the shortest one if it is not given."""
    length = shortest(len(payload)) if length is None else length
    if mask is None:
        return bytes([first]) + length + payload
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first, length[0] | 0x80]) + length[1:] + mask + masked


def message(opcode: int, payload: bytes = b"", **how) -> bytes:
    return frame(FIN | opcode, payload, **how)


def closing(code: int, reason: bytes = b"") -> bytes:
    return message(CLOSE, struct.pack("!H", code) + reason)


def hello(agent: Agent) -> bytes:
    """`AgentFrame` of session.proto, which is answered `Welcome`. It displaces the agent's sessions that said it before."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    inside = field(1, b"1.0.0") + field(2, uuid7().encode()) + field(3, agent.journal.encode())
    return field(1, inside)


def received(connection: Wire) -> tuple[int, bytes] | None:
    """The next frame: its first byte and its payload."""
    head = connection.take(2)
    if head is None:
        return None
    first, size = head
    if size >= 126:
        more = connection.take(2 if size == 126 else 8)
        if more is None:
            return None
        size = int.from_bytes(more, "big")
    payload = connection.take(size)
    return None if payload is None else (first, payload)


def seen(connection: Wire) -> str:
    """Everything up to the answer to the last ping, or the end."""
    words = []
    while (came := received(connection)) is not None:
        match came:
            case (first, payload) if first == FIN | PONG and payload == LAST_PING:
                return ", ".join([*words, "goes on"])
            case (first, payload) if first == FIN | PONG:
                words.append(f"pong of {len(payload)}")
            case (first, payload) if first == FIN | CLOSE:
                words.append(f"close {struct.unpack('!H', payload[:2])[0]}" if payload else "close without a code")
                connection.send(message(CLOSE, payload[:2]))
                # The server ends the connection first (§7.1.1).
                if received(connection) is None:
                    return ", ".join(words)
                words.append("more behind it")
            case (first, payload) if first == FIN | BINARY and payload[:1] == b"\x0a":
                words.append("Welcome")
            case (first, _) if first != FIN | BINARY:
                words.append(f"a frame {first:02x}")
    return ", ".join([*words, "dropped"])


def session(section: str, what: str, expected: str, sends, reason: str = "") -> Case:
    """A good upgrade, then these bytes, and a ping. What says `hello` is sent by an agent of its own."""

    def run(relay: Relay) -> str:
        agent = relay.enrol(Agent(relay.url)) if callable(sends) else relay.agent
        with wire.public(relay, "http/1.1") as connection:
            connection.send(upgrade(relay, agent=agent))
            answer = http1.answer(connection)
            if answer is None or answer[0] != 101:
                return f"no upgrade: {answer}"
            connection.send(sends(agent) if callable(sends) else sends)
            connection.send(message(PING, LAST_PING))
            return seen(connection)

    return Case(section, what, expected, run, reason)


def handshake(section: str, what: str, expected: str, build, reason: str = "") -> Case:
    """Seen is the status; of 426 also the version that is asked for."""

    def run(relay: Relay) -> str:
        with wire.public(relay, "http/1.1") as connection:
            connection.send(build(relay))
            answer = http1.answer(connection)
        if answer is None:
            return "closed"
        status, fields, _ = answer
        return f"426, version {fields.get('sec-websocket-version', 'none')}" if status == 426 else str(status)

    return Case(section, what, expected, run, reason)
