"""Slow clients, by slowhttptest: whether others are served meanwhile, and whether the slow ones are left in the end."""

import contextlib
import http.client
import re
import subprocess
import time

from case import Result
from parties import TENANT
from relay import Relay

CONNECTIONS, SECONDS = 200, 60
PATH = f"/v1/tenants/{TENANT}/availability"
ATTACKS = {
    "slow heads (Slowloris)": ["-H", "-i", "3"],
    "slow bodies (R-U-Dead-Yet)": ["-B", "-i", "3"],
    "ranges (Apache killer)": ["-R"],
    "slow reading": ["-X", "-k", "10", "-n", "5", "-z", "1", "-w", "1", "-y", "10"],
}
EXPECTED = "served throughout, none left"
REASONS = {
    "slow reading": "the node closes them after 10 s; what it had written before is the kernel's until it is read, or for 20 s "
    "without a byte taken, and the tool reads on"
}


def test(relay: Relay) -> list[Result]:
    return [
        Result("slowhttptest", what, EXPECTED, seen := attack(relay, how), seen == EXPECTED, REASONS.get(what, ""))
        for what, how in ATTACKS.items()
    ]


def attack(relay: Relay, how: list[str]) -> str:
    common = ["-c", str(CONNECTIONS), "-r", "100", "-l", str(SECONDS), "-p", "3", "-u", relay.url + PATH]
    with subprocess.Popen(
        ["slowhttptest", *how, *common], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        refused, until = 0, time.monotonic() + 2 * SECONDS
        while process.poll() is None:
            if time.monotonic() > until:
                process.kill()
            refused += not is_served(relay)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
        said = re.sub(r"\x1b\[[0-9;]*m", "", process.stdout.read())
    served = "served throughout" if refused == 0 else f"{refused} others not served"
    ended = re.search(r"Exit status:\s*(.*)", said)
    if ended is None:
        raise RuntimeError(f"slowhttptest has not ended by itself:\n{said}")
    return f"{served}, {'none left' if ended[1] == 'No open connections left' else 'some left'}"


def is_served(relay: Relay) -> bool:
    """Somebody else, who is not slow."""
    begun = time.monotonic()
    to = http.client.HTTPSConnection("localhost", relay.port, context=relay.tls("http/1.1"), timeout=5)
    with contextlib.closing(to), contextlib.suppress(OSError):
        to.request("GET", PATH, headers={"Authorization": f"Bearer {relay.portal.assertion()}"})
        return to.getresponse().status == 200 and time.monotonic() - begun < 2
    return False


def tool_version() -> str:
    told = subprocess.run(["slowhttptest", "-h"], capture_output=True, text=True, timeout=10)
    found = re.search(r"version ([0-9.]+)", told.stdout + told.stderr)
    return found[1] if found else ""
