/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Zones: how many connections each has and may have. A connection is counted in before anything of it exists, so that
 * the limit is exact, and out where its record becomes free.
 */
#ifndef CTD_CT_ZONE_H
#define CTD_CT_ZONE_H

#include "core/maps.h"

/* Counts a connection in. 0 if the zone is at its limit. */
static __always_inline int zone_enter(u32 zone)
{
	struct ctd_zone *z = map_lookup(&ct_zones, &zone);
	s32 others;
	u32 limit;

	if (!z)
		return 0;
	others = atomic_add(&z->count, 1);
	limit = read_once(z->limit);
	if (!limit || others < (s32)limit)
		return 1;
	atomic_add(&z->count, -1);
	return 0;
}

/* A function of its own for the sake of 6.1's verifier: the callers are the deepest chain of calls. */
CTD_GLOBAL int zone_leave(u32 zone)
{
	struct ctd_zone *z = map_lookup(&ct_zones, &zone);

	if (z)
		atomic_add(&z->count, -1);
	return 0;
}

/* The policy of a zone's connections whose ct() names none. */
static __always_inline u16 zone_policy(u32 zone)
{
	struct ctd_zone *z = map_lookup(&ct_zones, &zone);

	return z ? read_once(z->policy) : 0;
}

#endif
