#!/bin/bash
# First process of a guest: loads modules, runs what it is told, says so on the serial console, powers off.
# Lines that the host reads begin with "@@".
export PATH=/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
ulimit -l unlimited
while read -r module; do
    insmod "/modules/$module" 2>/dev/null || echo "module $module was refused"
done </modules/order
ip link set lo up
ip link add elec0 type dummy && ip link set elec0 up
echo "@@ release $(uname -r)"

if grep -q elec_pair= /proc/cmdline; then
    /pair
    poweroff -f
fi

# say NAME VERDICT DETAIL
say() { echo "@@ result $1 $2 $3"; }

elecctl doctor >/tmp/doctor 2>&1
sed 's/^/   /' /tmp/doctor
backend=$(sed -n 's/^backend of `auto` *//p' /tmp/doctor)
echo "@@ backend $backend"
echo "@@ because $(sed -n 's/^because *//p' /tmp/doctor | head -n 1)"

only=$(sed -n 's/.*elec_only=\([^ ]*\).*/\1/p' /proc/cmdline)

run() {
    local name=$1
    [ "${only:-$name}" = "$name" ] || return 0
    shift
    timeout 900 "$name" --test-threads=1 "$@" >/tmp/out 2>&1
    local code=$? line
    line=$(grep '^test result' /tmp/out | tail -n 1)
    grep -aoE 'VERIFIED .*' /tmp/out | sed 's/^/@@ /'
    grep -aoE 'SKIPPED .*' /tmp/out | sed 's/^/@@ skipped /'
    if [ $code = 0 ]; then
        say "$name" ok "$(echo "$line" | grep -oE '[0-9]+ passed')"
    else
        say "$name" FAILED "code $code, $line"
        tail -n 60 /tmp/out
    fi
}

if [ "$backend" = ebpf ]; then
    export ELECTRODE_DIFFERENTIAL_PACKETS=20000
    run verifier
    run fixtures
    run offloads
    run broadcast
    run gate
    run coexist
    run leftovers
    run guard
    run authenticated
    run native_xdp
    run durability
    run netem --ignored
else
    # Too old: sockets serve, and whoever insists on eBPF is told why not.
    run offloads sockets_alone
fi
if [ -n "$only" ] && [ "$only" != demo ]; then
    echo "@@ end"
    poweroff -f
fi
timeout 600 paxos-demo demo --replicas 3 --seconds 3 --json /tmp/demo.json >/tmp/out 2>&1
code=$?
if [ $code = 0 ]; then
    say demo ok "$(grep -aoE 'answers? (were )?right.*|[0-9,]+ (requests|answers)[^.]*' /tmp/out | head -n 1)"
else
    say demo FAILED "code $code"
fi
sed 's/^/   /' /tmp/out | tail -n 30
echo "@@ end"
poweroff -f
