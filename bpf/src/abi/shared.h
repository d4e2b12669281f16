/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Memory that kernel programs and user space share: values of mmapped array maps. Every struct is
 * zero-initialised and zero means "refuse" (D1). Words that both sides change are changed by
 * compare-and-swap only; who writes what, and when, stands beside each field.
 */
#ifndef ELEC_ABI_SHARED_H
#define ELEC_ABI_SHARED_H

#include "limits.h"

enum elec_state {
	ELEC_STATE_FROZEN = 0,
	ELEC_STATE_FOLLOW = 1,
	ELEC_STATE_LEAD = 2,
};

/* Constants of one loaded endpoint (.rodata): the verifier prunes what is switched off. */
struct elec_params {
	__u64 config_hash;
	__u64 socket_cookie; /* only this socket's packets are carriers: cannot be forged */
	__u32 group;
	__u32 slots; /* power of two */
	__u32 slot_payload_bytes; /* payload room of one slot */
	__u32 window; /* quorum slots, power of two */
	__u32 incarnation;
	__u32 ifindex; /* where the endpoint's members are reached */
	__u16 port_be; /* own UDP port, network order */
	__u8 self; /* own index */
	__u8 members;
	__u8 ipv6; /* 0: IPv4, 1: IPv6 */
	__u8 offload_broadcast;
	__u8 offload_fast_ack;
	__u8 offload_quorum;
	__u8 log_only; /* `disk`: log in the kernel, ack from user space after fsync */
	__u8 lease_required;
	__u8 virtual_clock; /* tests: time comes from control.virtual_now_ns */
	__u8 xdp_generic; /* the XDP program runs on the stack's packets */
	__u8 authenticated; /* the group has keys (F4) */
	__u8 pad[3];
	__u8 addr[16]; /* own address; IPv4 is mapped (::ffff:a.b.c.d) */
	__u8 carrier_addr[16]; /* multicast destination of the carrier (L7) */
};

struct elec_member {
	__u8 addr[16];
	__u16 port_be;
	__u16 pad0;
	__u32 pad1;
};

/* Changed by user space only while the gate is frozen (F0). */
struct elec_config {
	__u64 view;
	__u32 leader;
	__u32 pad;
	struct elec_member members[ELEC_MEMBERS_MAX];
};

/*
 * One of the two keys that tags may be made with (F4). User space writes a key while it is invalid and no program
 * can still be reading it: invalidate, wait for a grace period, write, publish.
 */
struct elec_key {
	__u64 valid;
	__u64 k0; /* the secret's first eight bytes, little-endian */
	__u64 k1;
	__u64 id; /* its number, for those who look: no program reads it */
};

struct elec_keys {
	struct elec_key key[2]; /* by ELEC_FLAG_KEY_1 */
};

/* One page of words, one concern a cache line. */
struct elec_control {
	/* line 0: the gate */
	__u64 gate;
	__u64 pad0[7];
	/* line 1: stored by user space while the gate may be open */
	__u64 released; /* slots of ops up to here may be reused (F6) */
	__u64 durable; /* tagged {epoch, op}: acked by user space after fsync (F8) */
	__u64 lease_ns; /* CLOCK_MONOTONIC time until which the gate may be used (F2) */
	__u64 virtual_now_ns;
	__u64 own_mac; /* {valid:16, mac:48}, the interface's own: what comes for another is the stack's business */
	__u64 pad1[3];
	/* line 2: doorbells, zero is "do not ring". Armed by user space, cleared by whoever rings */
	__u64 ring_at_op; /* ring when an op >= this is logged */
	__u64 ring_at_commit; /* ring when a commit >= this is seen */
	__u64 ring_on_quorum; /* non-zero: pass the packet that completes a quorum */
	__u64 pad2[5];
	/* line 3: stored by the kernel programs */
	__u64 commit; /* tagged {epoch, op}: highest commit number seen (F10) */
	__u64 last_leader_ns; /* last packet of the view's leader that says something new (U9) */
	__u64 carriers; /* carriers that met the broadcast program: others were lost on the way to it */
	__u64 heard_op; /* tagged {epoch, op}: highest op that the leader has prepared (U9) */
	__u64 heard_count; /* tagged {epoch, count}: highest count of its Commits (U9) */
	__u64 pad3[3];
	/* per peer */
	__u64 acked[ELEC_MEMBERS_MAX]; /* tagged {epoch, op}: cumulative maximum (L2) */
	__u64 incarnation[ELEC_MEMBERS_MAX]; /* whose acks count; zero: nobody's */
	__u64 next_hop[ELEC_MEMBERS_MAX]; /* {valid:16, mac:48}, fed from the neighbour table */
};

