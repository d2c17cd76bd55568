"""RFC 9112, sections 2 to 5: lines, targets, Host, fields."""

from case import of
from http1 import (
    AVAILABILITY,
    BAD,
    UNREADABLE,
    altered,
    get,
    host,
    message,
    sent,
    with_fields,
)

TOKENS = (
    "hyper parses the target with http::Uri, which takes more bytes than the grammar has; the path is not found then"
)
FRAGMENT = "http::Uri, which hyper parses targets with, cuts a fragment off and tells nobody"
REFUSED_METHOD = "405, open or 405, closed or 501, open or 501, closed"
NOT_FOUND = BAD + " or 404, open"
TOO_LONG = "431, closed or 414, closed"


def absolute(relay, **how) -> bytes:
    return get(relay, target=f"https://{relay.authority}{AVAILABILITY.decode()}".encode(), **how)


LINES = of(
    "RFC 9112 §2.2",
    sent,
    ("an empty line before the request line", "200, open", lambda r: b"\r\n" + get(r)),
    ("empty lines without an end", TOO_LONG + " or " + UNREADABLE, lambda r: b"\r\n" * 50_000),
    ("lines that end with a bare LF", "200, open or " + UNREADABLE, altered(b"\r\n", b"\n")),
    ("a bare CR in a field's value", UNREADABLE, with_fields(b"X-A: a\rb")),
    ("a bare CR in the request line", UNREADABLE, with_fields(target=AVAILABILITY + b"\rX")),
    ("white space before the first field", UNREADABLE, altered(b"\r\nHost", b"\r\n Host")),
    ("bytes that are no line of HTTP", UNREADABLE, lambda r: b"\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n"),
)

VERSIONS = [
    *of(
        "RFC 9112 §2.3",
        sent,
        ("a version in lower case", UNREADABLE, with_fields(version=b"http/1.1")),
        (
            "HTTP/1.2 is taken as 1.1, or refused",
            "200, open or 505, closed or " + UNREADABLE,
            with_fields(version=b"HTTP/1.2"),
        ),
        ("HTTP/2.0 in a request line", "505, closed or " + UNREADABLE, with_fields(version=b"HTTP/2.0")),
        (
            "the preface of HTTP/2, and another end",
            "505, closed or " + UNREADABLE,
            lambda r: b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        ),
        ("HTTP/11", UNREADABLE, with_fields(version=b"HTTP/11")),
        ("HTTP/1.10", UNREADABLE, with_fields(version=b"HTTP/1.10")),
        ("HTP/1.1", UNREADABLE, with_fields(version=b"HTP/1.1")),
        ("no version: HTTP/0.9", UNREADABLE, lambda r: b"GET /v1/x\r\n\r\n"),
        ("HTTP/1.0 ends its connection", "200, closed", with_fields(version=b"HTTP/1.0")),
    ),
    *of(
        "RFC 9112 §3",
        sent,
        ("a request line without a target", UNREADABLE, lambda r: message(b"GET HTTP/1.1", [host(r)])),
        ("two spaces before the target", UNREADABLE, with_fields(method=b"GET ")),
        ("a tab before the version", UNREADABLE, lambda r: message(b"GET /\tHTTP/1.1", [host(r)])),
        ("a space behind the version", UNREADABLE, with_fields(version=b"HTTP/1.1 ")),
        ("a space before the method", UNREADABLE, with_fields(method=b" GET")),
        ("a space in the target", UNREADABLE, with_fields(target=AVAILABILITY + b" x")),
        ("a method that is no token", UNREADABLE, with_fields(method=b"G(T")),
        ("NUL in the target", UNREADABLE, with_fields(target=b"/a\0b")),
        ("a byte above 127 in the target", UNREADABLE, with_fields(target=b"/\xff")),
        ("a quotation mark in the target", BAD, with_fields(target=b'/a"b'), TOKENS),
        ("a backslash in the target", BAD, with_fields(target=b"/a\\b"), TOKENS),
        ("a percent sign without two digits", BAD, with_fields(target=b"/a%zz"), TOKENS),
        ("a fragment", BAD, with_fields(target=AVAILABILITY + b"#x"), FRAGMENT),
        ("a target of 8,000 bytes is read", "404, open", with_fields(target=b"/" + b"a" * 8000)),
        ("a target of 100 kB", TOO_LONG, with_fields(target=b"/" + b"a" * 100_000)),
    ),
    *of(
        "RFC 9110 §9",
        sent,
        ("a method in lower case is another one", REFUSED_METHOD, with_fields(method=b"get")),
        ("a method that nobody knows", REFUSED_METHOD, with_fields(method=b"BREW")),
        ("TRACE", REFUSED_METHOD, with_fields(method=b"TRACE")),
    ),
    sent("RFC 9110 §9.3.2", "HEAD has no body", "200, open", with_fields(method=b"HEAD"), has_body=False),
]

