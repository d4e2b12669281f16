# What the guests said, as README.md shows it.

# print_table SERIES...
print_table() {
    local s said boots passed skipped failed insns pair release name
    echo '| kernel | hooks | tests | two guests | verified instructions: tx, rx at TC, rx at XDP |'
    echo '|---|---|---|---|---|'
    for s in "$@"; do
        said=$work/$s/said
        cell() { sed -n "s/^$1 //p" "$said" | head -n 1; }
        if [ ! -e "$said" ]; then
            # A pair alone says nothing of the selection.
            [ ! -e "$work/$s/missing" ] || echo "| $s | not available: $(cat "$work/$s/missing") | - | - | - |"
            continue
        fi
        passed=$(sed -n 's/^result .* ok \([0-9]*\) passed.*/\1/p' "$said" | awk '{ n += $1 } END { print n + 0 }')
        failed=$({ grep -E '^result [^ ]+ FAILED' "$said" || true; } | awk '{ printf " %s", $2 }')
        grep -q '^end' "$said" || failed+=" (did not get to its end)"
        skipped=$(grep -c '^skipped' "$said" || true)
        insns=$(for name in elec_tx elec_rx_tc elec_rx_xdp; do cell "VERIFIED $name"; done | paste -sd, | sed 's/,/, /g')
        pair=$(print_pairs "$s")
        boots=$(cell boots)
        echo "| $(cell release)${boots:+ (boot $boots)} | $(cell hooks) | $((passed - skipped)) passed, $skipped not for this kernel${failed:+, FAILED:$failed}; \`demo\` $(cell 'result demo' | cut -d' ' -f1) | ${pair:--} | ${insns:--} |"
    done
}

# print_pairs SERIES: those that it was the first of.
print_pairs() {
    local dir first second shown=
    for dir in "$work"/pair-"$1"-*; do
        [ -e "$dir/said" ] || continue
        first=$1 second=${dir##*/pair-"$1"-}
        ! pair_passed "$first" "$second" && shown+="${shown:+; }with $second: FAILED" || shown+="${shown:+; }with $second: ok"
    done
    echo "$shown"
}
