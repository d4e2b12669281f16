# Debian's kernels, with package lists and a cache of our own: the machine's sources stay as they are.

# need PACKAGE:COMMAND...: installs what is missing, as root; says so otherwise.
need() {
    local missing=() entry
    for entry in "$@"; do
        command -v "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "kernels: please run: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "kernels: installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

apt() {
    local tool=$1
    shift
    "$tool" -o "Dir=$work/apt" -o "Dir::State::status=$work/apt/var/lib/dpkg/status" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none "$@"
}

update_packages() {
    mkdir -p "$work"/apt/{etc/apt/preferences.d,var/lib/apt/lists/partial,var/cache/apt/archives/partial,var/lib/dpkg}
    touch "$work/apt/var/lib/dpkg/status"
    local key='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]' mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
    cat >"$work/apt/etc/apt/sources.list" <<LIST
deb $key $mirror/debian bullseye main
deb $key $mirror/debian bookworm main
deb $key $mirror/debian-security bookworm-security main
deb $key $mirror/debian trixie-backports main
LIST
    apt apt-get -q update >"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log" >&2; exit 1; }
}

# The newest cloud kernel of a series: names rotate with every security update.
newest() {
    local kind=$1 series=${2//./\\.}
    apt apt-cache search --names-only "^linux-$kind-$series\\..*cloud-amd64\$" | awk '{ print $1 }' |
        { grep -vE 'dbg|unsigned' || true; } | sort -V | tail -n 1
}

# fetch_kernel SERIES: unpacks image and modules to target/kernels/SERIES/root and notes the release.
fetch_kernel() {
    local s=$1 dir=$work/$1 packages=() package
    package=$(newest binary "$s")
    if [ -n "$package" ]; then
        packages=("$package" "${package/binary/modules}")
    else
        packages=("$(newest image "$s")")
    fi
    [ -n "${packages[0]}" ] || { echo "kernels: Debian has no kernel $s" >&2; exit 1; }
    if [ "$(cat "$dir/packages" 2>/dev/null)" != "${packages[*]}" ]; then
        rm -rf "$dir"
        mkdir -p "$dir/deb" "$dir/root"
        (cd "$dir/deb" && apt apt-get -q download "${packages[@]}" >"$work/apt.log" 2>&1) ||
            { tail -5 "$work/apt.log" >&2; exit 1; }
        for package in "$dir"/deb/*.deb; do dpkg-deb -x "$package" "$dir/root"; done
        rm -r "$dir/deb"
        # Merged /usr and not: one place for the modules.
        [ -d "$dir/root/lib/modules" ] || { mkdir -p "$dir/root/lib"; mv "$dir/root/usr/lib/modules" "$dir/root/lib/"; }
        ls "$dir/root/lib/modules" >"$dir/release"
        echo "${packages[*]}" >"$dir/packages"
    fi
    echo "   $s: $(cat "$dir/release")"
}
