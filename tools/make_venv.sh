#!/usr/bin/env bash
# make_venv.sh PYTHON FOLDER: make a virtual environment, unless there is a working one of that interpreter's version.
set -euo pipefail

python=$1
folder=$2
complain() { echo "$*" >&2; exit 1; }

command -v "$python" >/dev/null || complain "there is no '$python'; install Python 3.11 or later, or name it: make PYTHON=python3.12 …"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || complain "'$python' does not run; name a Python 3.11 or later: make PYTHON=python3.12 …"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    complain "'$python' is Python $version, but 3.11 or later is needed; name another: make PYTHON=python3.12 …"

if [[ -x $folder/bin/python ]]; then
    there=$("$folder/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || there=broken
    [[ $there == "$version" ]] && "$folder/bin/python" -m pip --version >/dev/null 2>&1 && exit 0
    complain "$folder is an environment of Python $there, not $version; remove it, or name its Python: make PYTHON=… …"
fi

# Debian keeps what venv needs in a package of its own
"$python" -c 'import ensurepip, venv' 2>/dev/null || "$(dirname "$0")/system_packages.sh" venv "$version"
"$python" -m venv "$folder" || complain "could not make $folder; see above"
