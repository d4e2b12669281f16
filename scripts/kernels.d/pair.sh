#!/bin/bash
# Guest 0 or 1 of two: a replica each, native XDP on virtio-net; guest 0 leads and drives requests.
me=$(sed -n 's/.*elec_pair=\([01]\).*/\1/p' /proc/cmdline)
eth=$(ls /sys/class/net | grep -v lo | head -n 1)
ip link set "$eth" up
ip addr add "10.9.0.$((me + 1))/24" dev "$eth"
echo "@@ interface $eth with $(ls -d "/sys/class/net/$eth"/queues/rx-* | grep -c .) receive queues"
cat >/tmp/cluster.toml <<TOML
group = 1
durability = "memory"
[[replicas]]
index = 0
address = "10.9.0.1:7100"
[[replicas]]
index = 1
address = "10.9.0.2:7100"
[timeouts]
leader_timeout_ms = 5000
TOML
mkdir -p /tmp/data
paxos-demo replica --config /tmp/cluster.toml --id "$me" --interface "$eth" --backend ebpf --hook xdp \
    --data-dir /tmp/data --bootstrap >/tmp/replica 2>&1 &
replica=$!

finish() {
    echo "@@ result replica $1 $2"
    sed 's/^/   /' /tmp/replica
    ip -details link show "$eth" | grep -aE 'xdp' | sed 's/^/   /'
    elecctl status | sed 's/^/   /'
    kill "$replica"
    exit
}

if [ "$me" = 0 ]; then
    for i in $(seq 1 120); do
        timeout 20 paxos-demo client --config /tmp/cluster.toml put first value >/tmp/out 2>&1 && break
        sleep 1
    done
    for i in $(seq 1 50); do
        timeout 60 paxos-demo client --config /tmp/cluster.toml put "key$i" "value$i" >/tmp/out 2>&1 ||
            { cat /tmp/out; finish FAILED "put $i"; }
        [ "$(timeout 60 paxos-demo client --config /tmp/cluster.toml get "key$i" 2>&1)" = "value$i" ] ||
            finish FAILED "get $i"
    done
    # Told to the other guest through what both share.
    timeout 60 paxos-demo client --config /tmp/cluster.toml put done yes >/dev/null 2>&1
    sleep 20
    votes=$(elecctl status | grep -oE '(pass_quorum|drop_quorum_quiet) [0-9]+' | awk '{ n += $2 } END { print n + 0 }')
    [ "$votes" -gt 50 ] && finish ok "50 keys written and read, $votes quorums counted by the kernel"
    finish FAILED "$votes quorums counted by the kernel"
fi
for i in $(seq 1 600); do
    [ "$(timeout 20 paxos-demo client --config /tmp/cluster.toml get done 2>/dev/null)" = yes ] && break
    sleep 1
done
acks=$(elecctl status | grep -oE 'tx_ack [0-9]+' | grep -oE '[0-9]+')
[ "${acks:-0}" -gt 50 ] && finish ok "$acks acknowledged by the kernel"
finish FAILED "${acks:-no} acknowledgements by the kernel"
