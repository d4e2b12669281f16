# Booting guests and reading what they say on their serial console.

# A guest that says nothing for this long is lost: each test that ends is a line. (Emulation is 5 to 20 times slower than
# the machine.)
guest_silence_seconds_max=${GUEST_SILENCE_SECONDS_MAX:-1200}
guest_accel=${GUEST_ACCEL:-tcg,thread=multi} guest_cpu=${GUEST_CPU:-max}

# guest SERIES CONSOLE-FILE CMDLINE [ARGUMENT...]: runs until the guest powers off, or is lost. One whose kernel dies before
# our first line is booted again, and says so: emulation on a busy machine sometimes trips over a kernel that patches its own
# code. Silence is no such death, nor is an end without a word.
guest() {
    local try
    rm -f "$2"-not-up-*
    for try in 1 2 3; do
        boot_once "$@"
        if grep -q '@@ release' "$2" || ! grep -qE 'Oops|Kernel panic|general protection fault|BUG: ' "$2"; then
            [ $try = 1 ] || echo "@@ boots $try" >>"$2"
            return 0
        fi
        cp "$2" "$2-not-up-$try"
        echo "   boot $try of $1 ended before the guest was up: $(tail -n 3 "$2" | tr -d '\r' | tr '\n' ' ')" >&2
    done
}

# boot_once SERIES CONSOLE-FILE CMDLINE [ARGUMENT...]: once.
boot_once() {
    local dir=$work/$1 console=$2 cmdline=$3 qemu silent=0 said=0 now
    shift 3
    : >"$console"
    qemu-system-x86_64 -accel "$guest_accel" -cpu "$guest_cpu" -smp 2 -m 1536 -nodefaults -nographic -serial stdio -no-reboot \
        -kernel "$dir/vmlinuz" -initrd "$dir/initrd" -append "console=ttyS0 panic=-1 quiet $cmdline" "$@" \
        </dev/null >"$console" 2>&1 &
    qemu=$!
    # Whoever ends this script ends its guests.
    trap 'kill $qemu 2>/dev/null; exit 1' INT TERM
    while kill -0 $qemu 2>/dev/null; do
        sleep 1
        now=$(stat -c %s "$console")
        [ "$now" = "$said" ] && silent=$((silent + 1)) || silent=0
        said=$now
        if [ $silent -ge "$guest_silence_seconds_max" ]; then
            echo "kernels: the guest has said nothing for $silent s" >>"$console"
            kill $qemu
        fi
    done
    wait $qemu || true
    trap - INT TERM
}

# said CONSOLE-FILE: what is meant for us.
said() { tr -d '\r' <"$1" | sed -n 's/^.*@@ //p'; }

# boot_one SERIES: the selection; fails if anything in it did, or if the guest did not get to its end.
boot_one() {
    # What --only says is no row of the table.
    local dir=$work/$1 name=console
    [ -z "$only" ] || name=console-only
    rm -f "$dir/$name" "$dir/${name/console/said}"
    guest "$1" "$dir/$name" "${only:+elec_only=$only}"
    said "$dir/$name" >"$dir/${name/console/said}.now"
    grep -E '^(boots|backend|because|hooks|result|VERIFIED|skipped|lost)' "$dir/${name/console/said}.now" | sed 's/^/   /'
    mv "$dir/${name/console/said}.now" "$dir/${name/console/said}"
    if ! grep -q '^end' "$dir/${name/console/said}"; then
        echo "   the guest did not get to its end; the last it said:"
        tail -n 20 "$dir/$name"
        return 1
    fi
    ! grep -qE '^result [^ ]+ FAILED' "$dir/${name/console/said}"
}
