"""RFC 6455, section 4.2: the request for an upgrade, and its answer."""

import base64
import hashlib

import http1
import wire
from case import Case, of
from relay import Relay
from websocket import handshake, key, upgrade

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = "426, version 13"
NO_UPGRADE = VERSION + " or 400"


def with_fields(*fields: bytes, **how):
    return lambda relay: upgrade(relay, *fields, **how)


def keys(*values: bytes):
    return with_fields(*[b"Sec-WebSocket-Key: " + value for value in values])


def versions(*values: bytes):
    return with_fields(*[b"Sec-WebSocket-Version: " + value for value in values])


def protocols(*values: bytes):
    return with_fields(*[b"Sec-WebSocket-Protocol: " + value for value in values])


def is_answered(relay: Relay) -> str:
    """§4.2.2: the accept of the key, the subprotocol, and none of the extensions."""
    ours = key()
    extension = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    with wire.public(relay, "http/1.1") as connection:
        connection.send(upgrade(relay, b"Sec-WebSocket-Key: " + ours, extension))
        answer = http1.answer(connection)
    if answer is None:
        return "closed"
    status, fields, _ = answer
    accept = base64.b64encode(hashlib.sha1(ours + GUID).digest()).decode()
    right = fields.get("sec-websocket-accept") == accept
    extensions = fields.get("sec-websocket-extensions", "no extension")
    tokens = fields.get("upgrade", "").lower(), fields.get("connection", "").lower()
    return f"{status}, {'right' if right else 'wrong'} accept, {fields.get('sec-websocket-protocol')}, {extensions}, {tokens}"


ANSWER = "101, right accept, writeback.v1, no extension, ('websocket', 'upgrade')"

CASES = [
    Case("RFC 6455 §4.2.2", "a good request, which offers an extension", ANSWER, is_answered),
    *of(
        "RFC 6455 §4.2.1",
        handshake,
        ("POST", "405 or 400", with_fields(method=b"POST")),
        ("HTTP/1.0", NO_UPGRADE, with_fields(version=b"HTTP/1.0")),
        ("no Host", "400", with_fields(without=b"Host")),
        ("two Hosts", "400", with_fields(b"Host: a", b"Host: b")),
        ("no Upgrade", NO_UPGRADE, with_fields(without=b"Upgrade")),
        ("another Upgrade", NO_UPGRADE, with_fields(b"Upgrade: h2c")),
        ("a word that contains websocket", NO_UPGRADE, with_fields(b"Upgrade: xwebsocket")),
        ("Upgrade: WebSocket", "101", with_fields(b"Upgrade: WebSocket")),
        ("websocket in a list", "101", with_fields(b"Upgrade: h2c, websocket")),
        ("websocket in the second Upgrade", "101", with_fields(b"Upgrade: h2c", b"Upgrade: websocket")),
        ("no Connection", NO_UPGRADE, with_fields(without=b"Connection")),
        ("another Connection", NO_UPGRADE, with_fields(b"Connection: keep-alive")),
        ("a word that contains upgrade", NO_UPGRADE, with_fields(b"Connection: no-upgrade")),
        ("Connection: upgrade", "101", with_fields(b"Connection: upgrade")),
        ("Upgrade in a list", "101", with_fields(b"Connection: keep-alive, Upgrade")),
        ("Upgrade in the second Connection", "101", with_fields(b"Connection: keep-alive", b"Connection: Upgrade")),
        ("an Origin", "101", with_fields(b"Origin: https://browser.example")),
        ("no key", "400", with_fields(without=b"Sec-WebSocket-Key")),
        ("an empty key", "400", keys(b"")),
        ("a key of 15 bytes", "400", keys(base64.b64encode(b"a" * 15))),
        ("a key of 17 bytes", "400", keys(base64.b64encode(b"a" * 17))),
        ("a key that is no base64", "400", keys(b"!" * 22 + b"==")),
        ("a key in base64url", "400", keys(base64.urlsafe_b64encode(b"\xff" * 16))),
        ("a key without padding", "400", keys(base64.b64encode(b"a" * 16).rstrip(b"="))),
        ("two keys", "400", keys(key(), key())),
    ),
    *of(
        "RFC 6455 §4.4",
        handshake,
        ("no version", NO_UPGRADE, with_fields(without=b"Sec-WebSocket-Version")),
        ("version 8", VERSION, versions(b"8")),
        ("version 14", VERSION, versions(b"14")),
        ("version 013", VERSION, versions(b"013")),
        ("version 13x", VERSION, versions(b"13x")),
        ("an empty version", VERSION, versions(b"")),
        ("two versions", NO_UPGRADE, versions(b"13", b"8")),
        ("a list of versions", NO_UPGRADE, versions(b"8, 13")),
    ),
    *of(
        "RFC 6455 §4.2.2",
        handshake,
        ("no subprotocol", NO_UPGRADE, with_fields(without=b"Sec-WebSocket-Protocol")),
        ("another subprotocol", NO_UPGRADE, protocols(b"chat")),
        ("a subprotocol in capitals is another one", NO_UPGRADE, protocols(b"Writeback.V1")),
        ("ours in a list", "101", protocols(b"chat, writeback.v1")),
        ("ours in the second field", "101", protocols(b"chat", b"writeback.v1")),
    ),
    handshake("RFC 6455 §9.1", "an extension that nobody knows", "101", with_fields(b"Sec-WebSocket-Extensions: brew")),
]
