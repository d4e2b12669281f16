/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map and what it is for; sizes marked "set at load" come from the endpoint's configuration. */
#ifndef ELEC_MAPS_H
#define ELEC_MAPS_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/wire.h"
#include "abi/shared.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire format is little-endian and so are the programs"
#endif

/* Constants of this endpoint; the verifier knows their values and prunes by them. */
const volatile struct elec_params elec_params;

/* Gives user space the layouts to compare its own with; never read. */
struct {
	struct elec_hdr hdr;
	struct elec_config config;
	struct elec_control control;
	struct elec_round round;
	struct elec_slot_hdr {
		__u64 epoch, view, first, last, round_tag;
		__u32 payload_bytes;
		__u16 leader_epoch, pad0;
		__u64 pad1[2];
	} slot;
	enum elec_verdict verdict;
	enum elec_kind kind;
	enum elec_state state;
} elec_abi;

/* View, leader, members: written by user space while the gate is frozen (F0). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct elec_config);
} elec_config SEC(".maps");

/* Gate, doorbells, per-peer words. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct elec_control);
} elec_control SEC(".maps");

/* The follower's log; slots and slot size are set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, ELEC_SLOT_HDR_BYTES + ELEC_PAYLOAD_BYTES_MAX + 8);
} elec_slots SEC(".maps");

/* The leader's rounds; the window is set at load. Never per-CPU: acks arrive on any core. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct elec_round);
} elec_rounds SEC(".maps");

/* Doorbell of a follower: a record wakes whoever sleeps on it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} elec_bell SEC(".maps");

/* Keys; all zero, and so refused, where the group has none. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct elec_keys);
} elec_keys SEC(".maps");

/* One counter a verdict and CPU (F11). */
struct elec_counters {
	__u64 count[ELEC_VERDICTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct elec_counters);
} elec_counters SEC(".maps");

/* Where a payload lies while its checksum or its tag is computed. */
#define ELEC_SUM_BYTES 512 /* bpf_csum_diff takes no more on 6.1 */
#define ELEC_SUM_PARTS ((ELEC_PAYLOAD_BYTES_MAX + ELEC_SUM_BYTES - 1) / ELEC_SUM_BYTES)

struct elec_scratch {
	__u8 payload[ELEC_SUM_PARTS * ELEC_SUM_BYTES];
} __attribute__((aligned(8)));

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct elec_scratch);
} elec_scratch SEC(".maps");

/*
 * Says once more, where it matters, between which constants a value lies, which checks have seen. What a check says
 * holds for copies that are made after it, and older verifiers (6.1) do not see that two copies are one: here checks
 * and copy cannot be parted.
 */
#define elec_between(min, value, max)                                                                    \
	({                                                                                               \
		__u64 bounded_ = (value);                                                                \
		asm volatile("if %0 >= %1 goto +1\n\t%0 = %1\n\tif %0 <= %2 goto +1\n\t%0 = %2"            \
			     : "+r"(bounded_)                                                            \
			     : "i"(min), "i"(max));                                                      \
		bounded_;                                                                                \
	})

static __always_inline void elec_count(enum elec_verdict verdict)
{
	__u32 zero = 0;
	struct elec_counters *c = bpf_map_lookup_elem(&elec_counters, &zero);

	if (c && verdict < ELEC_VERDICTS)
		c->count[verdict]++;
}

static __always_inline struct elec_control *elec_control_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&elec_control, &zero);
}

static __always_inline const struct elec_config *elec_config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&elec_config, &zero);
}

#endif
