# Sourced by ./check and ./reproduce: what must be installed, and installing it.
#
# need_packages NAME...   installs the Debian packages that are missing when we are root,
#                         otherwise prints the one line that does and exits with 1.
#                         Nothing missing: returns at once and touches nothing.

BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config python3 git
    libaio-dev liburing-dev libuv1-dev zlib1g-dev libzstd-dev libjansson-dev libcmocka-dev"
PEER_PACKAGES="qemu-utils e2fsprogs fio gnuplot-nox"
LINT_PACKAGES="clang libclang-rt-dev llvm clang-format clang-tidy cppcheck pmccabe"
CROSS_PACKAGES="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user valgrind"

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | head -n 1)" = installed ]
}

# Some names differ between releases: any of the alternatives will do.
alternatives() {
    case $1 in
    gnuplot-nox) echo "gnuplot-nox gnuplot-qt gnuplot-x11" ;;
    qemu-user) echo "qemu-user qemu-user-static" ;;
    pkg-config) echo "pkgconf pkg-config" ;;
    *) echo "$1" ;;
    esac
}

missing_packages() {
    local name other found
    for name in "$@"; do
        found=
        for other in $(alternatives "$name"); do
            if installed "$other"; then found=1; break; fi
        done
        [ -n "$found" ] || echo "$name"
    done
}

# The first alternative that this release of Debian knows.
available_name() {
    local other
    for other in $(alternatives "$1"); do
        if apt-cache show "$other" >/dev/null 2>&1; then echo "$other"; return; fi
    done
    echo "$1"
}

need_packages() {
    local missing names=() name
    if ! command -v dpkg-query >/dev/null; then
        echo "This is not Debian: make sure that you have the likes of: $*" >&2
        return 0
    fi
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        for name in $missing; do names+=("$(available_name "$name")"); done
        echo "Some packages are missing. As root, run:" >&2
        echo "    apt-get install -y ${names[*]}" >&2
        exit 1
    fi
    echo "Installing:" $missing
    if ! apt-get update -qq </dev/null; then
        echo "No package lists could be fetched (offline?). Going on with those here." >&2
    fi
    for name in $missing; do names+=("$(available_name "$name")"); done
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${names[@]}" </dev/null >/tmp/asyncow-apt.$$ 2>&1; then
        tail -n 5 /tmp/asyncow-apt.$$ >&2
        rm -f /tmp/asyncow-apt.$$
        echo "The packages could not be installed. If this machine is offline, connect it" >&2
        echo "or bring the packages another way, and run this again:" >&2
        echo "    apt-get install -y ${names[*]}" >&2
        exit 1
    fi
    rm -f /tmp/asyncow-apt.$$
}
