/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What travels in a UDP payload: one fixed header, then `payload_bytes` bytes of payload.
 * All integers are little-endian. The Rust view (electrode/src/abi.rs) is checked against this file
 * when the crate is built. Field order leaves no implicit padding.
 */
#ifndef ELEC_ABI_WIRE_H
#define ELEC_ABI_WIRE_H

#include "limits.h"

#define ELEC_MAGIC 0x43454c45u /* "ELEC" in memory order */
#define ELEC_VERSION 1

/* `sender` of somebody who is not a member (a client). */
#define ELEC_SENDER_CLIENT 0xff

/*
 * In a Prepare that others follow at once: log it, and let the ack of a later one say so too. Acks are
 * cumulative (F9), so one ack is enough for a burst. A resend never carries it.
 */
#define ELEC_FLAG_ACK_LATER 1
/* The tag was made with the key in slot 1; without the flag, in slot 0. Without keys it says nothing. */
#define ELEC_FLAG_KEY_1 2

enum elec_kind {
	/* leader -> followers: ops first..=last with their payload (VR section 4.1) */
	ELEC_KIND_PREPARE = 1,
	/* follower -> leader: "I hold 1..=last as this view's leader ordered them" (F9) */
	ELEC_KIND_PREPARE_OK = 2,
	/* leader -> followers: commit number of an idle leader (F10) */
	ELEC_KIND_COMMIT = 3,
	/* anything else: the application's own payload, never touched by the fast path */
	ELEC_KIND_MESSAGE = 4,
};

struct elec_hdr {
	__u32 magic;
	__u8 version;
	__u8 kind; /* enum elec_kind */
	__u8 sender; /* replica index, ELEC_SENDER_CLIENT if none */
	__u8 flags; /* ELEC_FLAG_* */
	__u32 group;
	__u32 targets; /* bit i: for member i; the broadcast program makes it a copy */
	__u64 config_hash;
	__u64 view;
	__u64 first;
	__u64 last;
	__u64 commit; /* highest committed op that the sender knows */
	/*
	 * Prepare: chosen by the caller, echoed in the ack. Commit and Message: the sender's count of these, by which
	 * an old one is told from news (U9).
	 */
	__u64 round_tag;
	__u32 incarnation; /* life of the sender */
	__u16 leader_epoch; /* gate epoch of the leader, echoed in the ack */
	__u16 payload_bytes;
	__u64 auth_tag; /* SipHash-2-4 over what stands before, then the payload; 0 without keys */
};

_Static_assert(sizeof(struct elec_hdr) == ELEC_HDR_BYTES, "header has no implicit padding");

#endif
