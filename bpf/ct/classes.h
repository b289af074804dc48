/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Classes, quotas and shares. Unanswered and answered connections of a family stand in a ring each, in order of
 * arrival. At the quota the oldest that is still in the class makes room, so that a flood lives and dies among its own
 * kind; while a source has more than its share of the ring, its connections make room first, so that it cannot push out
 * the others'. Ring entries of connections that left the class are stale and skipped.
 */
#ifndef CTD_CT_CLASSES_H
#define CTD_CT_CLASSES_H

#include "ct/table.h"

#define CLASS_PROBES 16
#define CLASS_PATIENT_PROBES 12 /* of them; after these, who is within its share need not spare others that are */

static __always_inline void ring_push(struct ctd_class *c, u32 id, u32 seq)
{
	u64 pos = atomic_add(&c->head, 1);
	u32 index = c->base + (u32)(pos & (c->size - 1));
	u64 *entry = map_lookup(&ct_ring, &index);

	if (entry)
		write_once(*entry, ((u64)seq << 32) | id);
}

enum probe_flag {
	PROBE_SPARE = 0x01, /* while any source has more than its share, only the connections of such go */
	PROBE_FORCE = 0x02, /* the table is full: also within the quota */
	PROBE_STALE_ONLY = 0x04,
};

enum probe {
	PROBE_STALE, /* dropped a stale entry, or lost a race: look further */
	PROBE_KILLED,
	PROBE_KEPT, /* it may stay: unless only stale ones were asked for, the entry went to the front of the ring */
	PROBE_EMPTY,
};

static __always_inline int class_spares(struct ctd_class *c, u32 index, const struct ctd_conn *conn, u32 flags)
{
	u32 *n;

	if (!(flags & PROBE_FORCE) && read_once(c->live) <= (s64)c->quota)
		return 1;
	if (!(flags & PROBE_SPARE) || read_once(c->over) <= 0)
		return 0;
	n = source_count(index, conn->source);
	return n && read_once(*n) <= c->share;
}

/* Takes the oldest entry of a class's ring. */
CTD_GLOBAL int class_probe(u32 cls_index, u32 flags)
{
	struct ctd_class *c = map_lookup(&ct_class, &cls_index);
	struct ctd_conn *conn;
	u64 tail, *entry, value;
	u32 index, ctl = 0;
	int stale;

	if (!c)
		return PROBE_EMPTY;
	tail = read_once(c->tail);
	if (tail >= read_once(c->head))
		return PROBE_EMPTY;
	index = c->base + (u32)(tail & (c->size - 1));
	entry = map_lookup(&ct_ring, &index);
	if (!entry)
		return PROBE_EMPTY;
	value = read_once(*entry);
	conn = conn_get((u32)value);
	if (conn)
		ctl = read_once(conn->ctl);
	stale = ctl != CTD_CTL(value >> 32, cls_index % CTD_CLASS_COUNT, CTD_CONN_VALID);
	if (!stale && flags & PROBE_STALE_ONLY)
		return PROBE_KEPT;
	if (atomic_cmpxchg(&c->tail, tail, tail + 1) != tail || !conn)
		return PROBE_STALE;
	/* A dead one counts as a member until it is destroyed: who is in need does it. */
	if (CTD_CTL_LIFE(ctl) == CTD_CONN_DEAD && CTD_CTL_SEQ(ctl) == value >> 32 && conn_reap(conn, (u32)value))
		return PROBE_KILLED;
	if (stale)
		return PROBE_STALE;
	if (class_spares(c, cls_index, conn, flags)) {
		ring_push(c, (u32)value, (u32)(value >> 32));
		return PROBE_KEPT;
	}
	if (!conn_kill(conn, (u32)value, ctl, CTD_END_EVICTED))
		return PROBE_STALE;
	count(0, CTD_COUNT_CT_EVICTED);
	return PROBE_KILLED;
}

/*
 * Connections that were promoted or are gone leave stale entries. They go as they come, two for one: a ring full of
 * them would have to be searched when the class is at its quota.
 */
static __always_inline void class_trim(struct ctd_class *c, u32 index)
{
	for (int i = 0; i < 2; i++) {
		if ((s64)(read_once(c->head) - read_once(c->tail)) <= read_once(c->live) ||
		    class_probe(index, PROBE_STALE_ONLY) != PROBE_STALE)
			return;
	}
}

