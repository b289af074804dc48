/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Expectations whose time is up or whose master has ended are void at once; the sweep takes them out, so that they make
 * room and, once there are none, nobody looks for one.
 */
#ifndef CTD_CT_EXPECT_SWEEP_H
#define CTD_CT_EXPECT_SWEEP_H

#include "ct/expect.h"

static long expect_sweep_step(void *map CTD_UNUSED, const struct ctd_tuple *key, struct ctd_expect *expect,
			      u32 *removed)
{
	if (!expect_in_time(expect))
		*removed += (u32)expect_remove(key, CTD_EXPECT_TIMEOUT);
	else if (!expect_has_master(expect))
		*removed += (u32)expect_remove(key, CTD_EXPECT_MASTER);
	return 0;
}

/* All of them: some 100 µs if the table is full. Answers how many went. */
static __always_inline u32 expect_sweep(void)
{
	struct ctd_rt *rt = rt_get();
	u32 removed = 0;

	if (rt && read_once(rt->expects) > 0)
		for_each_element(&ct_expects, expect_sweep_step, &removed);
	return removed;
}

#endif
