# What a guest boots into: one initramfs with the test binaries, what they are linked with, and a few modules.

# Test files of crate electrode that run in a guest.
guest_tests=(verifier fixtures offloads broadcast gate coexist leftovers guard authenticated native_xdp durability netem)
# What the guest may load; a kernel that has one built in needs no file.
guest_modules=(veth bridge sch_ingress cls_bpf act_bpf sch_netem sch_fq virtio_pci virtio_net ipv6 dummy)

# Builds tests and programs once, for all guests, without debug information.
build_binaries() {
    rm -rf "$work/bin"
    mkdir -p "$work/bin"
    local arguments=() name path
    for name in "${guest_tests[@]}"; do arguments+=(--test "$name"); done
    cargo test -q -p electrode --features fabric,simulation "${arguments[@]}" --no-run --message-format=json |
        sed -n 's/.*"name":"\([a-z_]*\)".*"executable":"\([^"]*\)".*/\1 \2/p' >"$work/executables"
    while read -r name path; do strip -o "$work/bin/$name" "$path"; done <"$work/executables"
    cargo build -q -p electrode -p paxos-demo
    for name in elecctl paxos-demo; do strip -o "$work/bin/$name" "target/debug/$name"; done
    for name in "${guest_tests[@]}" elecctl paxos-demo; do
        [ -x "$work/bin/$name" ] || { echo "kernels: $name was not built" >&2; exit 1; }
    done
}

# copy_program FILE ROOT: with the libraries that it is linked with.
copy_program() {
    local library
    mkdir -p "$2/bin"
    cp -L "$1" "$2/bin/"
    ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
        mkdir -p "$2$(dirname "$library")"
        [ -e "$2$library" ] || cp -L "$library" "$2$library"
    done
}

# copy_modules SERIES ROOT: those in the list and what they need, in order, uncompressed.
copy_modules() {
    local dir=$work/$1/root release module file
    release=$(cat "$work/$1/release")
    depmod -b "$dir" "$release"
    mkdir -p "$2/modules"
    for module in "${guest_modules[@]}"; do
        # `builtin` lines and unknown names give no file.
        modprobe -d "$dir" -S "$release" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p' |
            while read -r file; do
                local name
                name=$(basename "$file")
                name=${name%.xz} name=${name%.zst}
                [ ! -e "$2/modules/$name" ] || continue
                case $file in
                *.xz) xz -dc "$file" >"$2/modules/$name" ;;
                *.zst) zstd -qdc "$file" >"$2/modules/$name" ;;
                *) cp "$file" "$2/modules/$name" ;;
                esac
                echo "$name" >>"$2/modules/order"
            done
    done
}

# pack_guest SERIES: target/kernels/SERIES/initrd and vmlinuz.
pack_guest() {
    local dir=$work/$1 root=$work/$1/guest name
    rm -rf "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,root}
    for name in /bin/bash "$(command -v ip)" "$(command -v tc)" "$work"/bin/*; do copy_program "$name" "$root"; done
    cp "$(command -v busybox)" "$root/bin/busybox"
    for name in mount cat seq cut tr grep sed awk mkdir sleep poweroff insmod ls nproc kill timeout sort uname rm tail head; do
        ln -s busybox "$root/bin/$name"
    done
    ln -s bash "$root/bin/sh"
    cp scripts/kernels.d/guest.sh "$root/init"
    cp scripts/kernels.d/pair.sh "$root/pair"
    chmod +x "$root/init" "$root/pair"
    # Fixtures are read where the crate was compiled.
    mkdir -p "$root$PWD/electrode/tests"
    cp -r electrode/tests/fixtures "$root$PWD/electrode/tests/"
    echo 'root:x:0:0::/root:/bin/bash' >"$root/etc/passwd"
    copy_modules "$1" "$root"
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"
    cp "$(ls "$dir"/root/boot/vmlinuz-* "$dir"/root/usr/lib/modules/*/vmlinuz "$dir"/root/lib/modules/*/vmlinuz 2>/dev/null | head -n 1)" "$dir/vmlinuz"
    rm -rf "$root"
}
