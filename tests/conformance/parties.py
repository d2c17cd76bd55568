"""Who talks to the relay: a portal, and an agent that is enrolled with it. They can be written down for another process."""

import hashlib
import os
import time

import jose
from jose import SigningKey, uuid7

TENANT = "contoso"


def assertion(issuer: str, audience: str, **more) -> dict:
    """The claims of docs/protocol.md §3.3."""
    now = int(time.time())
    return {"iss": issuer, "sub": issuer, "aud": audience, "jti": uuid7(), "iat": now, "exp": now + 120, **more}


class Portal:
    def __init__(self, url: str, seed: str | None = None, id: str = "portal-1"):
        self.url, self.id, self.key = url, id, SigningKey(seed)

    def assertion(self, kid: str | None = None) -> str:
        return self.key.sign("writeback-portal-assertion+jwt", assertion(self.id, self.url), kid)

    def invitation(self, token: bytes | None = None) -> dict:
        digest = hashlib.sha256(token or os.urandom(32)).digest()
        return {"id": uuid7(), "token_sha256": jose.base64url(digest), "expires_at": int(time.time()) + 3600}

    def command(self, agent: str) -> str:
        """One that needs no password."""
        now = int(time.time())
        account = {"format": "account", "uri": "acct:jane@corp.example"}
        claims = {"iss": self.id, "aud": agent, "tenant": TENANT, "jti": uuid7(), "iat": now, "exp": now + 120}
        claims |= {"sub_id": account, "operation": "unlock_account"}
        return self.key.sign("writeback-command+jwt", claims)

    def rotation(self) -> str:
        """To a new key, which is forgotten at once."""
        return rotation("portal", {"iss": self.id, "sub": self.id}, self.url, self.key)


class Agent:
    def __init__(self, url: str, seed: str | None = None, id: str | None = None):
        self.url, self.id, self.key = url, id or uuid7(), SigningKey(seed)
        self.sealing, self.journal = jose.sealing_jwk(), uuid7()

    def assertion(self, kid: str | None = None) -> str:
        return self.key.sign("writeback-agent-assertion+jwt", assertion(self.id, self.url, tenant=TENANT), kid)

    def enrollment(self, invitation: str, token: bytes) -> dict:
        keys = {"signing_key": self.key.kid, "sealing_key": jose.thumbprint(self.sealing)}
        with_code = {"tenant": TENANT, "invitation": invitation, "journal": self.journal}
        proof = assertion(self.id, self.url, **with_code, **keys)
        vouched = {"tenant": TENANT, "agent": self.id, **keys}
        return {
            **with_code,
            "token": jose.base64url(token),
            "agent": self.id,
            "name": "conformance",
            "signing_key": self.key.jwk,
            "sealing_key": self.sealing,
            "proof": self.key.sign("writeback-enrollment+jwt", proof),
            "attestation": jose.sign_hs256("writeback-attestation+jwt", invitation, os.urandom(32), vouched),
        }

    def rotation(self) -> str:
        ours = {"iss": self.id, "sub": self.id, "tenant": TENANT}
        return rotation("agent", ours, self.url, self.key, self.sealing, jose.sealing_jwk())


def rotation(kind: str, who: dict, url: str, key: SigningKey, old: dict | None = None, new: dict | None = None) -> str:
    """docs/protocol.md §3.5; `old` and `new` are an agent's sealing keys."""
    following = SigningKey()
    said = {"iss": who["iss"], "aud": url, "jti": uuid7(), "seq": 1}
    held = [("signing_key", key.jwk, following.jwk)] + ([("sealing_key", old, new)] if old else [])
    names = {
        "previous": [jose.thumbprint(jwk) for _, jwk, _ in held],
        "keys": [jose.thumbprint(jwk) for *_, jwk in held],
    }
    proof = following.sign("writeback-rotation-proof+jwt", said | names)
    previous, keys = {name: jwk for name, jwk, _ in held}, {name: jwk for name, _, jwk in held}
    claims = who | said | {"iat": int(time.time()), "previous": previous, "keys": keys, "proof": proof}
    return key.sign(f"writeback-{kind}-rotation+jwt", claims)
