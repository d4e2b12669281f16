/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The shared words: reading, comparing and swapping them. Layouts: abi/limits.h. */
#ifndef ELEC_WORDS_H
#define ELEC_WORDS_H

#include "maps.h"

#define ELEC_OP_MASK ((1ull << ELEC_OP_BITS) - 1)
#define ELEC_EPOCH_MASK ((1ull << ELEC_EPOCH_BITS) - 1)
#define ELEC_BUSY (1ull << ELEC_BUSY_SHIFT)

/* A swap that lost to other CPUs this often gives the packet to user space instead of spinning on. */
#define ELEC_SWAP_TRIES 8
#define ELEC_BUSY_TRIES 32

/* Acquire: x86 loads are; elsewhere a full-barrier read-modify-write stands in for one. */
static __always_inline __u64 elec_load(__u64 *word)
{
#if defined(__TARGET_ARCH_x86)
	__u64 value = *(volatile __u64 *)word;

	asm volatile("" ::: "memory");
	return value;
#else
	return __sync_fetch_and_add(word, 0);
#endif
}

/* Returns what was there; equal to `expected` means swapped. A full barrier. */
static __always_inline __u64 elec_swap(__u64 *word, __u64 expected, __u64 desired)
{
	return __sync_val_compare_and_swap(word, expected, desired);
}

static __always_inline __u64 elec_state_of(__u64 gate)
{
	return gate >> ELEC_STATE_SHIFT;
}

static __always_inline __u64 elec_epoch_of(__u64 word)
{
	return (word >> ELEC_OP_BITS) & ELEC_EPOCH_MASK;
}

static __always_inline __u64 elec_op_of(__u64 word)
{
	return word & ELEC_OP_MASK;
}

static __always_inline __u64 elec_tagged(__u64 epoch, __u64 op)
{
	return epoch << ELEC_OP_BITS | op;
}

static __always_inline __u64 elec_now(struct elec_control *c)
{
	return elec_params.virtual_clock ? c->virtual_now_ns : bpf_ktime_get_coarse_ns();
}

/*
 * Raises a tagged word to {epoch, op}, epoch before op: a program that still runs under an older opening
 * neither overwrites nor blocks a newer one. User space zeroes the words at every opening.
 * Returns 1 if raised, 0 if it already was as high, -1 if other CPUs kept winning.
 */
static __always_inline int elec_raise(__u64 *word, __u64 epoch, __u64 op)
{
	__u64 seen = elec_load(word);

	for (int i = 0; i < ELEC_SWAP_TRIES; i++) {
		__u64 was;

		if (seen >= elec_tagged(epoch, op))
			return 0;
		was = elec_swap(word, seen, elec_tagged(epoch, op));

		if (was == seen)
			return 1;
		seen = was;
	}
	return -1;
}

/* Takes an armed doorbell: true for exactly one caller once `value` has reached it. */
static __always_inline bool elec_take_bell(__u64 *armed, __u64 value)
{
	__u64 at = *(volatile __u64 *)armed;

	return at && value >= at && elec_swap(armed, at, 0) == at;
}

/* Wakes the sleeper. A full ring is fine: it is readable then, so the sleeper is awake. */
static __always_inline void elec_ring(__u64 op)
{
	elec_count(ELEC_RANG);
	bpf_ringbuf_output(&elec_bell, &op, sizeof(op), BPF_RB_FORCE_WAKEUP);
}

#endif
