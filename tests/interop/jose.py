"""Python's joserfc on the other side: verifies and opens what it is given, and signs and seals of its own."""

import json
import sys

from joserfc import jwe, jws
from joserfc.jwk import import_key

task = json.load(sys.stdin)


def key(item):
    return import_key(item["key"])


def kid(item):
    return item.get("kid") or key(item).thumbprint()


verified = []
for item in task["verify"]:
    signed_object = jws.deserialize_compact(item["jws"], key(item), algorithms=[item["alg"]])
    claims = json.loads(signed_object.payload.decode("utf-8"))
    verified.append({"claims": claims, "header": signed_object.headers(), "kid": kid(item)})

registry = jwe.JWERegistry(algorithms=["ECDH-ES", "A256GCM"])

opened = []
for item in task["open"]:
    sealed_object = jwe.decrypt_compact(item["jwe"], key(item), registry=registry)
    header = sealed_object.headers()
    assert (header["alg"], header["enc"], header["kid"]) == ("ECDH-ES", "A256GCM", key(item).thumbprint()), header
    opened.append(sealed_object.plaintext.decode("utf-8"))

signed = []
for item in task["sign"]:
    header = {"alg": item["alg"], "typ": item["typ"], "kid": kid(item)}
    payload = json.dumps(item["claims"]).encode("utf-8")
    signed.append(jws.serialize_compact(header, payload, key(item), algorithms=[item["alg"]]))

sealed = []
for item in task["seal"]:
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": kid(item)}
    sealed.append(jwe.encrypt_compact(header, item["plaintext"].encode("utf-8"), key(item), registry=registry))

json.dump({"verified": verified, "opened": opened, "signed": signed, "sealed": sealed}, sys.stdout)
