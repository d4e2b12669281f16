// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Electrode's kernel programs, in the order in which a packet meets them:
 *
 *   elec_tx       TC egress, leader: a carrier becomes one copy a peer        broadcast.h
 *   elec_rx_tc    TC ingress  } the same logic at two hooks: a follower's     ingress.h
 *   elec_rx_xdp   XDP         } log and ack, a leader's votes
 *
 * Only entry points live here. What the kernel may do, and when, is ruled by F1-F11 and L1-L7; the rule
 * stands beside the line that keeps it. One object serves one endpoint; several may share an interface.
 */
#include "maps.h"
#include "broadcast.h"
#include "ingress.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tcx/egress")
int elec_tx(struct __sk_buff *skb)
{
	return elec_broadcast(skb);
}

SEC("tcx/ingress")
int elec_rx_tc(struct __sk_buff *skb)
{
	switch (elec_ingress(skb, false)) {
	case ELEC_GO_DROP:
		return TC_ACT_SHOT;
	case ELEC_GO_REPLY:
		return bpf_redirect(skb->ifindex, 0);
	default:
		/* TCX_NEXT: other people's programs still get their turn. */
		return TC_ACT_UNSPEC;
	}
}

SEC("xdp")
int elec_rx_xdp(struct xdp_md *xdp)
{
	switch (elec_ingress(xdp, true)) {
	case ELEC_GO_DROP:
		return XDP_DROP;
	case ELEC_GO_REPLY:
		return XDP_TX;
	default:
		return XDP_PASS;
	}
}

/* XDP_TX on veth reaches the peer only if the peer end runs an XDP program too. */
SEC("xdp")
int elec_xdp_pass(struct xdp_md *xdp)
{
	return XDP_PASS;
}
