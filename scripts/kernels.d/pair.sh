# Two guests on a cable: a group across two kernels.

# pair_name FIRST SECOND: where in target/kernels its consoles lie.
pair_name() { echo "pair-$1-$2"; }

# boot_pair FIRST SECOND: replica 0 on the first, which leads and then loses its power; replicas 1 and 2 on the second,
# with a device each. Each device has several queues and is a tap on a bridge, in a network namespace that goes away with
# the guests.
boot_pair() {
    local dir
    dir=$work/$(pair_name "$1" "$2")
    rm -rf "$dir"
    mkdir -p "$dir"
    if [ "$(id -u)" -ne 0 ] || [ ! -e /dev/net/tun ]; then
        echo "   skipped: two guests need root and /dev/net/tun"
        echo "skipped: no root or no /dev/net/tun" >"$dir/said"
        return 0
    fi
    # No name: the namespace ends with its last process.
    unshare --net bash -euo pipefail -c '
        work=$1 first=$2 second=$3 dir=$4 here=$5
        . "$here/boot.sh"
        ip link add br0 type bridge mcast_snooping 0
        ip link set br0 up
        # nic NUMBER: arguments for a device. XDP asks a virtio device for no large receive offloads, and for a queue a
        # processor to send with.
        nic() {
            echo "-netdev tap,id=n$1,ifname=tap$1,script=no,downscript=no,queues=4,vhost=off" \
                "-device virtio-net-pci,mq=on,vectors=10,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off,netdev=n$1,mac=52:54:00:00:00:0$1"
        }
        for i in 0 1 2; do
            ip tuntap add dev tap$i mode tap multi_queue
            ip link set tap$i master br0 up
        done
        pids=()
        guest "$first" "$dir/console-0" elec_pair=first $(nic 0) & pids+=($!)
        guest "$second" "$dir/console-1" elec_pair=second $(nic 1) $(nic 2) & pids+=($!)
        wait "${pids[@]}"
    ' bash "$work" "$1" "$2" "$dir" "$PWD/scripts/kernels.d" || true
    local i
    for i in 0 1; do said "$dir/console-$i" | sed "s/^/$i /"; done >"$dir/said"
    sed 's/^/   /' "$dir/said"
    pair_passed "$1" "$2" || { tail -n 20 "$dir/console-0" "$dir/console-1"; return 1; }
}

# pair_passed FIRST SECOND: all that must be said was.
pair_passed() {
    local said name
    said=$work/$(pair_name "$1" "$2")/said
    for name in '0 result leader' '1 result followers' '1 result takeover'; do
        grep -q "^$name ok" "$said" || return 1
    done
    ! grep -q FAILED "$said"
}
