/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Leader, TC egress: one carrier in, one copy a peer out (paper section 4.1; rule L7).
 *
 * The carrier is a datagram of the endpoint's own socket to a multicast address, which needs no neighbour
 * resolution and so depends on no peer. Each copy gets its peer's addresses and goes out as a clone; the
 * carrier itself becomes the last copy. Copies pass this hook again: they are unicast, so no carriers.
 * Nothing that other software sends is one, for only our socket has the cookie.
 */
#ifndef ELEC_BROADCAST_H
#define ELEC_BROADCAST_H

#include "frame.h"
#include "words.h"

#define ELEC_HOP_VALID (1ull << 48)

static __always_inline bool elec_is_carrier(struct __sk_buff *skb, struct elec_l3 *l3)
{
	const volatile __u32 *to = (const volatile __u32 *)elec_params.carrier_addr;
	const __u32 *dst;

	if (bpf_skb_load_bytes(skb, 0, &l3->eth, elec_l4_off()))
		return false;
	if (elec_params.ipv6) {
		dst = (const __u32 *)&l3->v6.daddr;
		if (l3->eth.h_proto != bpf_htons(ETH_P_IPV6) || l3->v6.nexthdr != IPPROTO_UDP ||
		    dst[0] != to[0] || dst[1] != to[1] || dst[2] != to[2] || dst[3] != to[3])
			return false;
	} else if (l3->eth.h_proto != bpf_htons(ETH_P_IP) || l3->v4.daddr != to[3] ||
		   l3->v4.protocol != IPPROTO_UDP || l3->v4.ihl != 5) {
		return false;
	}
	return bpf_get_socket_cookie(skb) == elec_params.socket_cookie;
}

/* A member that the carrier does not reach is remembered in the round: user space sends again (L6, L7). */
static __always_inline void elec_missed(struct elec_hdr *h, __u32 peer, enum elec_verdict why)
{
	__u32 index = h->last & (elec_params.window - 1);
	struct elec_round *round = bpf_map_lookup_elem(&elec_rounds, &index);

	elec_count(why);
	if (h->kind == ELEC_KIND_PREPARE && round && round->op == h->last && round->view == h->view)
		__sync_fetch_and_or(&round->missed, 1u << peer);
}

/* Addresses, port, MAC and both checksums for one peer. */
static __always_inline long elec_readdress(struct __sk_buff *skb, const struct elec_member *from,
					   const struct elec_member *to, __u64 hop)
{
	const __u32 l4 = elec_l4_off(), check = l4 + offsetof(struct udphdr, check);
	__u32 *was = (__u32 *)from->addr, *now = (__u32 *)to->addr;
	__u8 *data, *end;

	/* Also makes the headers private to this copy: a clone still shares them. */
	if (elec_params.ipv6) {
		__u32 diff = bpf_csum_diff((__be32 *)was, 16, (__be32 *)now, 16, 0);

		if (bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0))
			return -1;
	} else if (bpf_l4_csum_replace(skb, check, was[3], now[3],
				       BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | 4)) {
		return -1;
	}
	if (from->port_be != to->port_be &&
	    bpf_l4_csum_replace(skb, check, from->port_be, to->port_be, BPF_F_MARK_MANGLED_0 | 2))
		return -1;

	data = (__u8 *)(long)skb->data;
	end = (__u8 *)(long)skb->data_end;
	if (data + ELEC_V4_L4 + sizeof(struct udphdr) > end)
		return -1;
	struct ethhdr *eth = (struct ethhdr *)data;

	*(__u32 *)eth->h_dest = hop;
	*(__u16 *)(eth->h_dest + 4) = hop >> 32;
	if (elec_params.ipv6) {
		if (data + ELEC_V6_L4 + sizeof(struct udphdr) > end)
			return -1;
		__builtin_memcpy(&((struct ipv6hdr *)(data + ETH_HLEN))->daddr, to->addr, 16);
		((struct udphdr *)(data + ELEC_V6_L4))->dest = to->port_be;
	} else {
		struct iphdr *ip = (struct iphdr *)(data + ETH_HLEN);
		__u64 sum = (__u16)~ip->check + (__u64)(__u32)~was[3] + now[3];

		ip->check = ~elec_fold(sum);
		ip->daddr = now[3];
		((struct udphdr *)(data + ELEC_V4_L4))->dest = to->port_be;
	}
	return 0;
}

static __always_inline int elec_broadcast(struct __sk_buff *skb)
{
	struct elec_control *c = elec_control_get();
	const struct elec_config *cfg = elec_config_get();
	struct elec_member at = {};
	struct elec_l3 l3;
	struct elec_l4 l4;
	__u32 targets, n;

	if (!elec_is_carrier(skb, &l3))
		return TC_ACT_UNSPEC;
	elec_count(ELEC_CARRIER);
	if (!c || !cfg || bpf_skb_load_bytes(skb, elec_l4_off(), &l4, sizeof(l4)) ||
	    l4.hdr.magic != ELEC_MAGIC) {
		elec_count(ELEC_CARRIER_MALFORMED);
		return TC_ACT_SHOT;
	}
	n = elec_params.members;
	targets = l4.hdr.targets & ~(1u << (elec_params.self & 31));
	if (n < 32)
		targets &= (1u << n) - 1;

	/* Word by word: without `volatile` the compiler would take the constants for zero. */
	for (int i = 0; i < 4; i++)
		((__u32 *)at.addr)[i] = ((const volatile __u32 *)elec_params.carrier_addr)[i];
	at.port_be = l4.udp.dest;
	for (__u32 peer = 0; peer < ELEC_MEMBERS_MAX; peer++) {
		__u32 bit = 1u << peer;
		__u64 hop;

		if (!(targets & bit))
			continue;
		targets &= ~bit;
		hop = *(volatile __u64 *)&c->next_hop[peer];
		if (!(hop & ELEC_HOP_VALID)) {
			elec_missed(&l4.hdr, peer, ELEC_CLONE_UNRESOLVED);
			continue;
		}
		if (elec_readdress(skb, &at, &cfg->members[peer], hop)) {
			/* Without private headers nothing more can be addressed; the rest is missed. */
			targets |= bit;
			break;
		}
		at = cfg->members[peer];
		if (!targets) {
			elec_count(ELEC_CLONE_SENT);
			return TC_ACT_UNSPEC;
		}
		if (bpf_clone_redirect(skb, skb->ifindex, 0))
			elec_missed(&l4.hdr, peer, ELEC_CLONE_FAILED);
		else
			elec_count(ELEC_CLONE_SENT);
	}
	/* The last target had no next hop, or re-addressing failed: nothing of ours leaves as multicast. */
	for (__u32 peer = 0; peer < ELEC_MEMBERS_MAX; peer++)
		if (targets & 1u << peer)
			elec_missed(&l4.hdr, peer, ELEC_CLONE_FAILED);
	return TC_ACT_SHOT;
}

#endif
