/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flow tables: masks, flows and frozen states. The daemon writes them (counters excepted), the datapath reads.
 *
 * A look-up tries the masks of the published list in order: hash of the masked words of the key -> `flow_index` ->
 * slot in `flows`, whose key is compared. A published flow is immutable: a change publishes another slot, and a slot
 * is reused only after a grace period, with another generation.
 */
#ifndef CTD_ABI_FLOW_H
#define CTD_ABI_FLOW_H

#include <ctd/abi/action.h>
#include <ctd/abi/key.h>
#include <ctd/abi/types.h>

#define CTD_MAX_MASKS 64

/* Map `flow_masks`: array, index = mask id. */
struct ctd_mask {
	union ctd_key_words mask;
	u8 word[CTD_KEY_WORDS]; /* indices of the words that are not zero, ascending */
	u32 words;              /* how many */
	u32 flows;              /* flows under it; 0: free */
	u64 hits;               /* atomic, written by BPF: the order of search follows it */
	u32 guard;              /* index into `guard_masks` of the fields that a verdict must still compare */
	u32 pad;
};
CTD_ASSERT_SIZE(struct ctd_mask, 320 + 40 + 24);

/* Map `flow_mask_list`: array of two; `ctd_rt.mask_list` says which one is published. */
struct ctd_mask_list {
	u32 count;
	u8 id[CTD_MAX_MASKS]; /* in order of search */
};
CTD_ASSERT_SIZE(struct ctd_mask_list, 4 + CTD_MAX_MASKS);

/* Key and value of map `flow_index`: hash. */
struct ctd_flow_ref_key {
	u64 hash; /* ctd_key_hash() of the masked words */
	u32 mask;
	u32 pad;
};
struct ctd_flow_ref {
	u32 slot;
	u32 gen;
};

/* Map `flows`: array, index = slot, mapped by userspace. Slot 0 is unused. */
struct ctd_flow {
	u32 gen; /* odd while published, even while free or being written */
	u32 mask;
	u32 actions; /* index into `flow_actions` */
	u32 used;    /* jiffies (low word) of the last packet; written by BPF */
	u64 packets; /* atomic, written by BPF */
	u64 bytes;   /* atomic, written by BPF */
	u16 tcp_flags;
	u8 reserved[30];
	union ctd_key_words key; /* masked */
};
CTD_ASSERT_SIZE(struct ctd_flow, 64 + 320);

/*
 * Map `recirc_states`: hash, key = recirculation id (u32, never 0). What a recirculated packet goes on with. Pinned,
 * so that a restarted daemon gives no live id another meaning. Written and read by the daemon.
 */
struct ctd_frozen {
	u32 table;
	u32 bridge;
	u32 in_port;
	u32 flows; /* flows whose actions name it */
	u64 metadata;
	u32 reg[16];
	u64 tun_id;
	u32 actions; /* remaining actions: index into `flow_actions`, 0 none */
	u32 pad;
};
CTD_ASSERT_SIZE(struct ctd_frozen, 104);

/* One step and the end of the hash of a masked key. A word at a time; `h` starts as the seed. */
static inline u64 ctd_hash_step(u64 h, u64 word)
{
	h ^= word * 0x9e3779b97f4a7c15ull;
	h = (h << 27) | (h >> 37);
	return h * 0xbf58476d1ce4e5b9ull;
}

static inline u64 ctd_hash_end(u64 h)
{
	h ^= h >> 31;
	h *= 0x94d049bb133111ebull;
	return h ^ (h >> 29);
}

#endif
