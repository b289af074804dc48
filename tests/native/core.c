// SPDX-License-Identifier: Apache-2.0
/*
 * The datapath core, compiled for this machine, and the driver that runs its entries and stages as the kernel does: a
 * tail call that succeeds never returns to its caller, and there are 33 of them for a packet.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <ctd/abi/policy_defaults.h>

#include "host/native.h"

/* What only the BPF compiler understands or does not mind. */
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wshadow"
#include "ct/control.h"
#include "ct/expect_control.h"
#include "ct/order.h"
#include "ct/sweep.h"
#include "dp/stages.h"

#include "native/internal.h"
#include "native/native.h"

CTD_ASSERT(NATIVE_TCP_INVALID == TCP_INVALID && NATIVE_TCP_IGNORE == TCP_IGNORE);
CTD_ASSERT(NATIVE_SCTP_INVALID == SCTP_INVALID);
CTD_ASSERT(NATIVE_DCCP_INVALID == DCCP_INVALID && NATIVE_DCCP_IGNORE == DCCP_IGNORE);

struct ctd_config ctd_config;

typedef int (*program)(CTX *ctx);

static const program entries[] = {
	[NATIVE_INGRESS] = entry_ingress,
	[NATIVE_EGRESS] = entry_egress,
	[NATIVE_TAP_IN] = entry_tap_in,
	[NATIVE_TAP_OUT] = entry_tap_out,
};
static const program stages[STAGE_COUNT] = {
	[STAGE_LOOKUP] = stage_lookup, [STAGE_ACTIONS] = stage_actions, [STAGE_CT] = stage_ct,
	[STAGE_ROUTE] = stage_route,   [STAGE_UPCALL] = stage_upcall,   [STAGE_ICMP_ERROR] = stage_icmp_error,
};
static bool stages_missing[STAGE_COUNT];

/* The program under way on this thread. */
static __thread struct {
	jmp_buf start;
	program next;
	u32 tail_calls;
} running;

void native_tail_call(CTX *ctx, u32 stage)
{
	(void)ctx;
	if (stage >= STAGE_COUNT || stages_missing[stage] || running.tail_calls >= NATIVE_TAIL_CALLS)
		return;
	running.tail_calls++;
	running.next = stages[stage];
	longjmp(running.start, 1);
}

int native_run(struct native_packet *packet, enum native_entry entry)
{
	memset(&packet->redirect, 0, sizeof(packet->redirect));
	running.tail_calls = 0;
	running.next = entries[entry];
	setjmp(running.start); /* a tail call comes back here, with another program */
	return running.next(packet);
}

void native_stage_missing(u32 stage, bool missing)
{
	stages_missing[stage % STAGE_COUNT] = missing;
}

u32 native_tail_calls(void)
{
	return running.tail_calls;
}

static u32 or_else(u32 value, u32 other)
{
	return value ? value : other;
}

/* As the daemon does for a new instance. */
static void classes_init(const struct native_options *o, u32 capacity, u32 ring)
{
	const u32 quota[] = {or_else(o->unanswered_quota, capacity / 4), or_else(o->answered_quota, capacity / 2),
			     capacity};

	for (u32 index = 0; index < CTD_CLASS_INDEXES; index++) {
		struct ctd_class *c = map_lookup(&ct_class, &index);
		u32 cls = index % CTD_CLASS_COUNT;

		c->quota = quota[cls];
		if (cls == CTD_CLASS_ASSURED)
			continue;
		c->size = ring;
		c->base = CTD_CLASS_RING(index) * ring;
		c->share = or_else(o->source_share, c->quota); /* most tests have one source */
	}
}

void native_reset(const struct native_options *options)
{
	static const struct native_options defaults;
	const struct native_options *o = options ? options : &defaults;
	u32 capacity = or_else(o->conn_capacity, 256), flow_slots = or_else(o->flow_capacity, 256), ring = 1;

	while (ring < 2 * capacity)
		ring <<= 1;
	ct_conn.max_entries = ct_check.max_entries = capacity + 1;
	ct_tuple4.max_entries = ct_tuple6.max_entries = 2 * capacity;
	ct_ring.max_entries = CTD_RINGS * ring;
	ct_cache4.max_entries = ct_cache6.max_entries = or_else(o->cache_entries, 2 * capacity);
	flow_index.max_entries = flows.max_entries = flow_slots;
	native_kernel_reset(o->seed);
	native_maps_reset();
	native_rings_reset();
	ctd_config = (struct ctd_config){
		.seed = 0x5eed0000ull + o->seed,
		.token = 0x746f6b656e000001ull,
		.hz = 250,
		.conn_capacity = capacity,
		.tap_ifindex = NATIVE_TAP_IFINDEX,
		.icmp_rate = 1000,
		.family_capacity = {or_else(o->capacity4, capacity), or_else(o->capacity6, capacity)},
		.id_batch = ctd_id_batch(capacity, NATIVE_MAX_CPUS),
		.adaptive_start = o->adaptive_start,
		.adaptive_end = o->adaptive_end,
	};
	memset(stages_missing, 0, sizeof(stages_missing));
	classes_init(o, capacity, ring);
	ctd_ct_policy_defaults(map_lookup(&ct_policies, &(u32){0}), 0);
}

u64 native_sweep_tick(void)
{
	return sweep_tick();
}

u32 native_source_of(const struct ctd_tuple *tuple)
{
	return source_of(tuple);
}

void native_order(void)
{
	order_run();
}

u64 native_flush(void)
{
	struct ctd_control arg = {};

	return control_flush(&arg) ? 0 : arg.count;
}

u32 native_jiffies_left(const struct ctd_conn *conn)
{
	s32 left = (s32)(conn_expires(conn) - (u32)now_jiffies());

	return left > 0 ? (u32)left : 0;
}

int native_expect(enum native_expect_order what, struct ctd_expect_order *order)
{
	return what == NATIVE_EXPECT_ADD ? control_expect_add(order) : control_expect_remove(order);
}

u64 native_credit(void)
{
	struct ctd_control arg = {};

	return control_credit(&arg) ? 0 : arg.count;
}

u32 native_tcp_next(u32 state, u8 dir, u8 flags)
{
	return tcp_next(state, dir, flags);
}

bool native_tcp_flags_valid(u8 flags)
{
	return tcp_flags_valid(flags);
}

u32 native_sctp_next(u32 state, u8 dir, u8 type)
{
	return sctp_next(state, dir, type);
}

u32 native_dccp_next(u32 state, u8 role, u8 type)
{
	return dccp_next(state, role, type);
}

u32 native_crc32c_shift(u32 word, u32 len)
{
	return crc32c_shift(word, len);
}

u64 native_invalid(u32 reason)
{
	u32 zero = 0;
	u64 sum = 0;

	for (u32 cpu = 0; cpu < NATIVE_MAX_CPUS; cpu++) {
		struct ctd_ct_stats *stats = native_map_lookup_cpu(&ct_stats, &zero, cpu);

		sum += stats->invalid[reason % CTD_INVALID_MAX];
	}
	return sum;
}

u32 native_id_alloc(void)
{
	return id_alloc();
}

void native_id_free(u32 id)
{
	id_free(id, conn_get(id));
}

int native_parse(struct native_packet *packet, struct packet *to)
{
	return parse(packet, to);
}
