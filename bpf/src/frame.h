/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Taking a frame apart, for both hooks: headers are copied to the stack, the packet stays as it is (C7),
 * and a reply is built from the same copies (reply.h). Each byte of a header is read once: whoever sent a packet
 * from memory that it can still write could otherwise change what has been checked.
 */
#ifndef ELEC_FRAME_H
#define ELEC_FRAME_H

#include "maps.h"

#define ELEC_V4_L4 (ETH_HLEN + sizeof(struct iphdr))
#define ELEC_V6_L4 (ETH_HLEN + sizeof(struct ipv6hdr))
#define ELEC_L4_BYTES (sizeof(struct udphdr) + ELEC_HDR_BYTES)
#define ELEC_IP_FRAGMENT 0x3fff /* more-fragments bit and offset */

/* Ethernet and IP header; the two bytes in front align the addresses. */
struct elec_l3 {
	__u16 align;
	struct ethhdr eth;
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	};
} __attribute__((packed, aligned(8)));

struct elec_l4 {
	struct udphdr udp;
	struct elec_hdr hdr;
} __attribute__((packed, aligned(8)));

/* A key and the tag made with it (auth.h). */
struct elec_seal {
	__u64 k0, k1, tag;
};

struct elec_frame {
	__u32 bytes; /* of the whole frame */
	__u32 pseudo; /* folded sum of the UDP pseudo-header */
	bool partial; /* UDP checksum is the pseudo-header's alone: a virtual peer left it to the device */
	struct elec_l3 l3;
	struct elec_l4 l4;
	struct elec_seal seal; /* of what came; then of the ack */
};

static __always_inline long elec_read(void *ctx, bool xdp, __u32 off, void *to, __u32 bytes)
{
	return xdp ? bpf_xdp_load_bytes(ctx, off, to, bytes) : bpf_skb_load_bytes(ctx, off, to, bytes);
}

static __always_inline __u32 elec_l4_off(void)
{
	return elec_params.ipv6 ? ELEC_V6_L4 : ELEC_V4_L4;
}

static __always_inline __u32 elec_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Sum of a memory area whose size is a multiple of 4. Helpers of 6.1 take at most 512 bytes. */
static __always_inline __u64 elec_sum(void *from, __u32 bytes)
{
	return (__u32)bpf_csum_diff(0, 0, from, bytes, 0);
}

static __always_inline __u64 elec_sum_address(const __u8 *addr)
{
	const __u32 *w = (const __u32 *)addr;

	return (__u64)w[0] + w[1] + w[2] + w[3];
}

/* Pseudo-header without the length, which may change: it is a field of its own in the sum. */
static __always_inline __u64 elec_sum_pseudo(struct elec_frame *f)
{
	__u64 sum = bpf_htons(IPPROTO_UDP);

	if (elec_params.ipv6)
		return sum + elec_sum_address((__u8 *)&f->l3.v6.saddr) +
		       elec_sum_address((__u8 *)&f->l3.v6.daddr);
	return sum + f->l3.v4.saddr + f->l3.v4.daddr;
}

/* Own address? IPv4 is the mapped address's last word. */
static __always_inline bool elec_is_own_address(struct elec_frame *f)
{
	const volatile __u32 *own = (const volatile __u32 *)elec_params.addr;
	const __u32 *dst;

	if (!elec_params.ipv6)
		return f->l3.v4.daddr == own[3];
	dst = (const __u32 *)&f->l3.v6.daddr;
	return dst[0] == own[0] && dst[1] == own[1] && dst[2] == own[2] && dst[3] == own[3];
}

/*
 * Was the frame sent to this interface? The stack asks it of what it takes (PACKET_HOST); XDP runs before. What was
 * sent to all or, on a device that listens to everything, to another host is none of an ack's business.
 */
static __always_inline bool elec_is_own_mac(struct elec_frame *f, struct elec_control *c)
{
	const __u8 *to = f->l3.eth.h_dest;
	__u64 mac = *(const __u16 *)to | (__u64)*(const __u32 *)(to + 2) << 16;

	return *(volatile __u64 *)&c->own_mac == (mac | ELEC_MAC_VALID);
}

/*
 * Reads the headers and decides whether the frame is a whole datagram for this endpoint with a header of
 * ours (F1). Returns -1 if it is, else the verdict.
 */
