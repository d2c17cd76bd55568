"""Schemathesis as this relay's portal and agent: it shows assertions, and asks about what there is."""

import json
import os

import schemathesis

from parties import TENANT, Agent, Portal

KNOWN = json.loads(os.environ["CONFORMANCE"])
PORTAL, AGENT = Portal(KNOWN["url"], KNOWN["portal"]), Agent(KNOWN["url"], KNOWN["agent"], KNOWN["agent_id"])


@schemathesis.serializer("application/jose")
def compact(context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.auth(refresh_interval=None)
class Assertion:
    def get(self, case, context):
        return (AGENT if context.operation.path == "/v1/agent/session" else PORTAL).assertion()

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


#: What has to be signed, or fit to what there is, no generator finds.
BODIES = {
    "/v1/tenants/{tenant}/commands": lambda: PORTAL.command(AGENT.id),
    "/v1/agent/rotations": lambda: Agent(KNOWN["url"], id=AGENT.id).rotation(),
    "/v1/portal/rotations": lambda: Portal(KNOWN["url"]).rotation(),
}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Where the data is of the right form, a name that is known is put in its place."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    path = case.operation.path
    if "tenant" in (case.path_parameters or {}):
        case.path_parameters["tenant"] = TENANT
    if path.startswith("/v1/tenants/{tenant}/agents/{id}"):
        case.path_parameters["id"] = AGENT.id
    if path in BODIES and case.method.upper() == "POST":
        case.body = BODIES[path]()
    if path == "/v1/enrollments":
        case.body = Agent(KNOWN["url"]).enrollment(PORTAL.invitation()["id"], bytes(32))
