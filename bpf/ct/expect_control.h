/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Making and removing expectations, as BPF_PROG_TYPE_SYSCALL programs. The daemon runs one at a time. */
#ifndef CTD_CT_EXPECT_CONTROL_H
#define CTD_CT_EXPECT_CONTROL_H

#include "ct/expect_sweep.h"
#include "ct/table.h"

#define E_NO_ENT 2
#define E_NO_SPC 28

/* Of one master and kind: how many, and the oldest. */
struct expect_census {
	u32 master;
	u32 master_seq;
	u32 kind;
	u32 count;
	u32 oldest_id;
	u32 pad;
	struct ctd_tuple oldest;
};

static long expect_count_step(void *map CTD_UNUSED, const struct ctd_tuple *key, struct ctd_expect *expect,
			      struct expect_census *census)
{
	if (expect->master != census->master || expect->master_seq != census->master_seq ||
	    expect->kind != census->kind)
		return 0;
	if (!census->count || (s32)(expect->id - census->oldest_id) < 0) {
		census->oldest_id = expect->id;
		census->oldest = *key;
	}
	census->count++;
	return 0;
}

/* At the limit the oldest of the master makes room, as in the kernel. Answers how many went. */
static __always_inline u32 expect_make_room(const struct ctd_expect *expect, u32 limit)
{
	struct expect_census census = {
		.master = expect->master, .master_seq = expect->master_seq, .kind = expect->kind};

	if (!limit)
		return 0;
	for_each_element(&ct_expects, expect_count_step, &census);
	return census.count >= limit ? (u32)expect_remove(&census.oldest, CTD_EXPECT_EVICTED) : 0;
}

static __always_inline int control_expect_remove(struct ctd_expect_order *order)
{
	const struct ctd_expect *expect;
	struct ctd_tuple key = order->key;

	expect = map_lookup(&ct_expects, &key);
	order->count = 0;
	if (expect && (!order->expect.id || expect->id == order->expect.id))
		order->count = (u32)expect_remove(&key, CTD_EXPECT_DELETED);
	order->error = order->count ? 0 : -E_NO_ENT;
	return 0;
}

/* One that is there with the same key is in the way if it is another master's and not void; else it is replaced. */
static __always_inline int expect_replace(const struct ctd_tuple *key, const struct ctd_expect *expect)
{
	const struct ctd_expect *old = map_lookup(&ct_expects, key);

	if (!old)
		return 1;
	if (old->master != expect->master || old->master_seq != expect->master_seq)
		return 0;
	expect_remove(key, CTD_EXPECT_REPLACED);
	return 1;
}

static __always_inline int expect_insert(struct ctd_rt *rt, const struct ctd_tuple *key,
					 const struct ctd_expect *expect)
{
	long error;

	atomic_add(&rt->expects, 1); /* before: who finds it may use it up at once */
	error = map_update(&ct_expects, key, expect, BPF_NOEXIST);
	if (!error) {
		count_expect(CTD_EXPECT_MADE);
		return 0;
	}
	atomic_add(&rt->expects, -1);
	return -E_NO_SPC;
}

/* An expectation of a live master. The program's own copy: what is in the table must not change under a reader. */
static __always_inline int control_expect_add(struct ctd_expect_order *order)
{
	struct ctd_expect expect = order->expect;
	struct ctd_tuple key = order->key;
	struct ctd_rt *rt = rt_get();

	if (!rt)
		return -1;
	expect.expires = (u32)now_jiffies() + order->timeout;
	expect.id = (u32)atomic_add(&rt->expect_ids, 1) + 1;
	expect.tag = tuple_tag(&key);
	expect.check = expect.tag + expect.id;
	order->expect.id = expect.id;
	order->count = 0;
	order->error = -E_NO_ENT;
	if (!expect_holds(&expect))
		return 0;
	order->count = expect_sweep();
	order->error = -E_EXIST;
	if (expect_replace(&key, &expect)) {
		order->count += expect_make_room(&expect, order->limit);
		order->error = expect_insert(rt, &key, &expect);
	}
	if (order->error)
		count_expect(CTD_EXPECT_REFUSED);
	return 0;
}

#endif
