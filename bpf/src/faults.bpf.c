// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Faults on the cables of a test fabric (electrode's feature `fabric`), for kernels without netem. Nothing of
 * an endpoint is in here, and no endpoint loads it.
 *
 *   host i --- port i [ingress] bridge [egress: elec_fault] port j --- host j
 *                                           |         ^
 *                              held back    v         |  let go
 *                                         hold0 [ingress: elec_fault_release]
 *                                           |         ^
 *                                         hold1: a thread of user space keeps frames for a while
 *
 * Hosts are known by their hardware addresses, which the fabric numbers.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#define FAULT_HOSTS 64

/* A frame that has been through this already; cables take marks off. */
#define FAULT_MARK 0x76f4a017

/* What happens from one host to another. Chances are of 2^32. */
struct fault_link {
	__u32 cut;
	__u32 loss;
	__u32 duplication;
	__u32 delay;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FAULT_HOSTS * FAULT_HOSTS);
	__type(key, __u32); /* from * FAULT_HOSTS + to */
	__type(value, struct fault_link);
} fault_links SEC(".maps");

/* Interface number of the port to each host, and the other way round. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FAULT_HOSTS);
	__type(key, __u32);
	__type(value, __u32);
} fault_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAULT_HOSTS);
	__type(key, __u32);
	__type(value, __u32);
} fault_hosts SEC(".maps");

enum fault_count {
	FAULT_PASSED,
	FAULT_CUT,
	FAULT_LOST,
	FAULT_DUPLICATED,
	FAULT_DELAYED,
	FAULT_RELEASED,
	FAULT_COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FAULT_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} fault_counts SEC(".maps");

/* Where frames are held back; zero: nowhere. */
const volatile __u32 fault_hold;

static __always_inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&fault_counts, &what);

	if (n)
		*n += 1;
}

static __always_inline bool chance(__u32 of)
{
	return of && (of == ~0U || bpf_get_prandom_u32() < of);
}

/* Number of the host with this hardware address, as the fabric gives them out (fabric/build.rs). */
static __always_inline __u32 host_of(const __u8 *mac)
{
	__u32 number = mac[4] << 8 | mac[5];

	if (mac[0] != 0x02 || mac[1] != 0x76 || mac[2] != 0 || mac[3] != 2)
		return FAULT_HOSTS;
	return number - 1 < FAULT_HOSTS ? number - 1 : FAULT_HOSTS;
}

SEC("tcx/egress")
int elec_fault(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 ifindex = skb->ifindex, from, key;
	struct ethhdr *eth = data;
	struct fault_link *link;
	__u32 *to;
	bool to_one, holdable;

	if (skb->mark == FAULT_MARK) {
		skb->mark = 0;
		return TC_ACT_UNSPEC;
	}
	to = bpf_map_lookup_elem(&fault_hosts, &ifindex);
	if (!to || (void *)(eth + 1) > end)
		return TC_ACT_UNSPEC;
	from = host_of(eth->h_source);
	if (from >= FAULT_HOSTS || *to >= FAULT_HOSTS)
		return TC_ACT_UNSPEC;
	to_one = !(eth->h_dest[0] & 1);
	/* The bridge sends what is for a host that it does not know yet to all. */
	if (to_one && host_of(eth->h_dest) != *to)
		return TC_ACT_UNSPEC;
	key = from * FAULT_HOSTS + *to;
	link = bpf_map_lookup_elem(&fault_links, &key);
	if (!link)
		return TC_ACT_UNSPEC;
	if (link->cut) {
		count(FAULT_CUT);
		return TC_ACT_SHOT;
	}
	if (chance(link->loss)) {
		count(FAULT_LOST);
		return TC_ACT_SHOT;
	}
	/* Whoever lets a frame go knows where to by its address: what goes to all is not held. */
	holdable = fault_hold && to_one;
	if (chance(link->duplication)) {
		bool late = holdable && chance(link->delay);

		skb->mark = FAULT_MARK;
		if (bpf_clone_redirect(skb, late ? fault_hold : ifindex, 0) == 0)
			count(FAULT_DUPLICATED);
		skb->mark = 0;
	}
	if (holdable && chance(link->delay)) {
		count(FAULT_DELAYED);
		return bpf_redirect(fault_hold, 0);
	}
	count(FAULT_PASSED);
	return TC_ACT_UNSPEC;
}

SEC("tcx/ingress")
int elec_fault_release(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u32 to, *port;

	if ((void *)(eth + 1) > end)
		return TC_ACT_SHOT;
	to = host_of(eth->h_dest);
	port = bpf_map_lookup_elem(&fault_ports, &to);
	if (!port || !*port)
		return TC_ACT_SHOT;
	count(FAULT_RELEASED);
	skb->mark = FAULT_MARK;
	return bpf_redirect(*port, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
