# Debian's kernels, with package lists and a cache of our own: the machine's sources stay as they are.

# need PACKAGE:COMMAND...: installs what is missing, as root; says so otherwise.
need() {
    local missing=() entry install
    for entry in "$@"; do
        command -v "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "kernels: please run: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "kernels: installing ${missing[*]}"
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}")
    # The package lists of a fresh machine are empty or old: fetch them only if they do not do.
    "${install[@]}" >"$work/apt.log" 2>&1 ||
        { apt-get update -q >"$work/apt.log" 2>&1 && "${install[@]}" >"$work/apt.log" 2>&1; } ||
        { tail -5 "$work/apt.log" >&2; exit 1; }
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
    # Lists of an earlier run do where the archive cannot be reached: what is cached may still be the newest.
    apt apt-get -q -o APT::Update::Error-Mode=any update >"$work/apt.log" 2>&1 || { echo "kernels: no new package lists:" && tail -3 "$work/apt.log"; } >&2
}

# The newest cloud kernel of a series: names rotate with every security update.
newest() {
    local kind=$1 series=${2//./\\.}
    { apt apt-cache search --names-only "^linux-$kind-$series\\..*cloud-amd64\$" || true; } | awk '{ print $1 }' |
        { grep -vE 'dbg|unsigned' || true; } | sort -V | tail -n 1
}

# fetch_kernel SERIES: unpacks image and modules to target/kernels/SERIES/root and notes the release. Fails, and notes
# why, if it is not to be had.
fetch_kernel() {
    local s=$1 dir=$work/$1 packages=() package
    mkdir -p "$dir"
    rm -f "$dir/missing"
    # Where images are split, both halves or the older kind of package.
    package=$(newest binary "$s")
    if [ -n "$package" ]; then
        packages=("$package" "${package/binary/modules}")
    else
        packages=("$(newest image "$s")")
    fi
    if [ -z "${packages[0]}" ] && [ -e "$dir/packages" ]; then
        echo "   $s: not in the package lists; as fetched before:"
    elif [ -z "${packages[0]}" ]; then
        echo "no such package in Debian's lists" >"$dir/missing"
    elif [ "$(cat "$dir/packages" 2>/dev/null)" != "${packages[*]}" ]; then
        rm -rf "${dir:?}"/{deb,root,packages,release,said,console}
        mkdir -p "$dir/deb" "$dir/root"
        if (cd "$dir/deb" && apt apt-get -q download "${packages[@]}" >"$work/apt.log" 2>&1); then
            for package in "$dir"/deb/*.deb; do dpkg-deb -x "$package" "$dir/root"; done
            rm -r "$dir/deb"
            # Merged /usr and not: one place for the modules.
            [ -d "$dir/root/lib/modules" ] || { mkdir -p "$dir/root/lib"; mv "$dir/root/usr/lib/modules" "$dir/root/lib/"; }
            ls "$dir/root/lib/modules" >"$dir/release"
            echo "${packages[*]}" >"$dir/packages"
        else
            tail -5 "$work/apt.log" >&2
            echo "${packages[*]} could not be fetched" >"$dir/missing"
        fi
    fi
    if [ -e "$dir/missing" ]; then
        echo "   $s: $(cat "$dir/missing")"
        return 1
    fi
    echo "   $s: $(cat "$dir/release")"
}
