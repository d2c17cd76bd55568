"""docs/conformance.md: every case, what was seen, and whether it is met."""

import re
from pathlib import Path

from case import Result

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "conformance.md"
HEAD = """# Conformance

What the relay was held against, what was seen, and whether the demand is met. Everything below is written by

    tests/run conformance --write

which starts a relay and attacks it on loopback: RFC 9112 and RFC 6455 from raw sockets, RFC 9113 frame by frame, TLS with
testssl.sh and sslyze, the API with schemathesis, slow clients with slowhttptest. It takes some minutes. Without `--write` the
same command compares what it sees with this page, and fails if they differ; `--short` leaves the scanners out, takes seconds,
and is a test of `tests/run`.

"Open" is a connection that takes another request, "closed" one that the relay has ended behind its answer, "dropped" one that it
has ended without a word. "Passed over" is what nothing followed from.
"""
COLUMNS = "| demand | what is sent | expected | seen | met |\n|---|---|---|---|---|\n"
#: Behind the fourth cell: "yes", "no", or "no: REASON".
ROW = re.compile(r"\| (.+?) \| (.+?) \| .+? \| .+? \| (yes|no\b.*) \|$")

Key = tuple[str, str]


def cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("\n", " ")


def met(result: Result) -> str:
    if result.met:
        return "yes"
    return f"no: {cell(result.reason)}" if result.reason else "no"


def table(results: list[Result]) -> str:
    rows = [
        f"| {cell(r.section)} | {cell(r.what)} | {cell(r.expected)} | {cell(r.seen)} | {met(r)} |\n" for r in results
    ]
    return COLUMNS + "".join(rows)


def sections() -> dict[str, str]:
    """By heading, as they stand in the document."""
    text = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return {heading: body for heading, body in (part.split("\n", 1) for part in parts)}


def listed(section: str) -> dict[Key, bool]:
    rows = (ROW.match(line) for line in section.splitlines())
    return {(row[1], row[2]): row[3] == "yes" for row in rows if row}


def differences(name: str, results: list[Result]) -> list[str]:
    """Between what the document lists and what was seen."""
    known = listed(sections().get(name, ""))
    found = []
    for result in results:
        key = cell(result.section), cell(result.what)
        said = f"{name}: {result.section}: {result.what}"
        match known.pop(key, None):
            case None:
                found.append(f"{said}: is not in the document")
            case True if not result.met:
                found.append(f"{said}: is not met any more: {result.expected} is expected, {result.seen} was seen")
            case False if not result.met and not result.reason:
                found.append(
                    f"{said}: is not met, and no reason is given: {result.expected} is expected, {result.seen} was seen"
                )
            case False if result.met:
                found.append(f"{said}: is listed as not met, and is met")
    return found + [f"{name}: {section}: {what}: is in the document, and no case" for section, what in known]


def write(names: list[str], seen: dict[str, tuple[str, list[Result]]]):
    """`seen` has an introduction and the results of each suite that ran; of the others the section stays."""
    kept = sections()
    bodies = {
        name: f"\n{seen[name][0]}\n\n{table(seen[name][1])}\n" if name in seen else kept.get(name) for name in names
    }
    there = {name: body.rstrip() + "\n" for name, body in bodies.items() if body}
    summary = "\n| suite | cases | met | not met |\n|---|---|---|---|\n"
    for name, body in there.items():
        rows = listed(body)
        summary += f"| {name} | {len(rows)} | {sum(rows.values())} | {len(rows) - sum(rows.values())} |\n"
    DOCUMENT.write_text(HEAD + summary + "".join(f"\n## {name}\n{body}" for name, body in there.items()))
