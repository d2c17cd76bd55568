#!/usr/bin/env python3
"""Writes the table of values in README.md from the comments in values.yaml: readme.py; readme.py --check only compares."""
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
MARK = "\n## Values\n"


def rows(text):
    """Each leaf of values.yaml: its path, its default, and the comment above it."""
    found, path, comment, leaf = [], [], [], None
    for line in text.splitlines():
        said = re.fullmatch(r"\s*# ?(.*)", line)
        entry = re.fullmatch(r"(\s*)([^\s:#]+):(?: (.*))?", line)
        if said:
            comment.append(said[1])
        elif not line.strip():
            comment = []
        elif entry:
            depth = len(entry[1]) // 2
            inside = leaf is not None and depth > leaf
            path = path[:depth] + [entry[2]]
            if inside:
                # A commented map is one value: its parts are its default.
                found[-1][1].append(f"{'.'.join(path[leaf + 1:])}: {entry[3] or ''}".strip())
                continue
            leaf = None
            if comment:
                found.append((".".join(path), [entry[3]] if entry[3] is not None else [], " ".join(comment)))
                if entry[3] is None:
                    leaf = depth
            elif entry[3] is not None:
                sys.exit(f"values.yaml: {'.'.join(path)} has no comment")
            comment = []
    return found


def readme():
    head = (HERE / "README.md").read_text().split(MARK)[0]
    table = ["| Value | Default | Meaning |", "|---|---|---|"]
    for name, default, meaning in rows((HERE / "values.yaml").read_text()):
        shown = ", ".join(default).replace("|", "\\|")
        table.append(f"| `{name}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} |")
    return head + MARK + "\nWritten from the comments in `values.yaml` by `helm/readme.py`.\n\n" + "\n".join(table) + "\n"


if sys.argv[1:] == ["--check"]:
    if (HERE / "README.md").read_text() != readme():
        sys.exit("helm/README.md is not what the comments in helm/values.yaml say; run: python3 helm/readme.py")
else:
    (HERE / "README.md").write_text(readme())
