#!/usr/bin/env python3
"""Packs the chart for others: package.py --home URL --docs URL [--destination FOLDER] [what `helm package` takes, as --sign]

--home is the project as people open it where it is published from, --docs its folder docs/ there (of this version's tag). The
package says where it is from, its links lead there, and so do the alerts, if prometheusRule.runbookUrl is not set. HELM is the
program, if it is not `helm`."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def put(file, what, instead):
    text = file.read_text()
    if what not in text:
        sys.exit(f"{file.name}: {what!r} is not there any more; mend package.py")
    file.write_text(text.replace(what, instead))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", required=True)
    parser.add_argument("--docs", required=True)
    arguments, for_helm = parser.parse_known_args()
    home, docs = arguments.home.rstrip("/"), arguments.docs.rstrip("/")
    for url in [home, docs]:
        if not url.startswith("https://"):
            sys.exit(f"{url}: https://... is expected")
    with tempfile.TemporaryDirectory() as folder:
        # The links to deploy/ become files.
        chart = Path(shutil.copytree(HERE, Path(folder) / "writeback-relay"))
        with open(chart / "Chart.yaml", "a") as file:
            links = f"    - name: Operating it\n      url: {docs}/operations.md\n"
            file.write(f"  artifacthub.io/links: |\n{links}home: {home}\nsources:\n  - {home}\n")
        put(chart / "values.yaml", '  runbookUrl: ""', f"  runbookUrl: {docs}/operations.md")
        put(chart / "README.md", '| `prometheusRule.runbookUrl` | `""` |', f"| `prometheusRule.runbookUrl` | `{docs}/operations.md` |")
        for name in ["README.md", "UPGRADING.md"]:
            put(chart / name, "`docs/operations.md`", f"[docs/operations.md]({docs}/operations.md)")
        sys.exit(subprocess.run([os.environ.get("HELM", "helm"), "package", chart, *for_helm]).returncode)


main()