/* A place in a class for a connection of this source, for which the oldest make room. 1 if there is one. */
static __always_inline int class_reserve(u32 index, u32 source)
{
	struct ctd_class *c = map_lookup(&ct_class, &index);
	int greedy;

	if (!c)
		return 0;
	greedy = class_enter(index, source);
	if (!c->size)
		return 1;
	class_trim(c, index);
	for (u32 i = 0; i < CLASS_PROBES; i++) {
		int over = read_once(c->live) > (s64)c->quota;

		if (!over && read_once(c->head) - read_once(c->tail) <= c->size - 2)
			return 1;
		if (class_probe(index, greedy || i < CLASS_PATIENT_PROBES ? PROBE_SPARE : 0) == PROBE_EMPTY)
			break;
	}
	if (read_once(c->live) <= (s64)c->quota)
		return 1;
	class_leave(index, source);
	return 0;
}

/* The connection stands in its class's ring from now on; the place was reserved. */
static __always_inline void class_stand(u32 index, u32 id, u32 seq)
{
	struct ctd_class *c = map_lookup(&ct_class, &index);

	if (c && c->size)
		ring_push(c, id, seq);
}

static __always_inline s64 class_live(u32 cls, u32 family)
{
	u32 index = CTD_CLASS_INDEX(cls, family);
	struct ctd_class *c = map_lookup(&ct_class, &index);

	return c ? read_once(c->live) : 0;
}

/* A family's part of the table is full: its oldest unanswered connection makes room, else its oldest answered one. */
static __always_inline int family_make_room(u32 family)
{
	for (u32 i = 0; i < 2 * CLASS_PROBES; i++) {
		u32 cls = i < CLASS_PROBES ? CTD_CLASS_UNANSWERED : CTD_CLASS_ANSWERED;
		u32 patient = i % CLASS_PROBES < CLASS_PATIENT_PROBES ? PROBE_SPARE : 0;

		if (class_probe(CTD_CLASS_INDEX(cls, family), PROBE_FORCE | patient) == PROBE_KILLED)
			return 1;
	}
	return 0;
}

/* More connections of a family than it may have? */
static __always_inline int family_full(u32 family)
{
	s64 live = class_live(CTD_CLASS_UNANSWERED, family) + class_live(CTD_CLASS_ANSWERED, family) +
		   class_live(CTD_CLASS_ASSURED, family);

	return live > (s64)ctd_config.family_capacity[family == CTD_IPV6];
}

/* The whole table is full: somebody of the family that has more of the unanswered, else of the other. */
static __always_inline int table_make_room(void)
{
	u32 first = class_live(CTD_CLASS_UNANSWERED, CTD_IPV4) >= class_live(CTD_CLASS_UNANSWERED, CTD_IPV6) ? CTD_IPV4
													     : CTD_IPV6;

	return family_make_room(first) || family_make_room(first == CTD_IPV4 ? CTD_IPV6 : CTD_IPV4);
}

/* 1 if this call moved the record to `cls`. Another CPU may promote it at the same time: `ctl` follows. */
static __always_inline int class_set(struct ctd_conn *conn, u32 *ctl, u32 cls, u32 *from)
{
	for (int i = 0; i < CTD_CLASS_COUNT; i++) {
		u32 next = CTD_CTL(CTD_CTL_SEQ(*ctl), cls, CTD_CONN_VALID), seen;

		*from = CTD_CTL_CLASS(*ctl);
		if (*from >= cls)
			return 0;
		seen = atomic_cmpxchg(&conn->ctl, *ctl, next);
		if (seen == *ctl) {
			*ctl = next;
			return 1;
		}
		if (CTD_CTL_SEQ(seen) != CTD_CTL_SEQ(*ctl) || CTD_CTL_LIFE(seen) != CTD_CONN_VALID)
			return 0;
		*ctl = seen;
	}
	return 0;
}

/*
 * Moves a connection to a better class. Its record stays where it is and its old ring entry is stale from now on. One
 * that is answered but finds no place among its like stays among the unanswered.
 */
static __always_inline void conn_promote(struct ctd_conn *conn, u32 id, u32 *ctl, u32 cls)
{
	u32 source = conn->source, family = conn->orig.family, index = CTD_CLASS_INDEX(cls, family), from;

	if (CTD_CTL_CLASS(*ctl) >= cls || !class_reserve(index, source))
		return;
	if (!class_set(conn, ctl, cls, &from)) {
		class_leave(index, source);
		return;
	}
	class_leave(CTD_CLASS_INDEX(from, family), source);
	class_stand(index, id, CTD_CTL_SEQ(*ctl));
}

#endif
