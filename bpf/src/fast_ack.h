/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Follower: a Prepare goes into the log and comes back as an ack (rules F5 to F10). The gate is open in
 * state Follow, view and source have been checked, `gate` is the word that was loaded first (F0).
 */
#ifndef ELEC_FAST_ACK_H
#define ELEC_FAST_ACK_H

#include "reply.h"
#include "words.h"

/*
 * U9 and F10: what every valid packet of the view's leader tells, whatever becomes of it. A sign of life is only
 * what nobody can have kept: a Prepare beyond all ops that were heard of, a Commit that counts higher than all
 * before it. Otherwise whoever sends old packets again keeps the view of a dead leader alive.
 */
static __always_inline void elec_note_leader(struct elec_control *c, __u64 gate, struct elec_hdr *h)
{
	__u64 epoch = elec_epoch_of(gate), commit = h->commit;
	bool counts = h->kind == ELEC_KIND_COMMIT;

	if (elec_raise(counts ? &c->heard_count : &c->heard_op, epoch, counts ? h->round_tag : h->last) == 1)
		c->last_leader_ns = elec_now(c);
	/* An opening of another epoch meanwhile must not see this one's commit come back. */
	if (elec_epoch_of(elec_load(&c->gate)) != epoch)
		return;
	if (elec_raise(&c->commit, epoch, commit) == 1 && elec_take_bell(&c->ring_at_commit, commit))
		elec_ring(commit);
}

static __always_inline int elec_repeat(void *ctx, bool xdp, struct elec_frame *f, struct elec_control *c,
				       __u64 gate)
{
	if (elec_params.log_only) {
		__u64 durable = c->durable;

		if (elec_epoch_of(durable) != elec_epoch_of(gate) || f->l4.hdr.last > elec_op_of(durable)) {
			/* F8: the leader is waiting for user space's ack, wherever the doorbell stands. */
			if (elec_take_bell(&c->ring_at_op, ~0ull))
				elec_ring(f->l4.hdr.last);
			return ELEC_DROP_NOT_DURABLE;
		}
	}
	/* F0: a compare-and-swap is no critical section; the gate may have closed since. */
	gate ^= elec_load(&c->gate);
	if (elec_state_of(gate) || elec_epoch_of(gate))
		return ELEC_PASS_RACED;
	return elec_reply(ctx, xdp, f) ? ELEC_DROP_ACK_FAILED : ELEC_TX_ACK_REPEATED;
}

/* Lets go of the log without publishing; the state may have changed under us, so only the bit goes. */
static __always_inline void elec_clear_busy(struct elec_control *c)
{
	__u64 was = __sync_fetch_and_and(&c->gate, ~ELEC_BUSY);

	/* With the result unused the compiler would take the form without a barrier. */
	asm volatile("" : : "r"(was));
}

/* The payload into its slot; with keys, the very bytes that the tag was made of (F4). */
static __always_inline long elec_fill(void *ctx, bool xdp, struct elec_slot *slot, __u32 index, __u32 n)
{
	__u64 bytes = n, most = elec_params.slot_payload_bytes;

	if (elec_params.authenticated)
		return elec_fill_from_scratch(index, n);
	/* The caller has seen that it fits. 6.1 has forgotten by now, and a slot may be shorter than the longest. */
	asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(bytes) : "r"(most));
	return elec_read(ctx, xdp, elec_l4_off() + ELEC_L4_BYTES, slot->payload,
			 elec_between(1, bytes, ELEC_PAYLOAD_BYTES_MAX));
}

static __always_inline int elec_prepare(void *ctx, bool xdp, struct elec_frame *f, struct elec_control *c,
					__u64 gate)
{
	struct elec_hdr *h = &f->l4.hdr;
	__u64 epoch = elec_epoch_of(gate), tail, was;
	__u32 index, n = h->payload_bytes;
	struct elec_slot *slot;

	/* F7: the log belongs to another CPU for the time of one copy. */
	for (int i = 0; i < ELEC_BUSY_TRIES && gate & ELEC_BUSY; i++) {
		__u64 now = elec_load(&c->gate);

		if (elec_state_of(now) != ELEC_STATE_FOLLOW || elec_epoch_of(now) != epoch)
			return ELEC_PASS_RACED;
		gate = now;
	}
	tail = elec_op_of(gate);
	if (h->last <= tail)
		return elec_repeat(ctx, xdp, f, c, gate);
	if (h->first > tail + 1)
		return ELEC_PASS_GAP;
	if (h->first <= tail)
		return ELEC_PASS_OVERLAP;
	if (n > elec_params.slot_payload_bytes || n > ELEC_PAYLOAD_BYTES_MAX)
		return ELEC_PASS_TOO_LARGE;
	index = h->first & (elec_params.slots - 1);
	slot = bpf_map_lookup_elem(&elec_slots, &index);
	if (!slot)
		return ELEC_PASS_LOG_FULL;
	/* F6: slots of older epochs have been drained; in this one user space says what it has. */
	if (slot->epoch == epoch && slot->last > elec_load(&c->released))
		return ELEC_PASS_LOG_FULL;
	if (gate & ELEC_BUSY || elec_swap(&c->gate, gate, gate | ELEC_BUSY) != gate)
		return ELEC_PASS_BUSY;

	/* F7: body and header first, the tail last; nothing is acked that is not there (A1). */
	if (n && elec_fill(ctx, xdp, slot, index, n)) {
		elec_clear_busy(c);
		return ELEC_PASS_MALFORMED;
	}
	slot->view = h->view;
	slot->first = h->first;
	slot->last = h->last;
	slot->round_tag = h->round_tag;
	slot->payload_bytes = n;
	slot->leader_epoch = h->leader_epoch;
	slot->epoch = epoch;

	was = gate | ELEC_BUSY;
	gate = (gate & ~ELEC_OP_MASK) | h->last;
	if (elec_swap(&c->gate, was, gate) != was) {
		elec_clear_busy(c);
		return ELEC_PASS_RACED;
	}
	if (elec_take_bell(&c->ring_at_op, h->last))
		elec_ring(h->last);
	if (elec_params.log_only || h->flags & ELEC_FLAG_ACK_LATER)
		return ELEC_DROP_LOGGED;
	return elec_reply(ctx, xdp, f) ? ELEC_DROP_ACK_FAILED : ELEC_TX_ACK;
}

#endif
