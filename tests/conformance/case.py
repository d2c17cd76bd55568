"""One demand of a standard, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass

from relay import Relay


@dataclass(frozen=True)
class Case:
    """`run` says what was seen, in words of the module that it is in. One of the `expected`, split by " or ", meets it."""

    section: str
    what: str
    expected: str
    run: Callable[[Relay], str]
    #: Why it is not met, if it is not.
    reason: str = ""


@dataclass(frozen=True)
class Result:
    section: str
    what: str
    expected: str
    seen: str
    met: bool
    reason: str = ""


def result(case: Case, relay: Relay) -> Result:
    try:
        seen = case.run(relay)
    except TimeoutError:
        seen = "no answer"
    met = seen in case.expected.split(" or ")
    return Result(case.section, case.what, case.expected, seen, met, "" if met else case.reason)


def of(section: str, kind: Callable[..., Case], *rows: tuple) -> list[Case]:
    """The cases of one section: `kind(section, *row)` each."""
    return [kind(section, *row) for row in rows]
