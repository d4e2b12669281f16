/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Turning an accepted Prepare round as its PrepareOk (F9), with checksums right on every kind of device. */
#ifndef ELEC_REPLY_H
#define ELEC_REPLY_H

#include "auth.h"

#define ELEC_ACK_TTL 64

/* The ack's headers, made in place of the Prepare's. An ack is a function of this packet and log (A2). */
static __always_inline void elec_ack_headers(struct elec_frame *f)
{
	struct elec_hdr *h = &f->l4.hdr;
	__u8 mac[ETH_ALEN];
	__be16 port = f->l4.udp.source;

	__builtin_memcpy(mac, f->l3.eth.h_dest, ETH_ALEN);
	__builtin_memcpy(f->l3.eth.h_dest, f->l3.eth.h_source, ETH_ALEN);
	__builtin_memcpy(f->l3.eth.h_source, mac, ETH_ALEN);

	if (elec_params.ipv6) {
		struct in6_addr addr = f->l3.v6.saddr;

		f->l3.v6.saddr = f->l3.v6.daddr;
		f->l3.v6.daddr = addr;
		f->l3.v6.hop_limit = ELEC_ACK_TTL;
		f->l3.v6.payload_len = bpf_htons(ELEC_L4_BYTES);
	} else {
		__be32 addr = f->l3.v4.saddr;

		f->l3.v4.saddr = f->l3.v4.daddr;
		f->l3.v4.daddr = addr;
		f->l3.v4.ttl = ELEC_ACK_TTL;
		f->l3.v4.tot_len = bpf_htons(sizeof(struct iphdr) + ELEC_L4_BYTES);
		f->l3.v4.check = 0;
		f->l3.v4.check = ~elec_fold(elec_sum(&f->l3.v4, sizeof(struct iphdr)));
	}

	f->l4.udp.source = f->l4.udp.dest;
	f->l4.udp.dest = port;
	f->l4.udp.len = bpf_htons(ELEC_L4_BYTES);

	/* view, first, last, round_tag, leader_epoch, group, config_hash and the key echo the Prepare. */
	h->kind = ELEC_KIND_PREPARE_OK;
	h->flags &= ELEC_FLAG_KEY_1;
	h->targets = 1u << (h->sender & 31);
	h->sender = elec_params.self;
	h->commit = 0;
	h->incarnation = elec_params.incarnation;
	h->payload_bytes = 0;
	h->auth_tag = elec_ack_tag(f);
}

/* Sum of the ack's UDP datagram and pseudo-header, with the checksum field counted as zero. */
static __always_inline __u32 elec_ack_sum(struct elec_frame *f)
{
	f->l4.udp.check = 0;
	return elec_fold(elec_sum_pseudo(f) + f->l4.udp.len + elec_sum(&f->l4, sizeof(f->l4)));
}

static __always_inline long elec_reply_xdp(struct xdp_md *xdp, struct elec_frame *f)
{
	__u32 l4 = elec_l4_off(), bytes = l4 + ELEC_L4_BYTES, sum;

	elec_ack_headers(f);
	/*
	 * From scratch: the Prepare's own may have been a pseudo-header's alone. In generic mode the packet then
	 * stays CHECKSUM_PARTIAL, and whoever finishes it adds the rest to a sum of the pseudo-header.
	 */
	if (elec_params.xdp_generic && f->partial)
		sum = elec_fold(elec_sum_pseudo(f) + f->l4.udp.len);
	else
		sum = ~elec_ack_sum(f) & 0xffff;
	f->l4.udp.check = sum ? sum : 0xffff;
	if (f->bytes != bytes && bpf_xdp_adjust_tail(xdp, (int)bytes - (int)f->bytes))
		return -1;
	if (bpf_xdp_store_bytes(xdp, 0, &f->l3.eth, l4))
		return -1;
	return bpf_xdp_store_bytes(xdp, l4, &f->l4, sizeof(f->l4));
}

/*
 * At TC the packet may be CHECKSUM_PARTIAL, where the field must hold the pseudo-header's sum, or not,
 * where it must hold the datagram's. Only bpf_l4_csum_replace knows which; it is fed differences so that
 * either comes out: the pseudo-header's (only the length changes), then, ignored by PARTIAL, all the rest.
 */
static __always_inline long elec_reply_tc(struct __sk_buff *skb, struct elec_frame *f)
{
	__u32 l4 = elec_l4_off(), bytes = l4 + ELEC_L4_BYTES;
	__u32 check = f->l4.udp.check, old_len = f->l4.udp.len, pseudo, rest;
	const __u32 at = l4 + offsetof(struct udphdr, check);

	elec_ack_headers(f);
	pseudo = elec_fold((__u64)f->l4.udp.len + (~old_len & 0xffff));
	rest = elec_fold((__u64)elec_ack_sum(f) + (~pseudo & 0xffff) + check);
	f->l4.udp.check = check;

	if (f->bytes != bytes && bpf_skb_change_tail(skb, bytes, 0))
		return -1;
	if (bpf_skb_store_bytes(skb, 0, &f->l3.eth, l4, 0) ||
	    bpf_skb_store_bytes(skb, l4, &f->l4, sizeof(f->l4), 0))
		return -1;
	if (bpf_l4_csum_replace(skb, at, 0, pseudo, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0))
		return -1;
	return bpf_l4_csum_replace(skb, at, 0, rest, BPF_F_MARK_MANGLED_0);
}

static __always_inline long elec_reply(void *ctx, bool xdp, struct elec_frame *f)
{
	return xdp ? elec_reply_xdp(ctx, f) : elec_reply_tc(ctx, f);
}

#endif
