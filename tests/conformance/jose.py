"""Keys and signed objects as docs/protocol.md has them."""

import base64
import hashlib
import hmac
import json
import os
import time
import uuid

from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: dict) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())


def uuid7() -> str:
    """RFC 9562 §5.7."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


def thumbprint(jwk: dict) -> str:
    """RFC 7638."""
    text = json.dumps(jwk, separators=(",", ":"), sort_keys=True)
    return base64url(hashlib.sha256(text.encode()).digest())


def sealing_jwk() -> dict:
    """The public half of a new P-256 key. Nothing is sealed to it."""
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url(point.x.to_bytes(32, "big")),
        "y": base64url(point.y.to_bytes(32, "big")),
    }


class SigningKey:
    """Ed25519; a new one, or that of a seed (32 bytes, as hexadecimal)."""

    def __init__(self, seed: str | None = None):
        self.seed = seed or os.urandom(32).hex()
        self.private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.seed))
        self.jwk = {"crv": "Ed25519", "kty": "OKP", "x": base64url(self.private.public_key().public_bytes_raw())}
        self.kid = thumbprint(self.jwk)

    def sign(self, typ: str, claims: dict, kid: str | None = None) -> str:
        signed = part({"alg": "EdDSA", "typ": typ, "kid": kid or self.kid}) + "." + part(claims)
        return signed + "." + base64url(self.private.sign(signed.encode()))


def sign_hs256(typ: str, kid: str, secret: bytes, claims: dict) -> str:
    signed = part({"alg": "HS256", "typ": typ, "kid": kid}) + "." + part(claims)
    return signed + "." + base64url(hmac.digest(secret, signed.encode(), "sha256"))
