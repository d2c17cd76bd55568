"""Which protocol is spoken on which connection: the one that ALPN chose, and HTTP/1.1 on the operator's listener."""

import ssl

import http1
import http2
import wire
from case import Case, of
from http1_bodies import H2C
from relay import Relay
from wire import Wire

LIVEZ = b"GET /livez HTTP/1.1"
#: No HTTP/2, and no answer either, or one that says what is spoken here.
NOT_SPOKEN = "dropped or an answer of HTTP/1.1: 400"
PREFACE = http2.PREFACE + http2.settings() + http2.frame(http2.PING, payload=http2.LAST_PING)


def spoken(connection: Wire) -> str:
    """What the first bytes of an answer are."""
    head = connection.take(9)
    if head is None:
        return "dropped"
    if head.startswith(b"HTTP/1.1 "):
        status = connection.take(3)
        return f"an answer of HTTP/1.1: {status.decode() if status else 'cut off'}"
    return "HTTP/2" if head[3] == http2.SETTINGS else f"a frame of type {head[3]}"


def chosen(section: str, what: str, expected: str, protocols: tuple[str, ...], first) -> Case:
    """The first bytes on a connection for which ALPN was asked so."""

    def run(relay: Relay) -> str:
        with wire.public(relay, *protocols) as connection:
            connection.send(first(relay) if callable(first) else first)
            return spoken(connection)

    return Case(section, what, expected, run)


def agreed(section: str, what: str, expected: str, *protocols: str) -> Case:
    """What ALPN ends with."""

    def run(relay: Relay) -> str:
        try:
            with wire.public(relay, *protocols) as connection:
                return str(connection.tls.selected_alpn_protocol())
        except ssl.SSLError as error:
            return "an alert" if "no application protocol" in str(error).lower().replace("_", " ") else str(error)

    return Case(section, what, expected, run)


def at_ops(section: str, what: str, expected: str, first: bytes) -> Case:
    """On the operator's listener, without TLS."""

    def run(relay: Relay) -> str:
        with wire.ops(relay) as connection:
            connection.send(first)
            return spoken(connection)

    return Case(section, what, expected, run)


def livez(*fields: bytes) -> bytes:
    return http1.message(LIVEZ, list(fields))


CASES = [
    *of(
        "RFC 7301 §3.2",
        agreed,
        ("h2 and http/1.1 are offered", "h2", "http/1.1", "h2"),
        ("http/1.1 is offered", "http/1.1", "http/1.1"),
        ("nothing is offered", "None"),
        ("what is not spoken here is offered", "an alert", "spdy/3"),
    ),
    *of(
        "RFC 9113 §3.2",
        chosen,
        ("h2 was chosen, and HTTP/2 comes", "HTTP/2", ("h2",), PREFACE),
        ("http/1.1 was chosen, and HTTP/1.1 comes", "an answer of HTTP/1.1: 200", ("http/1.1",), http1.get),
        ("nothing was chosen, and HTTP/1.1 comes", "an answer of HTTP/1.1: 200", (), http1.get),
        ("http/1.1 was chosen, and HTTP/2 comes", NOT_SPOKEN, ("http/1.1",), PREFACE),
        ("nothing was chosen, and HTTP/2 comes", NOT_SPOKEN, (), PREFACE),
        ("h2 was chosen, and HTTP/1.1 comes", "dropped or HTTP/2", ("h2",), http1.get),
    ),
    *of(
        "RFC 9113 §3.3",
        at_ops,
        ("HTTP/2 on the operator's listener", NOT_SPOKEN, PREFACE),
        ("an upgrade to h2c there is passed over", "an answer of HTTP/1.1: 200", livez(b"Host: localhost", *H2C)),
        ("HTTP/1.1 there", "an answer of HTTP/1.1: 200", livez(b"Host: localhost")),
        ("(RFC 9112 §3.2) no Host there", "an answer of HTTP/1.1: 400", livez()),
        ("(RFC 9112 §3.2) two Hosts there", "an answer of HTTP/1.1: 400", livez(b"Host: a", b"Host: b")),
        ("(RFC 9112 §3) no line of HTTP there", "an answer of HTTP/1.1: 400", b"GARBAGE\r\n\r\n"),
    ),
]
