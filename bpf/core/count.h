/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counters and drops. Every drop goes through drop(), so that every drop has a reason. */
#ifndef CTD_CORE_COUNT_H
#define CTD_CORE_COUNT_H

#include "core/maps.h"

/* The host has no device of its own: its packets count under index 0. */
static __always_inline struct ctd_port_stats *stats_of(u32 port)
{
	u32 index = port < CTD_MAX_PORTS ? port : 0;

	return map_lookup(&port_stats, &index);
}

static __always_inline void count(u32 port, enum ctd_counter what)
{
	struct ctd_port_stats *stats = stats_of(port);

	if (stats)
		stats->count[what]++;
}

static __always_inline void count_rx(u32 port, u32 bytes)
{
	struct ctd_port_stats *stats = stats_of(port);

	if (stats) {
		stats->rx_packets++;
		stats->rx_bytes += bytes;
	}
}

static __always_inline void count_tx(u32 port, u32 bytes)
{
	struct ctd_port_stats *stats = stats_of(port);

	if (stats) {
		stats->tx_packets++;
		stats->tx_bytes += bytes;
	}
}

static __always_inline void count_ended(u32 why)
{
	struct ctd_ct_stats *stats;
	u32 zero = 0;

	stats = map_lookup(&ct_stats, &zero);
	if (stats)
		stats->ended[why & (CTD_END_MAX - 1)]++;
}

/* The packet is invalid for this reason (enum ctd_invalid_reason). */
static __always_inline void count_invalid(u32 why)
{
	struct ctd_ct_stats *stats;
	u32 zero = 0;

	stats = map_lookup(&ct_stats, &zero);
	if (stats)
		stats->invalid[why & (CTD_INVALID_MAX - 1)]++;
}

/* What became of an expectation. Atomic: control programs, which can be preempted, count here as well. */
static __always_inline void count_expect(enum ctd_expect_counter what)
{
	struct ctd_ct_stats *stats;
	u32 zero = 0;

	stats = map_lookup(&ct_stats, &zero);
	if (stats)
		atomic_add(&stats->expects[what], 1);
}

static __always_inline int drop(u32 port, u32 reason)
{
	struct ctd_port_stats *stats = stats_of(port);

	if (stats)
		stats->drop[reason & (CTD_DROP_MAX - 1)]++;
	return CTX_DROP;
}

#endif
