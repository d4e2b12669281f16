/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sizes that kernel programs and user space must agree on. Each limit stands beside its reason.
 */
#ifndef ELEC_ABI_LIMITS_H
#define ELEC_ABI_LIMITS_H

/* Members of one group: a voter set is one 32-bit mask, in the header and in the vote word. */
#define ELEC_MEMBERS_MAX 32

/* Bits of the tagged words. Gate word: {state:2, busy:1, epoch:13, op:48}. */
#define ELEC_OP_BITS 48
#define ELEC_EPOCH_BITS 13
#define ELEC_BUSY_SHIFT 61
#define ELEC_STATE_SHIFT 62

/* Vote word: {epoch:13, op:19, voters:32}. The window must stay below 2^19 ops. */
#define ELEC_VOTE_OP_BITS 19
#define ELEC_VOTE_OP_SHIFT 32
#define ELEC_VOTE_EPOCH_SHIFT 51

/* Word with a hardware address, in memory order: {valid:16, mac:48}. */
#define ELEC_MAC_VALID (1ull << 48)

/* What one Ethernet MTU of 1500 holds behind IPv4 (20), UDP (8) and the fixed header (80). */
#define ELEC_HDR_BYTES 80
#define ELEC_PAYLOAD_BYTES_MAX 1392

/* Header of a log slot; the payload follows it. */
#define ELEC_SLOT_HDR_BYTES 64

#endif