/* Quorum round, index `last mod window`. Written by user space before the Prepare leaves (L1). */
struct elec_round {
	__u64 vote; /* {epoch:13, op:19, voters:32}, compare-and-swap only */
	__u64 op; /* last op of the round */
	__u64 view;
	__u64 round_tag;
	__u32 voters; /* who may vote */
	__u32 threshold; /* how many votes complete the round */
	__u32 missed; /* peers whose clone failed, set by the broadcast program (L7) */
	__u32 pad[5];
};

/* Log slot, index `first mod slots`. */
struct elec_slot {
	__u64 epoch; /* gate epoch under which it was written */
	__u64 view;
	__u64 first;
	__u64 last;
	__u64 round_tag;
	__u32 payload_bytes;
	__u16 leader_epoch;
	__u16 pad0;
	__u64 pad1[2];
	__u8 payload[]; /* slot_payload_bytes and 4 bytes of room for the checksum's padding */
};

_Static_assert(sizeof(struct elec_slot) == ELEC_SLOT_HDR_BYTES, "slot header");
_Static_assert(sizeof(struct elec_round) == 64, "one cache line a round");

/* One counter a verdict (F11). `pass_` goes on unchanged, `drop_` ends here, `tx_` is turned round. */
enum elec_verdict {
	ELEC_PASS_FOREIGN, /* not for this endpoint */
	ELEC_PASS_FRAMING, /* ours, but fragments, IP options or a VLAN tag: the stack's business */
	ELEC_PASS_MALFORMED, /* F1: magic, version, kind or lengths */
	ELEC_PASS_CONFIG, /* F1: another group or configuration hash */
	ELEC_PASS_MESSAGE, /* for the application */
	ELEC_PASS_OFFLOAD_OFF, /* the offload for this kind is switched off */
	ELEC_PASS_FROZEN, /* F2: gate not open for this kind */
	ELEC_PASS_LEASE, /* F2: gate lease ran out */
	ELEC_PASS_VIEW_NEW, /* F3 */
	ELEC_PASS_GAP, /* F5: first > tail + 1 */
	ELEC_PASS_OVERLAP, /* F5: partly new */
	ELEC_PASS_LOG_FULL, /* F6: slot not released */
	ELEC_PASS_TOO_LARGE, /* F6: payload exceeds the slot */
	ELEC_PASS_BUSY, /* F7: another CPU holds the log */
	ELEC_PASS_RACED, /* F7: frozen while the slot was filled */
	ELEC_PASS_CONTENDED, /* L2: compare-and-swap lost too often */
	ELEC_DROP_CHECKSUM, /* F1: UDP checksum wrong */
	ELEC_DROP_VIEW_OLD, /* F3 */
	ELEC_DROP_SOURCE, /* F4, L2: not from where that member lives */
	ELEC_DROP_TARGET, /* F4: the tag was made for other members */
	ELEC_DROP_KEY, /* F4: made with a key that is not accepted here */
	ELEC_DROP_TAG, /* F4: the tag is wrong */
	ELEC_DROP_NOT_DURABLE, /* F8: `disk`, duplicate above durable */
	ELEC_DROP_LOGGED, /* logged, acked later: with the rest of its burst, or (`disk`) by user space */
	ELEC_DROP_ACK_FAILED, /* logged, but the ack could not be built; a resend heals it */
	ELEC_DROP_COMMIT, /* F10: commit number absorbed */
	ELEC_DROP_VOTE, /* L2: vote counted, quorum not complete */
	ELEC_DROP_VOTE_REPEATED, /* L2: counted before, or the round was complete */
	ELEC_DROP_VOTE_STALE, /* L2: another leader epoch, round or an op not in flight */
	ELEC_DROP_VOTE_STRANGER, /* L2: unexpected incarnation, or self */
	ELEC_DROP_QUORUM_QUIET, /* L3: quorum complete, nobody asked to be woken */
	ELEC_PASS_QUORUM, /* L3: quorum complete, this packet wakes user space */
	ELEC_TX_ACK, /* F7: logged and acked */
	ELEC_TX_ACK_REPEATED, /* F8: duplicate, acked again */
	ELEC_CARRIER, /* broadcast program ran on a carrier */
	ELEC_CARRIER_MALFORMED, /* from our socket, but not a well-formed carrier: consumed */
	ELEC_CLONE_SENT,
	ELEC_CLONE_FAILED, /* L7 */
	ELEC_CLONE_UNRESOLVED, /* L7: no next hop for this peer */
	ELEC_RANG, /* doorbell rung */
	ELEC_PASS_HARDWARE_ADDRESS, /* for us, in a frame for another or for all: the stack's business */
	ELEC_VERDICTS
};

#endif
