"""docs/openapi.json against the relay, by schemathesis: it makes requests of every form that the document has, and of none."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from case import Result
from relay import Relay

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "openapi.json"
DEADLINE = 900
KEPT = "every check"
SESSION = "an upgrade is asked for before a credential is: 426, as the document says; schemathesis can't send one"
OFFLINE = "503 is the answer of the document: this agent is not connected"
WORDS = "a JSON schema can't say that a time lies ahead or is a whole number, nor what a key is: 400 and 422"
#: What schemathesis finds and is meant to be so.
REASONS = {
    "GET /v1/agent/session": SESSION,
    "POST /v1/tenants/{tenant}/invitations": WORDS,
    "GET /v1/tenants/{tenant}/agents": "a limit above 2^31 is taken as any other that is above 1000",
    "GET /v1/tenants/{tenant}/availability": "a JSON schema can't say what a userPrincipalName is: 400, with what is expected",
    "POST /v1/tenants/{tenant}/agents/{id}/preflight": OFFLINE,
    "POST /v1/tenants/{tenant}/commands": OFFLINE,
    "DELETE /v1/portal/keys/{kid}": "a key's name is of 43 characters, which is read, with the path, before the credential: 400",
}


def environment(relay: Relay) -> dict[str, str]:
    known = {
        "url": relay.url,
        "portal": relay.portal.key.seed,
        "agent": relay.agent.key.seed,
        "agent_id": relay.agent.id,
    }
    ours = {"SCHEMATHESIS_HOOKS": "api_hooks", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | ours | {"CONFORMANCE": json.dumps(known)}


def test(relay: Relay) -> list[Result]:
    report = Path(relay.folder.name) / "schemathesis.json"
    tool = str(Path(sys.executable).with_name("schemathesis"))
    how = ["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "50", "--seed", "1"]
    how += ["--continue-on-failure", "--request-timeout", "15", "--report-json-path", str(report)]
    run = [tool, "run", str(DOCUMENT), "--url", relay.url, "--tls-verify", str(relay.ca_file), *how]
    ran = subprocess.run(
        run, env=environment(relay), cwd=relay.folder.name, capture_output=True, text=True, timeout=DEADLINE
    )
    if not report.exists():
        raise RuntimeError(f"schemathesis has reported nothing:\n{ran.stdout}{ran.stderr}")
    told = json.loads(report.read_text())
    if not told["complete"] or told["errors"]:
        raise RuntimeError(f"schemathesis has not come to its end: {told['errors']}\n{ran.stdout}")
    found: dict[str, set[str]] = {}
    for failure in told["failures"]:
        for operation in failure["operations"]:
            found.setdefault(operation["name"] if isinstance(operation, dict) else operation, set()).add(
                failure["title"]
            )
    paths = json.loads(DOCUMENT.read_text())["paths"]
    names = [f"{method.upper()} {path}" for path, calls in paths.items() for method in calls if method in METHODS]
    if strange := set(found) - set(names):
        raise RuntimeError(f"schemathesis names what the document has not: {strange}")
    return [row(name, found.get(name, set())) for name in names]


METHODS = ("get", "put", "post", "delete", "patch")


def row(name: str, failures: set[str]) -> Result:
    seen = "; ".join(sorted(failures)) or KEPT
    return Result("docs/openapi.json", name, KEPT, seen, not failures, REASONS.get(name, "") if failures else "")


def tool_version() -> str:
    return version("schemathesis")
