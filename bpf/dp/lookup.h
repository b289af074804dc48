/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flow look-up: the masks of the published list in order; of each, only the words it touches are hashed. Cost depends
 * on the number of masks met, never on the number of flows. Flows do not overlap, so the mask that matched last for
 * packets at this point of their way is tried first.
 *
 * Reads of the scratch record: key. Writes: actions, action_at, flow*, guard.
 */
#ifndef CTD_DP_LOOKUP_H
#define CTD_DP_LOOKUP_H

#include "core/config.h"
#include "core/count.h"

/* The hash of the scratch key under a mask; 0 words: all flows of that mask are one. */
static __always_inline u64 masked_hash(const struct scratch *s, const struct ctd_mask *mask)
{
	u64 h = ctd_config.seed;

	for (u32 i = 0; i < CTD_KEY_WORDS; i++) {
		u32 w;

		if (i >= mask->words)
			break;
		w = mask->word[i];
		if (w >= CTD_KEY_WORDS)
			break;
		h = ctd_hash_step(h, s->key.w[w] & mask->mask.w[w]);
	}
	return ctd_hash_end(h);
}

static __always_inline int masked_equal(const struct scratch *s, const struct ctd_mask *mask,
					const struct ctd_flow *flow)
{
	for (u32 i = 0; i < CTD_KEY_WORDS; i++) {
		u32 w;

		if (i >= mask->words)
			break;
		w = mask->word[i];
		if (w >= CTD_KEY_WORDS)
			return 0;
		if ((s->key.w[w] & mask->mask.w[w]) != flow->key.w[w])
			return 0;
	}
	return 1;
}

/* The slot of the flow that matches under one mask, 0 if none. */
CTD_GLOBAL u32 lookup_mask(u32 mask_id)
{
	struct ctd_flow_ref_key key = {.mask = mask_id};
	struct scratch *s = scratch_get();
	struct ctd_flow_ref *ref;
	struct ctd_mask *mask;
	struct ctd_flow *flow;
	u32 slot, gen;

	mask = map_lookup(&flow_masks, &mask_id);
	if (!s || !mask)
		return 0;
	key.hash = masked_hash(s, mask);
	ref = map_lookup(&flow_index, &key);
	if (!ref)
		return 0;
	slot = ref->slot;
	gen = ref->gen;
	flow = map_lookup(&flows, &slot);
	if (!flow || flow->gen != gen || !masked_equal(s, mask, flow))
		return 0;
	s->actions = flow->actions;
	if (read_once(flow->gen) != gen)
		return 0;
	if (s->flow_count < CTD_VERDICT_FLOWS) {
		s->flow[s->flow_count & (CTD_VERDICT_FLOWS - 1)] = slot;
		s->flow_gen[s->flow_count & (CTD_VERDICT_FLOWS - 1)] = gen;
	}
	s->flow_count++;
	/* Guards grow with every flow met; entry 0 is what all have in common. */
	if (mask->guard && mask->guard != s->guard)
		s->guard = s->guard ? CTD_GUARD_NONE : mask->guard;
	atomic_add(&mask->hits, 1);
	atomic_add(&flow->packets, 1);
	atomic_add(&flow->bytes, s->pkt.len);
	flow->used = (u32)now_jiffies();
	return slot;
}

/*
 * The place of the hint for the packet as it is now: 1 + the mask that matched last, 0 if none has yet. A mask that is
 * gone by now has no flows, and is only tried in vain.
 */
static __always_inline u8 *mask_hint(struct scratch *s)
{
	const struct ctd_flow_key *key = &s->key.key;

	return &s->mask_hints[(key->recirc_id * 7 + key->in_port + key->ct_state) % MASK_HINTS];
}

/* The slot of the matching flow, 0 on a miss. */
static __always_inline u32 flow_lookup(struct scratch *s)
{
	struct ctd_mask_list *list;
	struct ctd_rt *rt = rt_get();
	u32 which, slot, tried;
	u8 *hint;

	if (!rt)
		return 0;
	hint = mask_hint(s);
	tried = read_once(*hint);
	slot = tried ? lookup_mask(tried - 1) : 0;
	if (slot) {
		s->action_at = 0;
		return slot;
	}
	which = read_once(rt->mask_list) & 1;
	list = map_lookup(&flow_mask_list, &which);
	if (!list)
		return 0;
	for (u32 i = 0; i < CTD_MAX_MASKS; i++) {
		if (i >= list->count)
			break;
		if (list->id[i] + 1u == tried)
			continue;
		slot = lookup_mask(list->id[i]);
		if (slot) {
			write_once(*hint, (u8)(list->id[i] + 1));
			s->action_at = 0;
			return slot;
		}
	}
	return 0;
}

#endif
