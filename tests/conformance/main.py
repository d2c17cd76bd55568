"""Starts a relay for each suite, runs it, and compares what is seen with docs/conformance.md, or writes that."""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module

import document
from case import Case, Result, result
from relay import Relay

#: Cases that wait do not hold up the others.
AT_ONCE = 4


@dataclass(frozen=True)
class Suite:
    name: str
    about: Callable[[], str]
    run: Callable[[Relay], list[Result]]
    is_short: bool = False


def cases(relay: Relay, all: list[Case]) -> list[Result]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda case: result(case, relay), all))


def short(name: str, about: str, *modules: str) -> Suite:
    def run(relay: Relay) -> list[Result]:
        return cases(relay, [case for module in modules for case in import_module(module).CASES])

    return Suite(name, lambda: about, run, is_short=True)


def tool(name: str, about: str, module: str, function: str, version: str) -> Suite:
    """Its packages are there only for the long form."""

    def described() -> str:
        return about.format(getattr(import_module(module), version)())

    return Suite(name, described, lambda relay: getattr(import_module(module), function)(relay))


SUITES = [
    short(
        "HTTP/1.1",
        "RFC 9112 and RFC 9110, from raw sockets. A request that is taken is answered 200, 201 or 404.",
        "http1_heads",
        "http1_bodies",
    ),
    short(
        "HTTP/2",
        "RFC 9113 and RFC 7541; frames are made and read by PyPI's hyperframe, hpack and h2.",
        "http2_frames",
        "http2_streams",
        "http2_fields",
    ),
    short("WebSocket", "RFC 6455, from raw sockets: an agent's session.", "websocket_handshake", "websocket_frames"),
    short(
        "Strangers",
        "Which protocol is spoken where, and whether a refusal says who is known here.",
        "protocols",
        "strangers",
    ),
    Suite(
        "Time",
        lambda: "Whether the time of a refusal says it.",
        lambda relay: cases(relay, import_module("strangers").TIMES),
    ),
    tool(
        "schemathesis",
        "schemathesis {}, with all its checks, on the API's own document.",
        "api",
        "test",
        "tool_version",
    ),
    tool(
        "testssl.sh",
        "testssl.sh {}: what it finds is OK, or more than that is wrong.",
        "tls",
        "testssl",
        "testssl_version",
    ),
    tool("sslyze", "sslyze {}.", "tls", "scan", "sslyze_version"),
    tool("slowhttptest", "slowhttptest {}: 200 connections for a minute each.", "slow", "test", "tool_version"),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/run conformance", description=__doc__)
    parser.add_argument("--relay", required=True, metavar="PROGRAM", help="writeback-relay")
    parser.add_argument(
        "--short", action="store_true", help="only what takes seconds, and needs nothing but PyPI's packages"
    )
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("suites", nargs="*", help=f"only these: {', '.join(suite.name for suite in SUITES)}")
    asked = parser.parse_args()
    if unknown := set(asked.suites) - {suite.name for suite in SUITES}:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}")
    chosen = [
        suite
        for suite in SUITES
        if suite.name in asked.suites or not asked.suites and (suite.is_short or not asked.short)
    ]
    seen = {suite.name: run(suite, asked.relay) for suite in chosen}
    if asked.write:
        document.write([suite.name for suite in SUITES], seen)
        wrong = [
            f"{name}: {r.section}: {r.what}: {r.seen}"
            for name, (_, rs) in seen.items()
            for r in rs
            if not (r.met or r.reason)
        ]
        return end("These are not met, and no reason is given:", wrong)
    wrong = [line for name, (_, results) in seen.items() for line in document.differences(name, results)]
    return end("docs/conformance.md is not what was seen. If it should be so: tests/run conformance --write", wrong)


def run(suite: Suite, program: str) -> tuple[str, list[Result]]:
    with Relay(program) as relay:
        results = suite.run(relay)
    print(f"{suite.name}: {sum(r.met for r in results)} of {len(results)} are met", flush=True)
    return suite.about(), results


def end(title: str, wrong: list[str]) -> int:
    if wrong:
        print(title, *wrong, sep="\n  ", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
