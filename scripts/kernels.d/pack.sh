# What a guest boots into: one initramfs with the test binaries, what they are linked with, and a few modules.

# Test files of crate electrode that run in a guest, and one of paxos-demo, for which its program is built as well.
guest_tests=(verifier fixtures offloads broadcast gate coexist leftovers guard privileges cycles authenticated native_xdp
    durability netem ordinary_user)
guest_programs=(elecctl paxos-demo)
# What the guest may load; a kernel that has one built in needs no file.
guest_modules=(veth bridge sch_ingress cls_bpf act_bpf sch_netem sch_fq virtio_pci virtio_net ipv6 dummy)

# Builds tests and programs once, for all guests: with the features and the profile of `scripts/test`, which has built
# them already. They lie in target/kernels/bin, without debug information.
build_binaries() {
    rm -rf "$work/bin"
    mkdir -p "$work/bin"
    local arguments=() name path
    for name in "${guest_tests[@]}"; do arguments+=(--test "$name"); done
    cargo test -q --workspace "${arguments[@]}" --no-run --message-format=json |
        sed -n 's/.*"kind":\["\(test\|bin\)"\].*"name":"\([a-z_-]*\)".*"executable":"\([^"]*\)".*/\2 \3/p' >"$work/executables"
    while read -r name path; do
        [[ " ${guest_tests[*]} ${guest_programs[*]} " != *" $name "* ]] || strip -o "$work/bin/$name" "$path"
    done <"$work/executables"
    for name in "${guest_tests[@]}" "${guest_programs[@]}"; do
        [ -x "$work/bin/$name" ] || { echo "kernels: $name was not built" >&2; exit 1; }
    done
}

# copy_program FILE ROOT: with the libraries that it is linked with.
copy_program() {
    local library
    mkdir -p "$2/bin"
    cp -L "$1" "$2/bin/"
    # A program that is linked statically has none.
    { ldd "$1" 2>/dev/null || true; } | sed -n 's/.*not found.*/missing/p; s/^[^/]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
        [ "$library" != missing ] || { echo "kernels: a library of $1 is missing" >&2; exit 1; }
        mkdir -p "$2$(dirname "$library")"
        [ -e "$2$library" ] || cp -L "$library" "$2$library"
    done
}

# target/kernels/programs: all of a guest but what Debian packages bring.
pack_programs() {
    local root=$work/programs name file
    rm -rf "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,root,var}
    ln -s ../run "$root/var/run"
    for file in "$work"/bin/*; do copy_program "$file" "$root"; done
    for name in "${guest_tests[@]}"; do
        grep -qE "^ *run $name( |\$)" scripts/kernels.d/guest/init || { echo "kernels: no guest runs $name" >&2; exit 1; }
    done
    # Fixtures are read, and programs started, where they were when the tests were compiled.
    mkdir -p "$root$PWD/electrode/tests"
    cp -r electrode/tests/fixtures "$root$PWD/electrode/tests/"
    while read -r name file; do
        [[ " ${guest_programs[*]} " == *" $name "* ]] || continue
        mkdir -p "$root$(dirname "$file")"
        ln -sf "/bin/$name" "$root$file"
    done <"$work/executables"
    for file in scripts/kernels.d/guest/*; do bash -n "$file" && cp "$file" "$root/"; done
    chmod +x "$root"/{init,pair}
    printf '%s\n' 'root:x:0:0::/root:/bin/bash' 'daemon:x:1:1::/:/bin/bash' 'nobody:x:65534:65534::/tmp:/bin/bash' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'nogroup:x:65534:' >"$root/etc/group"
    echo 'passwd: files' >"$root/etc/nsswitch.conf"
}

# copy_modules SERIES ROOT: those in the list and what they need, in order, uncompressed.
copy_modules() {
    local dir=$work/$1/root release module file name
    release=$(cat "$work/$1/release")
    depmod -b "$dir" "$release" 2>/dev/null
    mkdir -p "$2/modules"
    : >"$2/modules/order"
    for module in "${guest_modules[@]}"; do
        # `builtin` lines and unknown names give no file.
        { modprobe -d "$dir" -S "$release" --show-depends "$module" 2>/dev/null || true; } |
            sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r file; do
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
    cp -r "$work/programs" "$root"
    for name in bash ip tc bridge setpriv; do copy_program "$(command -v $name)" "$root"; done
    cp "$(command -v busybox)" "$root/bin/busybox"
    for name in mount cat seq cut tr grep sed awk mkdir sleep ping stat poweroff insmod ls nproc kill timeout sort uname rm tail head \
        tee wc chmod; do
        ln -s busybox "$root/bin/$name"
    done
    ln -s bash "$root/bin/sh"
    copy_modules "$1" "$root"
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"
    cp "$(ls "$dir"/root/boot/vmlinuz-* "$dir"/root/usr/lib/modules/*/vmlinuz "$dir"/root/lib/modules/*/vmlinuz 2>/dev/null | head -n 1)" "$dir/vmlinuz"
    rm -rf "$root"
}
