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

/*
 * Every packet that leaves meets this, each copy and each ack too, so it looks at the packet in place. What
 * our socket sends has its headers in the linear part.
 */
static __always_inline bool elec_is_carrier(struct __sk_buff *skb)
{
	const volatile __u32 *to = (const volatile __u32 *)elec_params.carrier_addr;
	__u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;

	if (elec_params.ipv6) {
		struct ipv6hdr *ip = (struct ipv6hdr *)(data + ETH_HLEN);
		const __u32 *dst = (const __u32 *)&ip->daddr;

		if (data + ELEC_V6_L4 > end || ((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IPV6) ||
		    dst[0] != to[0] || dst[1] != to[1] || dst[2] != to[2] || dst[3] != to[3] ||
		    ip->nexthdr != IPPROTO_UDP)
			return false;
	} else {
		struct iphdr *ip = (struct iphdr *)(data + ETH_HLEN);

		if (data + ELEC_V4_L4 > end || ((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IP) ||
		    ip->daddr != to[3] || ip->protocol != IPPROTO_UDP || ip->ihl != 5)
			return false;
	}
	return bpf_get_socket_cookie(skb) == elec_params.socket_cookie;
}

/* A carrier on its way to its peers. */
struct elec_carrier {
	struct elec_member at; /* whom it is addressed to now */
	__u64 view;
	__u64 last;
	__u32 targets; /* who waits for a copy */
	__u8 kind;
	__u8 broken; /* it cannot be addressed any more */
	__u16 pad;
};

/* A member that the carrier does not reach is remembered in the round: user space sends again (L6, L7). */
static __always_inline void elec_missed(const struct elec_carrier *carrier, __u32 peer, enum elec_verdict why)
{
	__u32 index = carrier->last & (elec_params.window - 1);
	struct elec_round *round = bpf_map_lookup_elem(&elec_rounds, &index);

	elec_count(why);
	if (carrier->kind == ELEC_KIND_PREPARE && round && round->op == carrier->last &&
	    round->view == carrier->view)
		__sync_fetch_and_or(&round->missed, 1u << (peer & 31));
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

/*
 * A copy for one member, if it is a target. Returns 1 if the packet itself is now that copy, which is how the
 * last one leaves, else 0.
 *
 * A function of its own, which the verifier checks once for any carrier and any member. Inlined in the loop
 * its ways multiply with every member: 9 took 670,000 instructions and 12 were refused.
 */
__noinline int elec_copy(struct __sk_buff *skb, struct elec_carrier *carrier, __u32 peer)
{
	struct elec_control *c = elec_control_get();
	const struct elec_config *cfg = elec_config_get();
	__u32 bit;
	__u64 hop;

	if (!carrier || !c || !cfg || peer >= ELEC_MEMBERS_MAX)
		return 0;
	bit = 1u << peer;
	if (!(carrier->targets & bit))
		return 0;
	carrier->targets &= ~bit;
	hop = *(volatile __u64 *)&c->next_hop[peer];
	if (!(hop & ELEC_MAC_VALID)) {
		elec_missed(carrier, peer, ELEC_CLONE_UNRESOLVED);
		return 0;
	}
	/* Without private headers this copy and all after it are missed. */
	if (carrier->broken || elec_readdress(skb, &carrier->at, &cfg->members[peer], hop)) {
		carrier->broken = 1;
		elec_missed(carrier, peer, ELEC_CLONE_FAILED);
		return 0;
	}
	carrier->at = cfg->members[peer];
	if (!carrier->targets) {
		elec_count(ELEC_CLONE_SENT);
		return 1;
	}
	if (bpf_clone_redirect(skb, skb->ifindex, 0))
		elec_missed(carrier, peer, ELEC_CLONE_FAILED);
	else
		elec_count(ELEC_CLONE_SENT);
	return 0;
}

static __always_inline int elec_broadcast(struct __sk_buff *skb)
{
	struct elec_carrier carrier = {};
	struct elec_l4 l4;
	struct elec_control *control = elec_control_get();
	__u32 n = elec_params.members;

	if (!elec_is_carrier(skb))
		return TC_ACT_UNSPEC;
	elec_count(ELEC_CARRIER);
	/* One thread sends carriers, and waits for this: nobody else adds. */
	if (control)
		control->carriers++;
	if (bpf_skb_load_bytes(skb, elec_l4_off(), &l4, sizeof(l4)) || l4.hdr.magic != ELEC_MAGIC) {
		elec_count(ELEC_CARRIER_MALFORMED);
		return TC_ACT_SHOT;
	}
	carrier.targets = l4.hdr.targets & ~(1u << (elec_params.self & 31));
	if (n < 32)
		carrier.targets &= (1u << n) - 1;
	carrier.kind = l4.hdr.kind;
	carrier.view = l4.hdr.view;
	carrier.last = l4.hdr.last;
	carrier.at.port_be = l4.udp.dest;
	/* Word by word: without `volatile` the compiler would take the constants for zero. */
	for (int i = 0; i < 4; i++)
		((__u32 *)carrier.at.addr)[i] = ((const volatile __u32 *)elec_params.carrier_addr)[i];

	for (__u32 peer = 0; peer < ELEC_MEMBERS_MAX && peer < n; peer++)
		if (elec_copy(skb, &carrier, peer))
			return TC_ACT_UNSPEC;
	/* Nobody is left, and the last copy was not this packet: nothing of ours leaves as multicast (L7). */
	return TC_ACT_SHOT;
}

#endif
