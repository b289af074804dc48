/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Making and removing expectations, as BPF_PROG_TYPE_SYSCALL programs. The daemon runs one at a time. */
#ifndef CTD_CT_EXPECT_CONTROL_H
#define CTD_CT_EXPECT_CONTROL_H

#include "ct/expect.h"

#define E_NO_ENT 2
#define E_TOO_BIG 7

struct expect_walk {
	u32 now;
	u32 removed;
	/* Of this master and kind: how many, and the oldest. */
	u32 master;
	u32 master_seq;
	u32 kind;
	u32 count;
	u32 oldest_id;
	struct ctd_tuple oldest;
};

static long expect_sweep_step(void *map CTD_UNUSED, const struct ctd_tuple *key, struct ctd_expect *expect,
			      struct expect_walk *walk)
{
	if (!expect_holds(expect, walk->now) && expect_remove(key))
		walk->removed++;
	return 0;
}

static long expect_count_step(void *map CTD_UNUSED, const struct ctd_tuple *key, struct ctd_expect *expect,
			      struct expect_walk *walk)
{
	if (expect->master != walk->master || expect->master_seq != walk->master_seq || expect->kind != walk->kind)
		return 0;
	if (!walk->count || (s32)(expect->id - walk->oldest_id) < 0) {
		walk->oldest_id = expect->id;
		walk->oldest = *key;
	}
	walk->count++;
	return 0;
}

/* What has expired or lost its master goes. It was void before: this makes room. */
static __always_inline int control_expect_sweep(struct ctd_expect_order *order)
{
	struct expect_walk walk = {.now = (u32)now_jiffies()};

	for_each_element(&ct_expects, expect_sweep_step, &walk);
	order->count = walk.removed;
	order->error = 0;
	return 0;
}

static __always_inline int control_expect_remove(struct ctd_expect_order *order)
{
	struct ctd_tuple key = order->key;

	order->count = (u32)expect_remove(&key);
	order->error = order->count ? 0 : -E_NO_ENT;
	return 0;
}

/* At the limit the oldest of the master makes room, as in the kernel. */
static __always_inline void expect_limit(struct expect_walk *walk, u32 limit)
{
	if (!limit)
		return;
	for_each_element(&ct_expects, expect_count_step, walk);
	if (walk->count >= limit && expect_remove(&walk->oldest))
		walk->removed++;
}

/*
 * An expectation of a live master; one that is there with the same key is replaced if it is the same master's or void,
 * and is in the way otherwise.
 */
static __always_inline int control_expect_add(struct ctd_expect_order *order)
{
	struct expect_walk walk = {.now = (u32)now_jiffies()};
	struct ctd_expect expect = order->expect;
	struct ctd_tuple key = order->key;
	struct ctd_rt *rt = rt_get();
	const struct ctd_expect *old;

	if (!rt)
		return -1;
	expect.expires = walk.now + order->timeout;
	expect.id = (u32)atomic_add(&rt->expect_ids, 1);
	expect.tag = tuple_tag(&key);
	expect.tag_end = expect.tag;
	order->error = -E_NO_ENT;
	if (!expect_holds(&expect, walk.now))
		return 0;
	old = map_lookup(&ct_expects, &key);
	if (old && expect_holds(old, walk.now) &&
	    (old->master != expect.master || old->master_seq != expect.master_seq)) {
		order->error = -E_EXIST;
		return 0;
	}
	if (old)
		expect_remove(&key);
	for_each_element(&ct_expects, expect_sweep_step, &walk);
	walk.master = expect.master;
	walk.master_seq = expect.master_seq;
	walk.kind = expect.kind;
	expect_limit(&walk, order->limit);
	order->count = walk.removed;
	atomic_add(&rt->expects, 1); /* before: who finds it may use it up at once */
	order->error = map_update(&ct_expects, &key, &expect, BPF_NOEXIST) ? -E_TOO_BIG : 0;
	if (order->error)
		atomic_add(&rt->expects, -1);
	order->expect.id = expect.id;
	return 0;
}

#endif
