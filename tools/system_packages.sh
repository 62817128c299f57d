#!/usr/bin/env bash
# system_packages.sh display        what windows need: a virtual display, OpenGL in software, the libraries of Qt
# system_packages.sh venv VERSION   what virtual environments need with that version of Python
#
# Installs by apt-get what is missing, where that is possible without a password; else says what is missing.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

[[ $(uname -s) == Linux ]] || exit 0

missing=()   # what it is
packages=()  # what it is called in Debian and Ubuntu

need_command() { command -v "$1" >/dev/null || { missing+=("$1"); packages+=("$2"); }; }
need_library() { grep -q -F "$1 " <<<"$libraries" || { missing+=("$1"); packages+=("$2"); }; }

case ${1:-} in
display)
    libraries=$(ldconfig -p)
    need_command xvfb-run xvfb
    need_command Xvfb xvfb
    need_command xauth xauth
    need_library libGL.so.1 libgl1
    need_library libEGL.so.1 libegl1
    need_library libxcb-cursor.so.0 libxcb-cursor0
    need_library libxcb-icccm.so.4 libxcb-icccm4
    need_library libxcb-image.so.0 libxcb-image0
    need_library libxcb-keysyms.so.1 libxcb-keysyms1
    need_library libxcb-randr.so.0 libxcb-randr0
    need_library libxcb-render-util.so.0 libxcb-render-util0
    need_library libxcb-shape.so.0 libxcb-shape0
    need_library libxcb-xinerama.so.0 libxcb-xinerama0
    need_library libxcb-xkb.so.1 libxcb-xkb1
    need_library libxkbcommon.so.0 libxkbcommon0
    need_library libxkbcommon-x11.so.0 libxkbcommon-x11-0
    need_library libdbus-1.so.3 libdbus-1-3
    need_library libfontconfig.so.1 libfontconfig1
    need_library libglib-2.0.so.0 libglib2.0-0
    compgen -G '/usr/lib*/*/dri/swrast_dri.so' >/dev/null || compgen -G '/usr/lib*/dri/swrast_dri.so' >/dev/null ||
        { missing+=("OpenGL in software (Mesa)"); packages+=(libgl1-mesa-dri); }
    ;;
venv)
    missing=("the module venv of Python $2")
    packages=("python$2-venv")
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

((${#missing[@]})) || exit 0

root=()
((EUID == 0)) || root=(sudo -n)
if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
    echo "missing on this machine: ${missing[*]}" >&2
    echo "install it, on Debian and Ubuntu by: sudo apt-get install ${packages[*]}" >&2
    exit 1
fi

echo "installing system packages: ${packages[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${root[@]}" apt-get update -qq && "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "could not install: ${packages[*]}; see above" >&2
    exit 1
fi
