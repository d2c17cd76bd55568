"""A relay as its users run it: a process of its own on loopback, with a tenant, a portal and an approved agent."""

import contextlib
import ctypes
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import certificate
from parties import TENANT, Agent, Portal

#: For the relay to start, and for each call while it is furnished.
DEADLINE = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def dies_with_us():
    """Whoever kills this process leaves no relay behind: prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Relay:
    """Within `with`, it runs."""

    def __init__(self, program: str):
        self.program = program
        self.port, self.ops_port = free_port(), free_port()
        self.authority = f"localhost:{self.port}"
        self.url = f"https://{self.authority}"
        self.portal, self.agent = Portal(self.url), Agent(self.url)

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="conformance-")
        inside = Path(self.folder.name)
        self.data, self.log, self.ca_file = inside / "data", inside / "log", inside / "ca.pem"
        certificate.write(inside)
        config = inside / "relay.toml"
        config.write_text(
            f'public_url = "{self.url}"\nlisten = "127.0.0.1:{self.port}"\nops_listen = "127.0.0.1:{self.ops_port}"\n'
            f'data_dir = "{self.data}"\n[tls]\ncert_file = "{inside / "tls.crt"}"\nkey_file = "{inside / "tls.key"}"\n'
        )
        with self.log.open("wb") as log:
            run = [self.program, "run", "--config", str(config)]
            self.process = subprocess.Popen(run, stdout=log, stderr=subprocess.STDOUT, preexec_fn=dies_with_us)
        try:
            self.wait_until_ready()
            self.furnish()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def wait_until_ready(self):
        until = time.monotonic() + DEADLINE
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the relay does not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def is_ready(self) -> bool:
        to = http.client.HTTPConnection("127.0.0.1", self.ops_port, timeout=DEADLINE)
        with contextlib.closing(to), contextlib.suppress(OSError):
            to.request("GET", "/readyz")
            return to.getresponse().status == 200
        return False

    def furnish(self):
        self.operator("tenant", "add", TENANT)
        key = Path(self.folder.name) / "portal.jwk"
        key.write_text(json.dumps(self.portal.key.jwk))
        self.operator("portal", "add", self.portal.id, "--key", str(key), "--tenant", TENANT)
        self.enrol(self.agent)

    def enrol(self, agent: Agent) -> Agent:
        """And approves it."""
        token = os.urandom(32)
        invitation = self.portal.invitation(token)
        self.call(201, "POST", f"/v1/tenants/{TENANT}/invitations", invitation)
        self.call(201, "POST", "/v1/enrollments", agent.enrollment(invitation["id"], token))
        self.call(204, "POST", f"/v1/tenants/{TENANT}/agents/{agent.id}/approval")
        return agent

    def operator(self, *words: str):
        ours = ["--ops-url", f"http://127.0.0.1:{self.ops_port}", "--admin-token-file", str(self.data / "admin.token")]
        subprocess.run([self.program, *words, *ours], check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)

    def tls(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def call(self, status: int, method: str, path: str, body: dict | None = None):
        """By the portal; anything but this status is an error."""
        to = http.client.HTTPSConnection("localhost", self.port, context=self.tls("http/1.1"), timeout=DEADLINE)
        with contextlib.closing(to):
            headers = {"Authorization": f"Bearer {self.portal.assertion()}", "Content-Type": "application/json"}
            to.request(method, path, None if body is None else json.dumps(body), headers)
            answer = to.getresponse()
            text = answer.read().decode()
        if answer.status != status:
            raise RuntimeError(f"{method} {path} is answered {answer.status}: {text}")
