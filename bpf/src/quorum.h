/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Leader: an ack becomes a vote (rules L1 to L3). The gate is open in state Lead, view and source have
 * been checked, `gate` is the word that was loaded first.
 */
#ifndef ELEC_QUORUM_H
#define ELEC_QUORUM_H

#include "words.h"
#include "frame.h"

#define ELEC_VOTERS 0xffffffffull

static __always_inline __u32 elec_popcount(__u32 v)
{
	v = v - ((v >> 1) & 0x55555555);
	v = (v & 0x33333333) + ((v >> 2) & 0x33333333);
	v = (v + (v >> 4)) & 0x0f0f0f0f;
	return (v * 0x01010101) >> 24;
}

static __always_inline int elec_vote(struct elec_frame *f, struct elec_control *c, __u64 gate)
{
	struct elec_hdr *h = &f->l4.hdr;
	__u64 epoch = elec_epoch_of(gate), tag, vote;
	__u32 peer = h->sender, bit = 1u << (peer & 31), index, voters, threshold;
	struct elec_round *round;

	if (h->leader_epoch != epoch)
		return ELEC_DROP_VOTE_STALE;
	index = h->last & (elec_params.window - 1);
	round = bpf_map_lookup_elem(&elec_rounds, &index);
	if (!round)
		return ELEC_DROP_VOTE_STALE;
	/* L2: only what was sent can be held. The slot has carried this op or, since, a later one. */
	vote = elec_load(&round->vote);
	if (vote >> ELEC_VOTE_EPOCH_SHIFT != epoch || round->op < h->last)
		return ELEC_DROP_VOTE_STALE;
	/* Cumulative: holds even where the round is over, and heals an ack that was lost. */
	if (elec_raise(&c->acked[elec_between(0, peer, ELEC_MEMBERS_MAX - 1)], epoch, h->last) < 0)
		return ELEC_PASS_CONTENDED;

	tag = epoch << ELEC_VOTE_EPOCH_SHIFT |
	      (h->last & ((1ull << ELEC_VOTE_OP_BITS) - 1)) << ELEC_VOTE_OP_SHIFT;
	if ((vote & ~ELEC_VOTERS) != tag || round->op != h->last || round->round_tag != h->round_tag ||
	    round->view != h->view)
		return ELEC_DROP_VOTE_STALE;
	voters = round->voters;
	threshold = round->threshold;
	if (!(voters & bit))
		return ELEC_DROP_VOTE_REPEATED;

	/* L2: the tag is in the word, so a swap cannot vote in a round that reused the slot (A8). */
	for (int i = 0; i < ELEC_SWAP_TRIES; i++) {
		__u64 was;
		__u32 votes;

		if (vote & bit)
			return ELEC_DROP_VOTE_REPEATED;
		was = elec_swap(&round->vote, vote, vote | bit);
		if (was == vote) {
			/* L3: exactly one packet crosses the threshold. */
			votes = elec_popcount((vote | bit) & voters);
			if (votes < threshold)
				return ELEC_DROP_VOTE;
			if (votes > threshold)
				return ELEC_DROP_VOTE_REPEATED;
			return elec_take_bell(&c->ring_on_quorum, ~0ull) ? ELEC_PASS_QUORUM :
									   ELEC_DROP_QUORUM_QUIET;
		}
		if ((was & ~ELEC_VOTERS) != tag)
			return ELEC_DROP_VOTE_STALE;
		vote = was;
	}
	return ELEC_PASS_CONTENDED;
}

#endif
