/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Authentication (F4): a SipHash-2-4 tag over the header without its last field and the payload, checked before
 * anything is believed, made for each ack. Where the group has no keys none of this is left in the program.
 *
 * 2-4 and not 1-3, for this is a message authentication code against somebody who tries. Written out, for no
 * helper computes it; electrode/src/auth/tag.rs is the same with a library.
 */
#ifndef ELEC_AUTH_H
#define ELEC_AUTH_H

#include "frame.h"
#include "words.h"

#define ELEC_TAGGED_BYTES offsetof(struct elec_hdr, auth_tag)

struct elec_sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 elec_rotl(__u64 v, int bits)
{
	return v << bits | v >> (64 - bits);
}

static __always_inline void elec_sip_round(struct elec_sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = elec_rotl(s->v1, 13) ^ s->v0;
	s->v3 = elec_rotl(s->v3, 16) ^ s->v2;
	s->v0 = elec_rotl(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = elec_rotl(s->v1, 17) ^ s->v2;
	s->v3 = elec_rotl(s->v3, 21) ^ s->v0;
	s->v2 = elec_rotl(s->v2, 32);
}

static __always_inline void elec_sip_word(struct elec_sip *s, __u64 word)
{
	s->v3 ^= word;
	elec_sip_round(s);
	elec_sip_round(s);
	s->v0 ^= word;
}

/*
 * The tag of a header and of the payload in the scratch, behind which there are zeros up to a whole word.
 * Returns 0 if it could be made. A function of its own, which the verifier checks once for any payload; inlined
 * it would be gone through for every way that leads to it, and once more for the ack.
 */
__noinline int elec_make_tag(struct elec_hdr *h, struct elec_seal *seal)
{
	struct elec_scratch *scratch;
	__u32 zero = 0, n;
	struct elec_sip s;
	__u64 *word;

	if (!h || !seal)
		return -1;
	s.v0 = seal->k0 ^ 0x736f6d6570736575ull;
	s.v1 = seal->k1 ^ 0x646f72616e646f6dull;
	s.v2 = seal->k0 ^ 0x6c7967656e657261ull;
	s.v3 = seal->k1 ^ 0x7465646279746573ull;

	word = (__u64 *)h;
	for (__u32 i = 0; i < ELEC_TAGGED_BYTES / 8; i++)
		elec_sip_word(&s, word[i]);

	n = h->payload_bytes;
	if (n > ELEC_PAYLOAD_BYTES_MAX)
		return -1;
	scratch = bpf_map_lookup_elem(&elec_scratch, &zero);
	if (!scratch)
		return -1;
	word = (__u64 *)scratch->payload;
	for (__u32 i = 0; i < ELEC_PAYLOAD_BYTES_MAX / 8; i++) {
		if (i >= n / 8)
			break;
		elec_sip_word(&s, word[i]);
	}
	/* The last word holds what is left, and the length of all. */
	elec_sip_word(&s, (__u64)(ELEC_TAGGED_BYTES + n) << 56 | (n & 7 ? word[n / 8] : 0));
	s.v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		elec_sip_round(&s);
	seal->tag = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
	return 0;
}

/*
 * The payload whose tag was right, from the scratch into a slot of the log: not from the packet once more, for its
 * sender may still be able to write there (a frame in a ring that it keeps mapped, on a virtual cable of this
 * machine). A function of its own as above, and a loop, for no helper copies
 * from one map's memory to another's that a locked-down kernel allows. Returns 0 if it could be done.
 */
__noinline int elec_fill_from_scratch(__u32 index, __u32 n)
{
	struct elec_scratch *scratch;
	struct elec_slot *slot;
	__u32 zero = 0, words = n / 8;
	__u64 *from, *to, rest;

	scratch = bpf_map_lookup_elem(&elec_scratch, &zero);
	slot = bpf_map_lookup_elem(&elec_slots, &index);
	if (!scratch || !slot || n > elec_params.slot_payload_bytes)
		return -1;
	from = (__u64 *)scratch->payload;
	to = (__u64 *)slot->payload;
	/* The last bytes first: behind the loop the verifier would look at them once for each length. */
	if (n & 7) {
		rest = (1ull << 8 * (n & 7)) - 1;
		to[words] = (to[words] & ~rest) | (from[words] & rest);
	}
	for (__u32 i = 0; i < ELEC_PAYLOAD_BYTES_MAX / 8 && i < elec_params.slot_payload_bytes / 8; i++) {
		if (i >= words)
			break;
		to[i] = from[i];
	}
	return 0;
}

/*
 * F4: whether what comes in a member's name was made by one, for us. Returns -1 if so, else the verdict. The key
 * is kept for the ack. The caller has seen that the payload is no longer than ELEC_PAYLOAD_BYTES_MAX.
 */
static __always_inline int elec_admit_tag(void *ctx, bool xdp, struct elec_frame *f)
{
	struct elec_hdr *h = &f->l4.hdr;
	__u32 zero = 0, n = h->payload_bytes;
	struct elec_scratch *scratch;
	struct elec_keys *keys;
	struct elec_key *key;

	if (!elec_params.authenticated)
		return -1;
	if (!(h->targets & 1u << (elec_params.self & 31)))
		return ELEC_DROP_TARGET;
	keys = bpf_map_lookup_elem(&elec_keys, &zero);
	if (!keys)
		return ELEC_DROP_KEY;
	key = h->flags & ELEC_FLAG_KEY_1 ? &keys->key[1] : &keys->key[0];
	/* Written only while invalid, and published after (a grace period lies between). */
	if (!elec_load(&key->valid))
		return ELEC_DROP_KEY;
	f->seal.k0 = *(volatile __u64 *)&key->k0;
	f->seal.k1 = *(volatile __u64 *)&key->k1;
	f->seal.tag = 0;

	if (n) {
		scratch = bpf_map_lookup_elem(&elec_scratch, &zero);
		if (!scratch || n > ELEC_PAYLOAD_BYTES_MAX)
			return ELEC_DROP_TAG;
		n = elec_between(1, n, ELEC_PAYLOAD_BYTES_MAX);
		*(__u64 *)(scratch->payload + (n & ~7u)) = 0;
		if (elec_read(ctx, xdp, elec_l4_off() + ELEC_L4_BYTES, scratch->payload, n))
			return ELEC_DROP_TAG;
	}
	if (elec_make_tag(h, &f->seal) || f->seal.tag != h->auth_tag)
		return ELEC_DROP_TAG;
	return -1;
}

/* The tag of an ack, with the key of the Prepare that it answers. */
static __always_inline __u64 elec_ack_tag(struct elec_frame *f)
{
	if (!elec_params.authenticated || elec_make_tag(&f->l4.hdr, &f->seal))
		return 0;
	return f->seal.tag;
}

#endif
