"""TLS, by testssl.sh and by sslyze."""

import json
import subprocess
import warnings
from importlib.metadata import version
from pathlib import Path

import sslyze
from cryptography.utils import CryptographyDeprecationWarning
from sslyze.mozilla_tls_profile import tls_config_checker as mozilla

from case import Result
from relay import Relay

DEADLINE = 600
#: About the roots that sslyze brings, not about ours.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)
#: What testssl.sh has to find nothing wrong with, by its own ids.
TESTSSL = (
    "SSLv2 SSLv3 TLS1_2 TLS1_3 ALPN_HTTP2 cipherlist_NULL cipherlist_aNULL cipherlist_EXPORT cipherlist_LOW cipherlist_STRONG "
    "PFS protocol_negotiated cert_signatureAlgorithm cert_keySize cert_trust cert_chain_of_trust cert_expirationStatus "
    "heartbleed CCS ticketbleed ROBOT secure_renego secure_client_renego CRIME_TLS BREACH POODLE_SSL "
    "fallback_SCSV SWEET32 FREAK DROWN LOGJAM BEAST LUCKY13 RC4"
).split()
FINE = ("OK", "INFO")
REASONS = {
    "cipher_order": "each of the six suites is strong, so the client chooses the one that its hardware does best, as Mozilla advises",
    "cert_revocation": "the CA of this trial has neither CRL nor OCSP",
    "DNS_CAArecord": "localhost has no records; a matter of whoever has the domain",
    "HSTS": "no browser comes here, and nothing is served without TLS",
    "security_headers": "no browser comes here: nothing is rendered",
    "engine_problem": "about the OpenSSL that testssl.sh runs with: no GOST, so it asks by sockets",
}


def testssl(relay: Relay) -> list[Result]:
    """All of its checks. What it finds wrong beside those listed here is a row of its own."""
    report = Path(relay.folder.name) / "testssl.json"
    how = ["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1"]
    where = ["--add-ca", str(relay.ca_file), "--jsonfile", str(report), relay.authority]
    ran = subprocess.run(["testssl", *how, *where], capture_output=True, text=True, timeout=DEADLINE)
    if not report.exists():
        raise RuntimeError(f"testssl.sh has written nothing:\n{ran.stdout}{ran.stderr}")
    found = {entry["id"]: entry for entry in json.loads(report.read_text())}
    others = [id for id, entry in found.items() if id not in TESTSSL and entry["severity"] not in FINE]
    return [finding(id, found.get(id)) for id in [*TESTSSL, *sorted(others)]]


def finding(id: str, entry: dict | None) -> Result:
    seen = f"{entry['severity']}: {entry['finding']}"[:100] if entry else "not asked"
    met = entry is not None and entry["severity"] in FINE
    return Result("testssl.sh", id, "OK", seen, met, "" if met else REASONS.get(id, ""))


def scan(relay: Relay) -> list[Result]:
    """sslyze: what it asks beside Mozilla's profiles, and whether the intermediate one is kept."""
    location = sslyze.ServerNetworkLocation("localhost", relay.port, "127.0.0.1")
    custom = sslyze.ScanCommandsExtraArguments(sslyze.CertificateInfoExtraArgument(relay.ca_file))
    scanner = sslyze.Scanner()
    scanner.queue_scans([sslyze.ServerScanRequest(location, scan_commands_extra_arguments=custom)])
    (server,) = scanner.get_results()
    if server.scan_result is None:
        raise RuntimeError(f"sslyze has not come in: {server.connectivity_error_trace}")
    found = server.scan_result
    robot = found.robot.result.robot_result.name
    rows = [
        ("Heartbleed", "no", yes(found.heartbleed.result.is_vulnerable_to_heartbleed)),
        ("OpenSSL's CCS injection", "no", yes(found.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection)),
        ("ROBOT", "NOT_VULNERABLE_RSA_NOT_SUPPORTED or NOT_VULNERABLE_NO_ORACLE", robot),
        ("compression", "no", yes(found.tls_compression.result.supports_compression)),
        ("TLS_FALLBACK_SCSV", "yes", yes(found.tls_fallback_scsv.result.supports_fallback_scsv)),
        ("early data", "no", yes(found.tls_1_3_early_data.result.supports_early_data)),
        ("secure renegotiation", "yes", yes(found.session_renegotiation.result.supports_secure_renegotiation)),
        (
            "renegotiation by the client",
            "no",
            yes(found.session_renegotiation.result.is_vulnerable_to_client_renegotiation_dos),
        ),
        ("extended master secret", "yes", yes(found.tls_extended_master_secret.result.supports_ems_extension)),
        ("the chain is trusted", "yes", yes(is_trusted(found))),
        ("Mozilla's intermediate profile", "kept", keeps_mozillas_profile(server)),
    ]
    return [Result("sslyze", what, expected, seen, seen in expected.split(" or ")) for what, expected, seen in rows]


def yes(it: bool) -> str:
    return "yes" if it else "no"


def is_trusted(found) -> bool:
    (deployment,) = found.certificate_info.result.certificate_deployments
    return any(validated.verified_certificate_chain for validated in deployment.path_validation_results)


def keeps_mozillas_profile(server) -> str:
    """But for the chain: the checker trusts the CA of no trial."""
    profile = mozilla.MozillaTlsConfiguration.get(mozilla.TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
    try:
        mozilla.check_server_against_tls_configuration(server, profile)
    except mozilla.ServerNotCompliantWithTlsConfiguration as not_kept:
        issues = {name: text for name, text in not_kept.issues.items() if name != "certificate_path_validation"}
        return "; ".join(issues.values()) or "kept"
    return "kept"


def testssl_version() -> str:
    told = subprocess.run(["testssl", "--version"], capture_output=True, text=True, timeout=DEADLINE).stdout
    return next(
        (word for line in told.splitlines() if "testssl.sh" in line for word in line.split() if word[0].isdigit()), ""
    )


def sslyze_version() -> str:
    return version("sslyze")
