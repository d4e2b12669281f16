# Booting guests and reading what they say on their serial console.

# A guest that says nothing for this long is lost (emulation is 5 to 20 times slower than the machine).
guest_seconds_max=${GUEST_SECONDS_MAX:-3600}

# qemu SERIES CONSOLE-FILE CMDLINE [ARGUMENT...]: runs until the guest powers off.
guest() {
    local dir=$work/$1 console=$2 cmdline=$3
    shift 3
    timeout --foreground "$guest_seconds_max" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nodefaults \
        -nographic -serial stdio -no-reboot -kernel "$dir/vmlinuz" -initrd "$dir/initrd" \
        -append "console=ttyS0 panic=-1 quiet $cmdline" "$@" </dev/null >"$console" 2>&1
}

# boot_one SERIES: the selection; fails if anything in it did, or if the guest did not get to its end.
boot_one() {
    local dir=$work/$1
    rm -f "$dir/console" "$dir/said"
    guest "$1" "$dir/console" "${only:+elec_only=$only}" || true
    tr -d '\r' <"$dir/console" | sed -n 's/^.*@@ //p' >"$dir/said"
    grep -E '^(backend|because|result|VERIFIED|skipped)' "$dir/said" | sed 's/^/   /'
    if ! grep -q '^end' "$dir/said"; then
        echo "   the guest did not get to its end; the last it said:"
        tail -n 20 "$dir/console"
        return 1
    fi
    ! grep -qE '^result [^ ]+ FAILED' "$dir/said"
}

# boot_pair SERIES: a leader and a follower on a bridge between two taps with two queues each, in a network namespace
# that goes away with the guests.
boot_pair() {
    local dir=$work/$1
    rm -f "$dir"/console-[01] "$dir/said-pair"
    if [ "$(id -u)" -ne 0 ] || [ ! -e /dev/net/tun ]; then
        echo "   skipped: two guests need root and /dev/net/tun"
        return 0
    fi
    # No name: the namespace ends with its last process.
    unshare --net bash -euo pipefail -c '
        work=$1 series=$2 here=$3
        . "$here/boot.sh"
        ip link add br0 type bridge mcast_snooping 0
        ip link set br0 up
        for i in 0 1; do
            ip tuntap add dev tap$i mode tap multi_queue
            ip link set tap$i master br0 up
        done
        # What XDP asks of a virtio device: no large receive offloads, a queue a processor to send with.
        device=virtio-net-pci,mq=on,vectors=10,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off
        pids=()
        for i in 0 1; do
            guest "$series" "$work/$series/console-$i" "elec_pair=$i" \
                -netdev tap,id=n,ifname=tap$i,script=no,downscript=no,queues=4,vhost=off \
                -device $device,netdev=n,mac=52:54:00:00:00:0$((i + 1)) &
            pids+=($!)
        done
        wait "${pids[@]}"
    ' bash "$work" "$1" "$PWD/scripts/kernels.d" || true
    local i said=$dir/said-pair
    for i in 0 1; do tr -d '\r' 2>/dev/null <"$dir/console-$i" | sed -n "s/^.*@@ /$i /p"; done >"$said"
    sed 's/^/   /' "$said"
    [ "$(grep -c ' result .* ok' "$said")" = 2 ] && ! grep -q FAILED "$said" ||
        { tail -n 20 "$dir/console-0" "$dir/console-1"; return 1; }
}

# One row a kernel, as README.md shows them.
print_table() {
    local s said cell name
    echo '| kernel | backend of `auto` | tests | `demo` | two guests, native XDP | verified instructions: tx, rx at TC, rx at XDP |'
    echo '|---|---|---|---|---|---|'
    for s in "$@"; do
        said=$work/$s/said
        [ -e "$said" ] || continue
        cell() { sed -n "s/^$1 //p" "$said" | head -n 1; }
        local passed skipped failed insns pair=-
        passed=$(sed -n 's/^result .* ok \([0-9]*\) passed/\1/p' "$said" | awk '{ n += $1 } END { print n + 0 }')
        failed=$({ grep -E '^result [^ ]+ FAILED' "$said" || true; } | awk '{ printf " %s", $2 }')
        insns=$(for name in elec_tx elec_rx_tc elec_rx_xdp; do cell "VERIFIED $name"; done | paste -sd, | sed 's/,/, /g')
        [ ! -e "$work/$s/said-pair" ] || { pair=failed; [ "$(grep -c ' result .* ok' "$work/$s/said-pair")" != 2 ] || pair=yes; }
        skipped=$(grep -c '^skipped' "$said" || true)
        echo "| $(cell release) | $(cell backend) | $((passed - skipped)) passed, $skipped not for this kernel${failed:+, FAILED:$failed} | $(cell 'result demo' | cut -d' ' -f1) | $pair | ${insns:--} |"
    done
}