HOSTS = of(
    "RFC 9112 §3.2",
    sent,
    ("no Host", BAD, with_fields(hosts=())),
    ("two Hosts", BAD, with_fields(b"Host: other")),
    ("the same Host twice", BAD, lambda r: get(r, host(r))),
    ("an empty Host", BAD, with_fields(hosts=(b"Host:",))),
    ("a space in Host", BAD, with_fields(hosts=(b"Host: a b",))),
    ("a path in Host", BAD, with_fields(hosts=(b"Host: localhost/x",))),
    ("two hosts in one Host", BAD, with_fields(hosts=(b"Host: a, b",))),
    ("a user in Host", BAD, with_fields(hosts=(b"Host: user@localhost",))),
    ("a port that is none", BAD, with_fields(hosts=(b"Host: localhost:x",))),
    ("an IPv6 address as Host", "200, open", with_fields(hosts=(b"Host: [::1]:8443",))),
    ("no Host in HTTP/1.0", "200, closed", with_fields(version=b"HTTP/1.0", hosts=())),
    ("two Hosts in HTTP/1.0", UNREADABLE, with_fields(b"Host: other", version=b"HTTP/1.0")),
)

TARGETS = [
    *of(
        "RFC 9112 §3.2",
        sent,
        ("(§3.2.1) a target that begins with no slash", BAD, with_fields(target=b"v1")),
        ("(§3.2.1) a query alone", BAD, with_fields(target=b"?x")),
        ("(§3.2.2) an absolute target", "200, open", absolute),
        ("(§3.2.2) an absolute target without Host", BAD, lambda r: absolute(r, hosts=())),
        ("(§3.2.2) an absolute target without a host", BAD, with_fields(target=b"https://")),
        ("(§3.2.3) CONNECT", REFUSED_METHOD + " or " + BAD, with_fields(method=b"CONNECT", target=b"localhost:443")),
        ("(§3.2.3) a host and a port as the target of GET", BAD, with_fields(target=b"localhost:443")),
        ("(§3.2.3) a user and a host as the target of GET", BAD, with_fields(target=b"user@localhost")),
        (
            "(§3.2.4) OPTIONS *",
            "200, open or 204, open or 404, open or 405, open",
            with_fields(method=b"OPTIONS", target=b"*"),
        ),
        ("(§3.2.4) GET *", NOT_FOUND, with_fields(target=b"*")),
    ),
]

FIELDS = [
    *of(
        "RFC 9112 §5.1",
        sent,
        ("white space before the colon", UNREADABLE, with_fields(b"X-A : a")),
        ("a tab before the colon", UNREADABLE, with_fields(b"X-A\t: a")),
        ("a field without a name", UNREADABLE, with_fields(b": a")),
        ("a field without a colon", UNREADABLE, with_fields(b"X-A")),
        ("a name that is no token", UNREADABLE, with_fields(b"X{A}: a")),
    ),
    *of(
        "RFC 9112 §5.2",
        sent,
        ("a folded line", UNREADABLE, with_fields(b"X-A: a", b" b")),
        ("a line folded by a tab", UNREADABLE, with_fields(b"X-A: a", b"\tb")),
    ),
    *of(
        "RFC 9110 §5.5",
        sent,
        ("NUL in a value", UNREADABLE, with_fields(b"X-A: a\0b")),
        ("a control character in a value", UNREADABLE, with_fields(b"X-A: a\x07b")),
        ("bytes above 127 in a value", "200, open", with_fields(b"X-A: \xe9\xff")),
    ),
    *of(
        "RFC 9110 §5.4",
        sent,
        ("200 fields", "431, closed", with_fields(*[b"X-%d: a" % number for number in range(200)])),
        ("a field of 100 kB", "431, closed", with_fields(b"X-A: " + b"a" * 100_000)),
    ),
]

CASES = [*LINES, *VERSIONS, *HOSTS, *TARGETS, *FIELDS]