static __always_inline int elec_parse(void *ctx, bool xdp, __u32 bytes, struct elec_frame *f)
{
	__u32 l4 = elec_l4_off(), ip_bytes, udp_bytes;

	f->bytes = bytes;
	if (elec_read(ctx, xdp, 0, &f->l3.eth, l4))
		return ELEC_PASS_FOREIGN;

	if (elec_params.ipv6) {
		if (f->l3.eth.h_proto != bpf_htons(ETH_P_IPV6) || f->l3.v6.version != 6 ||
		    f->l3.v6.nexthdr != IPPROTO_UDP || !elec_is_own_address(f))
			return ELEC_PASS_FOREIGN;
		ip_bytes = sizeof(struct ipv6hdr) + bpf_ntohs(f->l3.v6.payload_len);
	} else {
		if (f->l3.eth.h_proto != bpf_htons(ETH_P_IP) || f->l3.v4.version != 4 ||
		    f->l3.v4.protocol != IPPROTO_UDP || !elec_is_own_address(f))
			return ELEC_PASS_FOREIGN;
		if (f->l3.v4.ihl != 5 || f->l3.v4.frag_off & bpf_htons(ELEC_IP_FRAGMENT))
			return ELEC_PASS_FRAMING;
		ip_bytes = bpf_ntohs(f->l3.v4.tot_len);
	}

	if (elec_read(ctx, xdp, l4, &f->l4.udp, sizeof(struct udphdr)))
		return ELEC_PASS_FRAMING;
	if (f->l4.udp.dest != elec_params.port_be)
		return ELEC_PASS_FOREIGN;
	/* Several datagrams merged by the receive path look like one with a length of its own. */
	if (!xdp && ((struct __sk_buff *)ctx)->gso_segs > 1)
		return ELEC_PASS_FRAMING;

	udp_bytes = bpf_ntohs(f->l4.udp.len);
	if (f->l4.udp.check == 0 || ETH_HLEN + ip_bytes > bytes || ETH_HLEN + ip_bytes != l4 + udp_bytes)
		return ELEC_PASS_FRAMING;
	if (udp_bytes < ELEC_L4_BYTES ||
	    elec_read(ctx, xdp, l4 + sizeof(struct udphdr), &f->l4.hdr, ELEC_HDR_BYTES))
		return ELEC_PASS_MALFORMED;

	struct elec_hdr *h = &f->l4.hdr;

	if (h->magic != ELEC_MAGIC || h->version != ELEC_VERSION ||
	    h->flags & ~(ELEC_FLAG_KEY_1 | (h->kind == ELEC_KIND_PREPARE ? ELEC_FLAG_ACK_LATER : 0)) ||
	    h->payload_bytes != udp_bytes - ELEC_L4_BYTES || h->kind < ELEC_KIND_PREPARE ||
	    h->kind > ELEC_KIND_MESSAGE)
		return ELEC_PASS_MALFORMED;
	if (h->kind == ELEC_KIND_PREPARE &&
	    (h->first == 0 || h->last < h->first || h->last >> ELEC_OP_BITS || h->commit >> ELEC_OP_BITS))
		return ELEC_PASS_MALFORMED;
	if (h->kind != ELEC_KIND_PREPARE && h->kind != ELEC_KIND_MESSAGE &&
	    (h->payload_bytes || h->last >> ELEC_OP_BITS || h->commit >> ELEC_OP_BITS))
		return ELEC_PASS_MALFORMED;
	if (h->kind == ELEC_KIND_COMMIT && h->round_tag >> ELEC_OP_BITS)
		return ELEC_PASS_MALFORMED;
	if (h->group != elec_params.group || h->config_hash != elec_params.config_hash)
		return ELEC_PASS_CONFIG;
	return -1;
}

/*
 * The UDP checksum, as the stack would check it: nothing is believed before. A sum of the pseudo-header
 * alone means that a virtual device on this machine left the rest to hardware that never came.
 */
static __always_inline bool elec_checksum_ok(void *ctx, bool xdp, struct elec_frame *f)
{
	__u64 pseudo = elec_sum_pseudo(f) + f->l4.udp.len, sum;
	__u32 n = f->l4.hdr.payload_bytes, padded, zero = 0;
	struct elec_scratch *s;

	f->pseudo = elec_fold(pseudo);
	f->partial = f->l4.udp.check == f->pseudo;
	if (f->partial)
		return true;
	/* The device has verified it. */
	if (!xdp && bpf_csum_level(ctx, BPF_CSUM_LEVEL_QUERY) >= 0)
		return true;

	sum = pseudo + elec_sum(&f->l4, sizeof(f->l4));
	if (n) {
		s = bpf_map_lookup_elem(&elec_scratch, &zero);
		if (!s || n > ELEC_PAYLOAD_BYTES_MAX)
			return false;
		n = elec_between(1, n, ELEC_PAYLOAD_BYTES_MAX);
		padded = (n + 3) & ~3u;
		*(__u32 *)(s->payload + (n & ~3u)) = 0;
		if (elec_read(ctx, xdp, elec_l4_off() + ELEC_L4_BYTES, s->payload, n))
			return false;
		for (int i = 0; i < ELEC_SUM_PARTS; i++) {
			__u32 off = i * ELEC_SUM_BYTES;

			if (padded <= off)
				break;
			sum += elec_sum(s->payload + off, padded - off < ELEC_SUM_BYTES ? padded - off : ELEC_SUM_BYTES);
		}
	}
	return elec_fold(sum) == 0xffff;
}

#endif
