/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All maps. Sizes given as 1 are set by userspace before loading (configuration). "mmap": mapped by userspace.
 * Comments name who writes and who reads.
 */
#ifndef CTD_CORE_MAPS_H
#define CTD_CORE_MAPS_H

#include <ctd/abi/cache.h>
#include <ctd/abi/control.h>
#include <ctd/abi/ct.h>
#include <ctd/abi/drop.h>
#include <ctd/abi/event.h>
#include <ctd/abi/expect.h>
#include <ctd/abi/flow.h>
#include <ctd/abi/meta.h>
#include <ctd/abi/port.h>

#include "core/scratch.h"

/* Written once by the daemon that makes the instance, read by daemons that adopt it. */
CTD_MAP(ctd_meta, ARRAY, u32, struct ctd_meta, 1, BPF_F_MMAPABLE);
/* Written by both sides, field by field: see struct ctd_rt. mmap. */
CTD_MAP(ctd_rt, ARRAY, u32, struct ctd_rt, 1, BPF_F_MMAPABLE);

/* The packet under way on this CPU. BPF only. */
CTD_MAP(scratch, PERCPU_ARRAY, u32, struct scratch, 1, 0);

/* Written by the daemon, read by BPF. */
CTD_MAP(ports, ARRAY, u32, struct ctd_port, CTD_MAX_PORTS, 0);
CTD_MAP(port_index, ARRAY, u32, u32, CTD_PORT_INDEX_SIZE, 0);
/* The host's own addresses; the value is enum ctd_family. Written by the daemon, read by BPF. */
CTD_MAP(local_addrs, HASH, struct ctd_addr, u32, 4096, BPF_F_NO_PREALLOC);
/* Written by BPF (tokens) and the daemon (rates). */
CTD_MAP(port_limits, ARRAY, u32, struct ctd_port_limit, CTD_MAX_PORTS, 0);
/* Written by BPF, read by userspace. */
CTD_MAP(port_stats, PERCPU_ARRAY, u32, struct ctd_port_stats, CTD_MAX_PORTS, 0);

/* Flow tables: written by the daemon, read by BPF, which writes counters and hits. `flows` and `flow_masks`: mmap. */
CTD_MAP(flow_masks, ARRAY, u32, struct ctd_mask, CTD_MAX_MASKS, BPF_F_MMAPABLE);
CTD_MAP(flow_mask_list, ARRAY, u32, struct ctd_mask_list, 2, 0);
CTD_MAP(flow_index, HASH, struct ctd_flow_ref_key, struct ctd_flow_ref, 1, 0);
CTD_MAP(flows, ARRAY, u32, struct ctd_flow, 1, BPF_F_MMAPABLE);
CTD_MAP(flow_actions, ARRAY, u32, struct ctd_action_list, 1024, 0);
CTD_MAP(ct_nat_args, ARRAY, u32, struct ctd_nat_args, 1024, 0);
CTD_MAP(ct_label_args, ARRAY, u32, struct ctd_label_args, 1024, 0);
CTD_MAP(guard_masks, ARRAY, u32, struct ctd_guard, CTD_MAX_GUARD_MASKS, 0);
/* Daemon only; here so that it is made and pinned with the rest. */
CTD_MAP(recirc_states, HASH, u32, struct ctd_frozen, 4096, 0);

/* The connection table: written by BPF only. `ct_conn` and `ct_check`: mmap, read-only. */
CTD_MAP(ct_tuple4, HASH, struct ctd_tuple4, struct ctd_tuple_ref, 1, 0);
CTD_MAP(ct_tuple6, HASH, struct ctd_tuple, struct ctd_tuple_ref, 1, 0);
CTD_MAP(ct_conn, ARRAY, u32, struct ctd_conn, 1, BPF_F_MMAPABLE);
/* When a connection is to be looked at: jiffies (low word, never 0), 0 = free. Dense, for the sweep. */
CTD_MAP(ct_check, ARRAY, u32, u32, 1, BPF_F_MMAPABLE);
CTD_MAP(ct_class, ARRAY, u32, struct ctd_class, CTD_CLASS_INDEXES, BPF_F_MMAPABLE);
CTD_MAP(ct_ring, ARRAY, u32, u64, 1, 0);
CTD_MAP(ct_sources, ARRAY, u32, u32, CTD_RINGS *CTD_SOURCES, 0);
/* How connections are kept, and the zones' limits. Written by the daemon; BPF counts in `ct_zones`. mmap. */
CTD_MAP(ct_policies, ARRAY, u32, struct ctd_ct_policy, CTD_MAX_CT_POLICIES, 0);
CTD_MAP(ct_zones, ARRAY, u32, struct ctd_zone, 65536, BPF_F_MMAPABLE);
/* Written by BPF, read by userspace. */
CTD_MAP(ct_stats, PERCPU_ARRAY, u32, struct ctd_ct_stats, 1, 0);
/* What userspace asks for, one connection each, and what became of it. Written by both sides, field by field. mmap. */
CTD_MAP(ct_order, ARRAY, u32, struct ctd_order, 1, BPF_F_MMAPABLE);
CTD_MAP(ct_requests, ARRAY, u32, struct ctd_request, CTD_MAX_REQUESTS, BPF_F_MMAPABLE);
/* This CPU's free connection ids. BPF only. */
CTD_MAP(ct_free, PERCPU_ARRAY, u32, struct free_cache, 1, 0);

/* Expected connections by their tuple. Written by BPF only. */
CTD_MAP(ct_expects, HASH, struct ctd_tuple, struct ctd_expect, CTD_MAX_EXPECTS, 0);

/* struct ctd_event, while ctd_rt.event_mask asks for them. Written by BPF, read by the daemon. */
CTD_RING(ct_events, CTD_EVENT_RING_BYTES);

/* The verdict cache. BPF only. */
CTD_MAP(ct_cache4, LRU_HASH, struct ctd_tuple4, struct ctd_verdict4, 1, 0);
CTD_MAP(ct_cache6, LRU_HASH, struct ctd_tuple, struct ctd_verdict6, 1, 0);
CTD_MAP(next_hops, ARRAY, u32, struct ctd_next_hop, CTD_MAX_NEXT_HOPS, 0);

#ifndef CTD_HOST_NATIVE
/* The stages as programs, by enum stage. Written by the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_COUNT);
	__type(key, u32);
	__type(value, u32);
} stages SEC(".maps");
#endif

static __always_inline struct ctd_rt *rt_get(void)
{
	u32 zero = 0;

	return map_lookup(&ctd_rt, &zero);
}

static __always_inline struct scratch *scratch_get(void)
{
	u32 zero = 0;

	return map_lookup(&scratch, &zero);
}

static __always_inline struct ctd_conn *conn_get(u32 id)
{
	return map_lookup(&ct_conn, &id);
}

static __always_inline struct ctd_port *port_get(u32 number)
{
	struct ctd_port *port = map_lookup(&ports, &number);

	return port && port->ifindex ? port : NULL;
}

/* The port of a device, or NULL. */
static __always_inline struct ctd_port *port_of(u32 ifindex)
{
	u32 slot = ifindex & (CTD_PORT_INDEX_SIZE - 1);
	u32 *number = map_lookup(&port_index, &slot);
	struct ctd_port *port;

	if (!number || !*number)
		return NULL;
	port = port_get(*number);
	return port && port->ifindex == ifindex ? port : NULL;
}

#endif
