/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection ids: per-CPU chains over a shared stack of chains over a bump allocator. A chain is linked through
 * ctd_conn.next_free; the shared stack's head carries a counter against ABA. Bottom halves are off: no nesting on a
 * CPU.
 */
#ifndef CTD_CT_IDS_H
#define CTD_CT_IDS_H

#include "core/config.h"
#include "core/maps.h"

#define ID_RETRIES 8

/*
 * Of the first record of a chain on the shared stack, how many there are: in a field that no packet writes, for one
 * that found the connection alive may still be at it.
 */
#define CHAIN_COUNT(conn) ((conn)->master)

/* Takes a whole chain off the shared stack, or mints one. Returns its first id, CTD_CONN_NONE when all are in use. */
static __always_inline u32 ids_refill(struct ctd_rt *rt, struct free_cache *cache)
{
	u32 first;

#pragma unroll
	for (int i = 0; i < ID_RETRIES; i++) {
		u64 head = read_once(rt->free_head), next;
		struct ctd_conn *conn;

		if (!(u32)head)
			break;
		conn = conn_get((u32)head);
		if (!conn)
			break;
		next = (((head >> 32) + 1) << 32) | read_once(conn->next_chain);
		if (atomic_cmpxchg(&rt->free_head, head, next) == head) {
			cache->head = (u32)head;
			cache->count = CHAIN_COUNT(conn);
			return (u32)head;
		}
	}
	if (read_once(rt->high_water) >= ctd_config.conn_capacity)
		return CTD_CONN_NONE;
	first = atomic_add(&rt->high_water, 1) + 1;
	if (first > ctd_config.conn_capacity) {
		atomic_add(&rt->high_water, -1);
		return CTD_CONN_NONE;
	}
	cache->head = first;
	cache->count = 1;
	return first;
}

static __always_inline u32 id_alloc(void)
{
	struct free_cache *cache;
	struct ctd_conn *conn;
	struct ctd_rt *rt = rt_get();
	u32 zero = 0, id;

	cache = map_lookup(&ct_free, &zero);
	if (!cache || !rt)
		return CTD_CONN_NONE;
	if (!cache->count && !ids_refill(rt, cache))
		return CTD_CONN_NONE;
	id = cache->head;
	conn = conn_get(id);
	if (!conn)
		return CTD_CONN_NONE;
	cache->head = conn->next_free;
	cache->count--;
	return id;
}

/*
 * The record is CTD_CONN_FREE or was never published. The cache holds a batch; when it is full, it goes to the shared
 * stack as a chain.
 */
static __always_inline void id_free(u32 id, struct ctd_conn *conn)
{
	struct free_cache *cache;
	struct ctd_rt *rt = rt_get();
	u32 zero = 0;

	cache = map_lookup(&ct_free, &zero);
	if (!cache || !rt)
		return;
	if (cache->count >= ctd_config.id_batch) {
		struct ctd_conn *first = conn_get(cache->head);

		if (!first)
			return;
#pragma unroll
		for (int i = 0; i < ID_RETRIES; i++) {
			u64 head = read_once(rt->free_head);

			CHAIN_COUNT(first) = cache->count;
			write_once(first->next_chain, (u32)head);
			if (atomic_cmpxchg(&rt->free_head, head, (((head >> 32) + 1) << 32) | cache->head) == head) {
				cache->count = 0;
				break;
			}
		}
		/* Contended to the end: the cache grows, and the next free tries again. */
	}
	conn->next_free = cache->count ? cache->head : CTD_CONN_NONE;
	cache->head = id;
	cache->count++;
}

#endif
