"""HTTP/1.1 from a raw socket.

Seen is the status of each answer, and whether the connection takes another request behind it. A request that stands in
another one's body shows as an answer too many.
"""

import json

import wire
from case import Case
from parties import TENANT
from relay import Relay
from wire import Wire

AVAILABILITY = f"/v1/tenants/{TENANT}/availability".encode()
INVITATIONS = f"/v1/tenants/{TENANT}/invitations".encode()
#: Refused by whoever reads the bytes; a service that refuses may keep the connection.
UNREADABLE = "400, closed"
BAD = "400, closed or 400, open"


def message(line: bytes, fields: list[bytes], body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *fields, b"", body])


def host(relay: Relay) -> bytes:
    return f"Host: {relay.authority}".encode()


def get(
    relay: Relay,
    *fields: bytes,
    target: bytes = AVAILABILITY,
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
    hosts: tuple[bytes, ...] | None = None,
) -> bytes:
    """Answered 200. `hosts` stands in place of the good Host."""
    bearer = f"Authorization: Bearer {relay.portal.assertion()}".encode()
    first = [host(relay)] if hosts is None else list(hosts)
    return message(b" ".join([method, target, version]), [*first, bearer, *fields])


def post(relay: Relay, *fields: bytes, body=lambda content: content, version: bytes = b"HTTP/1.1") -> bytes:
    """Answered 201, if what arrives is the JSON that `body` is given. LENGTH is that of what it gives back."""
    content = body(json.dumps(relay.portal.invitation()).encode())
    fields = tuple(field.replace(b"LENGTH", str(len(content)).encode()) for field in fields)
    media_type = b"Content-Type: application/json"
    return get(relay, media_type, *fields, target=INVITATIONS, method=b"POST", version=version) + content


def answer(connection: Wire, has_body: bool = True) -> tuple[int, dict[str, str], bytes] | None:
    """The next final answer; nothing at the end of the connection."""
    status = 100
    while 100 <= status < 200 and status != 101:
        head = connection.take_until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1."):
            raise ValueError(f"this is no answer of HTTP/1.1: {first!r}")
        status = int(first.split(" ")[1])
        fields = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    length = int(fields.get("content-length", "0")) if has_body and status not in (101, 204, 304) else 0
    body = connection.take(length)
    return None if body is None else (status, fields, body)


def exchange(connection: Wire, sent: bytes, then: bytes, has_body: bool = True, ends: bool = False) -> str:
    """`then` is answered 200 by whoever has not closed."""
    connection.send(sent)
    if ends:
        connection.end()
    first = answer(connection, has_body)
    if first is None:
        return "closed"
    seen = [str(first[0])]
    connection.send(then)
    while (following := answer(connection)) is not None:
        if following[0] == 200:
            return ", ".join([*seen, "open"])
        seen.append(str(following[0]))
    return ", ".join([*seen, "closed"])


def sent(section: str, what: str, expected: str, build, reason: str = "", **how) -> Case:
    def run(relay: Relay) -> str:
        with wire.public(relay, "http/1.1") as connection:
            return exchange(connection, build(relay), get(relay), **how)

    return Case(section, what, expected, run, reason)


def with_fields(*fields: bytes, **how):
    """A GET with these fields, or another part of it."""
    return lambda relay: get(relay, *fields, **how)


def altered(old: bytes, new: bytes):
    """A GET with other bytes."""
    return lambda relay: get(relay).replace(old, new)
