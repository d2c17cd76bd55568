"""What a stranger finds out about who is known here: by what a refusal says, and by how long it takes."""

import json
import statistics
import time

import http1
import wire
from case import Case
from http1 import AVAILABILITY
from jose import uuid7
from parties import TENANT, Agent, Portal
from relay import Relay
from wire import Wire


def refused(relay: Relay, method: str, path: str, bearer: str = "", body: str = "") -> str:
    """All of a refusal that may differ, but for its trace."""
    fields = [f"Authorization: Bearer {bearer}"] if bearer else ["Content-Type: application/jose"]
    fields = [f"Host: {relay.authority}", *fields, f"Content-Length: {len(body)}"]
    sent = http1.message(f"{method} {path} HTTP/1.1".encode(), [field.encode() for field in fields], body.encode())
    with wire.public(relay, "http/1.1") as connection:
        connection.send(sent)
        answer = http1.answer(connection)
    if answer is None:
        return "closed"
    status, named, problem = answer
    said = json.loads(problem)
    return f"{status} {said['code']}: {said['detail']} ({named.get('www-authenticate')})"


def strangers(relay: Relay) -> dict[str, str]:
    """Assertions by somebody who is not the portal, in the name of nobody and in the portal's."""
    nobody, impostor = Portal(relay.url, id="nobody"), Portal(relay.url, id=relay.portal.id)
    return {
        "an id that nobody has": nobody.assertion(),
        "an id that nobody has, with the portal's kid": nobody.assertion(relay.portal.key.kid),
        "the portal's id, with a kid of ours": impostor.assertion(),
        "the portal's id and kid": impostor.assertion(relay.portal.key.kid),
    }


def told_apart(answers: dict[str, str]) -> str:
    """Whether answers differ, and then which: as few words as tell it."""
    return "the same" if len(set(answers.values())) == 1 else "; ".join(sorted(set(answers.values())))


def portal_calls(method: str, path: str):
    def run(relay: Relay) -> str:
        at = path.format(tenant=TENANT, command=uuid7(), kid=relay.portal.key.kid)
        return told_apart({who: refused(relay, method, at, bearer) for who, bearer in strangers(relay).items()})

    return run


def portal_rotations(relay: Relay) -> str:
    """One that a stranger has signed, in the name of nobody and in the portal's."""
    who = Portal(relay.url, id="nobody"), Portal(relay.url, id=relay.portal.id)
    return told_apart({one.id: refused(relay, "POST", "/v1/portal/rotations", body=one.rotation()) for one in who})


def enrolments(relay: Relay) -> str:
    """A code that nobody made, and one that the portal made with another token."""
    invitation = relay.portal.invitation()
    relay.call(201, "POST", f"/v1/tenants/{TENANT}/invitations", invitation)
    stranger = Agent(relay.url)
    answers = {}
    for id in (uuid7(), invitation["id"]):
        body = json.dumps(stranger.enrollment(id, bytes(32)))
        head = [
            f"Host: {relay.authority}".encode(),
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(body),
        ]
        with wire.public(relay, "http/1.1") as connection:
            connection.send(http1.message(b"POST /v1/enrollments HTTP/1.1", head, body.encode()))
            answer = http1.answer(connection)
        problem = json.loads(answer[2]) if answer else {}
        answers[id] = f"{problem.get('status')} {problem.get('code')}: {problem.get('detail')}"
    return told_apart(answers)


def other_tenants(relay: Relay) -> str:
    """A tenant that there is not, and one that was not granted to the portal. Their names are in the answers."""
    relay.operator("tenant", "add", "fabrikam")
    answers = {}
    for tenant in ("adatum", "fabrikam"):
        said = refused(relay, "GET", f"/v1/tenants/{tenant}/availability", relay.portal.assertion())
        answers[tenant] = said.replace(tenant, "TENANT")
    return told_apart(answers)


#: Enough for medians that a quiet machine and a busy one agree on.
PAIRS = 300
#: A connection that has shown no credential is closed after 16 answers.
PAIRS_OF_A_CONNECTION = 8


def times(relay: Relay, nobody: bytes, portal: bytes) -> str:
    """In how many of the pairs the portal's id took longer than one that nobody has; half of them, by chance."""

    def took(connection: Wire, sent: bytes) -> float:
        begun = time.perf_counter()
        connection.send(sent)
        answer = http1.answer(connection)
        longer = time.perf_counter() - begun
        if not answer or answer[0] not in (401, 409):
            raise ValueError(f"no refusal of a signature: {answer}")
        return longer

    pairs = []
    while len(pairs) < PAIRS:
        with wire.public(relay, "http/1.1") as connection:
            # The first on a connection takes longer, whoever it is.
            for first, second in [(nobody, portal), (portal, nobody)] * (PAIRS_OF_A_CONNECTION // 2):
                time_of = {first: took(connection, first), second: took(connection, second)}
                pairs.append((time_of[nobody], time_of[portal]))
    longer = statistics.mean(one < other for one, other in pairs)
    return (
        "the same" if 0.3 < longer < 0.7 else f"told apart in {round(max(longer, 1 - longer) * 10) * 10} % of the pairs"
    )


def times_of_calls(relay: Relay) -> str:
    shown = strangers(relay)
    names = "an id that nobody has, with the portal's kid", "the portal's id and kid"
    fields = [[http1.host(relay), f"Authorization: Bearer {shown[name]}".encode()] for name in names]
    return times(relay, *(http1.message(b"GET " + AVAILABILITY + b" HTTP/1.1", of) for of in fields))


def times_of_rotations(relay: Relay) -> str:
    def sent(who: Portal) -> bytes:
        body = who.rotation().encode()
        fields = [http1.host(relay), b"Content-Type: application/jose", b"Content-Length: %d" % len(body)]
        return http1.message(b"POST /v1/portal/rotations HTTP/1.1", fields, body)

    return times(relay, sent(Portal(relay.url, id="nobody")), sent(Portal(relay.url, id=relay.portal.id)))


ASKED = [
    ("a portal's assertion: GET availability", portal_calls("GET", "/v1/tenants/{tenant}/availability")),
    ("a portal's assertion: GET agents", portal_calls("GET", "/v1/tenants/{tenant}/agents")),
    ("a portal's assertion: GET command", portal_calls("GET", "/v1/tenants/{tenant}/commands/{command}")),
    ("a portal's assertion: POST command", portal_calls("POST", "/v1/tenants/{tenant}/commands")),
    ("a portal's assertion: a tenant that there is not", portal_calls("GET", "/v1/tenants/adatum/availability")),
    ("a portal's assertion: DELETE key", portal_calls("DELETE", "/v1/portal/keys/{kid}")),
    ("a portal's rotation", portal_rotations),
    ("an enrolment: whether there is the invitation", enrolments),
    ("a portal's own call: whether there is the tenant", other_tenants),
]

CASES = [Case("docs/protocol.md §6", what, "the same", run) for what, run in ASKED]
#: Not among the quick ones: a busy machine blurs it.
TIMES = [
    Case("docs/protocol.md §6", f"{what}: how long the answer takes", "the same", run)
    for what, run in [("a portal's assertion", times_of_calls), ("a portal's rotation", times_of_rotations)]
]
