/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What an arriving frame is worth: framing, gate, view, source, checksum, tag, then log or vote (F0 to F4). */
#ifndef ELEC_INGRESS_H
#define ELEC_INGRESS_H

#include "fast_ack.h"
#include "quorum.h"

enum elec_go { ELEC_GO_PASS, ELEC_GO_DROP, ELEC_GO_REPLY };

static __always_inline bool elec_from_member(struct elec_frame *f, const struct elec_member *m)
{
	const __u32 *addr = (const __u32 *)m->addr, *src;

	if (f->l4.udp.source != m->port_be)
		return false;
	if (!elec_params.ipv6)
		return f->l3.v4.saddr == addr[3];
	src = (const __u32 *)&f->l3.v6.saddr;
	return src[0] == addr[0] && src[1] == addr[1] && src[2] == addr[2] && src[3] == addr[3];
}

/*
 * The application's; with keys a member's name must be its own. What cannot be looked at here is judged by user
 * space, as everything is that passes.
 */
static __always_inline int elec_judge_message(void *ctx, bool xdp, struct elec_frame *f)
{
	struct elec_hdr *h = &f->l4.hdr;
	int refused;

	if (!elec_params.authenticated || h->sender >= elec_params.members ||
	    h->payload_bytes > ELEC_PAYLOAD_BYTES_MAX)
		return ELEC_PASS_MESSAGE;
	if (h->sender == elec_params.self)
		return ELEC_DROP_SOURCE;
	refused = elec_admit_tag(ctx, xdp, f);
	return refused >= 0 ? refused : ELEC_PASS_MESSAGE;
}

static __always_inline int elec_judge(void *ctx, bool xdp, struct elec_frame *f)
{
	struct elec_hdr *h = &f->l4.hdr;
	struct elec_control *c = elec_control_get();
	const struct elec_config *cfg = elec_config_get();
	bool vote = h->kind == ELEC_KIND_PREPARE_OK;
	__u32 from = h->sender;
	__u64 gate;
	int refused;

	if (!c || !elec_is_own_mac(f, c))
		return ELEC_PASS_HARDWARE_ADDRESS;
	if (h->kind == ELEC_KIND_MESSAGE)
		return elec_judge_message(ctx, xdp, f);
	if (vote ? !elec_params.offload_quorum : !elec_params.offload_fast_ack)
		return ELEC_PASS_OFFLOAD_OFF;
	if (!cfg)
		return ELEC_PASS_FROZEN;

	/* F0: the gate first; what follows is changed only while it is frozen. */
	gate = elec_load(&c->gate);
	if (elec_state_of(gate) != (vote ? ELEC_STATE_LEAD : ELEC_STATE_FOLLOW))
		return ELEC_PASS_FROZEN;
	if (elec_params.lease_required && elec_now(c) > c->lease_ns)
		return ELEC_PASS_LEASE;
	if (h->view < cfg->view)
		return ELEC_DROP_VIEW_OLD;
	if (h->view > cfg->view)
		return ELEC_PASS_VIEW_NEW;
	if (from >= elec_params.members || from >= ELEC_MEMBERS_MAX || (!vote && from != cfg->leader) ||
	    !elec_from_member(f, &cfg->members[elec_between(0, from, ELEC_MEMBERS_MAX - 1)]))
		return ELEC_DROP_SOURCE;
	/* Only the life that we know of: a leader that came back without its state would count old acks. */
	if (!h->incarnation || h->incarnation != c->incarnation[elec_between(0, from, ELEC_MEMBERS_MAX - 1)])
		return vote ? ELEC_DROP_VOTE_STRANGER : ELEC_DROP_SOURCE;
	if (vote && from == elec_params.self)
		return ELEC_DROP_VOTE_STRANGER;
	/* More than any slot holds, and than can be summed here: the stack's to verify, user space's to log. */
	if (h->payload_bytes > ELEC_PAYLOAD_BYTES_MAX)
		return ELEC_PASS_TOO_LARGE;
	if (!elec_checksum_ok(ctx, xdp, f))
		return ELEC_DROP_CHECKSUM;
	/* Nothing above has changed anything or answered anybody. */
	refused = elec_admit_tag(ctx, xdp, f);
	if (refused >= 0)
		return refused;

	if (vote)
		return elec_vote(f, c, gate);
	elec_note_leader(c, gate, h);
	if (h->kind == ELEC_KIND_COMMIT)
		return ELEC_DROP_COMMIT;
	return elec_prepare(ctx, xdp, f, c, gate);
}

static __always_inline enum elec_go elec_ingress(void *ctx, bool xdp)
{
	struct elec_frame f;
	__u32 bytes;
	int verdict;

	if (!xdp && ((struct __sk_buff *)ctx)->vlan_present) {
		elec_count(ELEC_PASS_FOREIGN);
		return ELEC_GO_PASS;
	}
	bytes = xdp ? bpf_xdp_get_buff_len(ctx) : ((struct __sk_buff *)ctx)->len;
	verdict = elec_parse(ctx, xdp, bytes, &f);
	if (verdict < 0)
		verdict = elec_judge(ctx, xdp, &f);
	elec_count(verdict);

	switch (verdict) {
	case ELEC_TX_ACK:
	case ELEC_TX_ACK_REPEATED:
		return ELEC_GO_REPLY;
	case ELEC_DROP_CHECKSUM:
	case ELEC_DROP_VIEW_OLD:
	case ELEC_DROP_SOURCE:
	case ELEC_DROP_TARGET:
	case ELEC_DROP_KEY:
	case ELEC_DROP_TAG:
	case ELEC_DROP_NOT_DURABLE:
	case ELEC_DROP_LOGGED:
	case ELEC_DROP_ACK_FAILED:
	case ELEC_DROP_COMMIT:
	case ELEC_DROP_VOTE:
	case ELEC_DROP_VOTE_REPEATED:
	case ELEC_DROP_VOTE_STALE:
	case ELEC_DROP_VOTE_STRANGER:
	case ELEC_DROP_QUORUM_QUIET:
		return ELEC_GO_DROP;
	default:
		return ELEC_GO_PASS;
	}
}

#endif
