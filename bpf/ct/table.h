/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connection table: finding, confirming, killing. Rules of concurrency:
 *  - a tuple's insertion with BPF_NOEXIST is its only reservation; its value is a hint, the record's tuple decides;
 *  - ctl changes life and class by compare-and-swap only; nobody writes to a record after it is dead but who has moved
 * it from dead to busy, and that one destroys it;
 *  - destroying may happen under readers: they compare ctl again after reading.
 */
#ifndef CTD_CT_TABLE_H
#define CTD_CT_TABLE_H

#include "core/count.h"
#include "core/hash.h"
#include "ct/event.h"
#include "ct/ids.h"
#include "ct/zone.h"

#define E_EXIST 17 /* errno of an insertion with BPF_NOEXIST */

struct found {
	struct ctd_conn *conn;
	u32 id;
	u32 ctl;
	u8 dir;
	u8 dead; /* its record is dead, the tuple not yet gone */
};

static __always_inline struct ctd_tuple_ref *tuple_ref(const struct ctd_tuple *t)
{
	struct ctd_tuple4 k4;

	if (t->family == CTD_IPV6)
		return map_lookup(&ct_tuple6, t);
	tuple4_of(&k4, t);
	return map_lookup(&ct_tuple4, &k4);
}

/*
 * Reserves a tuple of a connection. 0, or a negative error: -EEXIST when somebody has it. A function of its own:
 * inlined, its keys would make the deepest chain of calls too deep for the verifier of 6.1.
 */
CTD_GLOBAL int tuple_insert(u32 id, u32 dir)
{
	struct ctd_conn *conn = conn_get(id);
	struct ctd_tuple_ref ref = {.conn = id, .dir = (u8)(dir & 1)};
	const struct ctd_tuple *t;
	struct ctd_tuple4 k4;

	if (!conn)
		return -1;
	t = dir ? &conn->reply : &conn->orig;
	ref.seq = CTD_CTL_SEQ(conn->ctl);
	ref.tag = tuple_tag(t);
	if (t->family == CTD_IPV6)
		return (int)map_update(&ct_tuple6, t, &ref, BPF_NOEXIST);
	tuple4_of(&k4, t);
	return (int)map_update(&ct_tuple4, &k4, &ref, BPF_NOEXIST);
}

static __always_inline long tuple_remove(const struct ctd_tuple *t)
{
	struct ctd_tuple4 k4;

	if (t->family == CTD_IPV6)
		return map_delete(&ct_tuple6, t);
	tuple4_of(&k4, t);
	return map_delete(&ct_tuple4, &k4);
}

/* Takes a tuple out of the table if it is `id`'s. Non-zero: it could not be taken out now (-EBUSY). */
static __always_inline long tuple_release(const struct ctd_tuple *t, u32 id)
{
	struct ctd_tuple_ref *ref = tuple_ref(t);

	return ref && read_once(ref->conn) == id ? tuple_remove(t) : 0;
}

/* Both tuples of a connection; as tuple_release(). A function of its own for the stack's sake, as tuple_insert(). */
CTD_GLOBAL int conn_release(u32 id)
{
	struct ctd_conn *conn = conn_get(id);

	return conn && (tuple_release(&conn->orig, id) || tuple_release(&conn->reply, id));
}

/* Looks a tuple up. 1: found (see `dead`), 0: nobody has it or its record is not confirmed yet. */
static __always_inline int conn_find(const struct ctd_tuple *t, struct found *f)
{
	struct ctd_tuple_ref *ref = tuple_ref(t);
	struct ctd_conn *conn;
	u32 life;

	if (!ref)
		return 0;
	f->id = read_once(ref->conn);
	f->dir = read_once(ref->dir) & 1;
	conn = conn_get(f->id);
	if (!conn)
		return 0;
	f->ctl = read_once(conn->ctl);
	mem_barrier();
	life = CTD_CTL_LIFE(f->ctl);
	if (life != CTD_CONN_VALID && life != CTD_CONN_DEAD)
		return 0;
	if (!tuple_equal(t, f->dir ? &conn->reply : &conn->orig))
		return 0;
	mem_barrier();
	if (read_once(conn->ctl) != f->ctl)
		return 0;
	f->conn = conn;
	f->dead = life == CTD_CONN_DEAD;
	return 1;
}

/* Flows count layer 2, verdicts layer 3. */
#define L2_BYTES 14u

static __always_inline void flows_credit(const struct ctd_verdict_tail *tail, u64 packets, u64 bytes)
{
#pragma unroll
	for (int i = 0; i < CTD_VERDICT_FLOWS; i++) {
		u32 slot = tail->flow[i];
		struct ctd_flow *flow;

		if (i >= tail->flow_count)
			break;
		flow = map_lookup(&flows, &slot);
		if (!flow || flow->gen != tail->flow_gen[i])
			continue;
		atomic_add(&flow->packets, packets);
		atomic_add(&flow->bytes, bytes + packets * L2_BYTES);
		flow->used = (u32)now_jiffies();
	}
}

/* Adds what a verdict has collected to the record and to the flows that the packets were spared. 1 if there was any. */
static __always_inline int verdict_credit(struct ctd_verdict_head *v, const struct ctd_verdict_tail *tail,
					  struct ctd_conn *conn)
{
	u64 pending = atomic_xchg(&v->pending, 0), packets = pending >> CTD_PENDING_SHIFT;
	u64 bytes = pending & (CTD_PENDING(1, 0) - 1);

	if (!pending)
		return 0;
	atomic_add(&conn->count[tail->dir & 1].packets, packets);
	atomic_add(&conn->count[tail->dir & 1].bytes, bytes);
	flows_credit(tail, packets, bytes);
	return 1;
}

/*
 * Of a verdict that has collected packets since it was credited, which the fast path does once a second: the last one
 * came within a second of what the record says.
 */
static __always_inline void seen_late(struct ctd_conn *conn, u8 dir)
{
	u32 now = (u32)now_jiffies(), latest = read_once(conn->last_seen[dir & 1]) + ctd_config.hz;

	write_once(conn->last_seen[dir & 1], (s32)(now - latest) < 0 ? now : latest);
}

/* Takes the verdict of one direction out of the cache, credited if it is this connection's. */
static __always_inline void verdict_end(struct ctd_conn *conn, struct ctd_verdict_head *v,
					const struct ctd_verdict_tail *tail, u8 dir)
{
	if (v->conn == conn->id && tail->conn_seq == CTD_CTL_SEQ(read_once(conn->ctl)) && verdict_credit(v, tail, conn))
		seen_late(conn, dir);
}

static __always_inline void verdict_remove(struct ctd_conn *conn, const struct ctd_tuple *t, u8 dir)
{
	if (t->family == CTD_IPV6) {
		struct ctd_verdict6 *v = map_lookup(&ct_cache6, t);

		if (v) {
			verdict_end(conn, &v->head, &v->tail, dir);
			map_delete(&ct_cache6, t);
		}
	} else {
		struct ctd_tuple4 k4;
		struct ctd_verdict4 *v;

		tuple4_of(&k4, t);
		v = map_lookup(&ct_cache4, &k4);
		if (v) {
			verdict_end(conn, &v->head, &v->tail, dir);
			map_delete(&ct_cache4, &k4);
		}
	}
}

/* Whatever changes what the fast path does or may skip: state, mark, label, helper, NAT. */
CTD_GLOBAL int conn_drop_verdicts(u32 id)
{
	struct ctd_conn *conn = conn_get(id);

	if (!conn)
		return 0;
	verdict_remove(conn, &conn->orig, CTD_DIR_ORIG);
	verdict_remove(conn, &conn->reply, CTD_DIR_REPLY);
	return 0;
}

/* The counter of a source in a ring; see map `ct_sources`. */
static __always_inline u32 *source_count(u32 index, u32 source)
{
	u32 key = CTD_CLASS_RING(index) * CTD_SOURCES + ((source - 1) & (CTD_SOURCES - 1));

	return map_lookup(&ct_sources, &key);
}

/* One more member of a class (`index`: CTD_CLASS_INDEX). 1 if its source has more than its share now. */
CTD_GLOBAL int class_enter(u32 index, u32 source)
{
	struct ctd_class *c = map_lookup(&ct_class, &index);
	u32 *n, before;

	if (!c)
		return 0;
	atomic_add(&c->live, 1);
	if (!c->size)
		return 0;
	n = source_count(index, source);
	if (!n)
		return 0;
	before = atomic_add(n, 1);
	if (before == c->share)
		atomic_add(&c->over, 1);
	return before >= c->share;
}

CTD_GLOBAL int class_leave(u32 index, u32 source)
{
	struct ctd_class *c = map_lookup(&ct_class, &index);
	u32 *n;

	if (!c)
		return 0;
	atomic_add(&c->live, -1);
	if (!c->size)
		return 0;
	n = source_count(index, source);
	if (n && atomic_add(n, -1) == c->share + 1)
		atomic_add(&c->over, -1);
	return 0;
}

/*
 * When the sweep is to look at a connection next. 0 means free, so a due time of 0 becomes 1.
 */
static __always_inline void check_set(u32 id, u32 due)
{
	u32 *check = map_lookup(&ct_check, &id);

	if (check)
		write_once(*check, due ? due : 1);
}

/* As check_set(), by the sweep, which has seen `seen`: a packet that has shortened the timeout meanwhile knows better.
 */
static __always_inline void check_move(u32 id, u32 seen, u32 due)
{
	u32 *check = map_lookup(&ct_check, &id);

	if (check)
		atomic_cmpxchg(check, seen, due ? due : 1);
}

/* No later than `due`: an earlier look finds out for itself. Mostly a read, for what shortens a timeout often. */
static __always_inline void check_by(u32 id, u32 due)
{
	u32 *check = map_lookup(&ct_check, &id);

	if (check && (s32)(read_once(*check) - due) > 0)
		write_once(*check, due ? due : 1);
}

/* The holder needs a microsecond; an interrupt meanwhile takes tens of them. This is some hundred. */
#define LOCK_SPINS (1u << 14)

struct lock_wait {
	u32 id;
	u32 locked;
};

static long lock_step(CTD_UNUSED u32 i, void *arg)
{
	struct lock_wait *wait = arg;
	struct ctd_conn *conn = conn_get(wait->id);

	if (!conn)
		return 1;
	cpu_relax();
	wait->locked = !read_once(conn->lock) && atomic_cmpxchg(&conn->lock, 0, 1) == 0;
	return wait->locked;
}

CTD_GLOBAL int conn_lock_wait(u32 id)
{
	struct lock_wait wait = {.id = id};

	loop(LOCK_SPINS, lock_step, &wait);
	return (int)wait.locked;
}

/* 1 if the record is locked now and still the one that `ctl`'s sequence names. */
static __always_inline int conn_lock(struct ctd_conn *conn, u32 ctl)
{
	u32 now;

	if (atomic_cmpxchg(&conn->lock, 0, 1) != 0 && !conn_lock_wait(conn->id))
		return 0;
	now = read_once(conn->ctl);
	if (CTD_CTL_SEQ(now) == CTD_CTL_SEQ(ctl) && CTD_CTL_LIFE(now) != CTD_CONN_FREE)
		return 1;
	atomic_xchg(&conn->lock, 0);
	return 0;
}

/* Publishes what was written to the record before. */
static __always_inline void conn_release_ctl(struct ctd_conn *conn, u32 ctl)
{
	atomic_xchg(&conn->ctl, ctl);
}

static __always_inline void conn_unlock(struct ctd_conn *conn)
{
	atomic_xchg(&conn->lock, 0);
}

static __always_inline u32 last_seen(const struct ctd_conn *conn)
{
	u32 last = read_once(conn->last_seen[0]), reply = read_once(conn->last_seen[1]);

	return reply && (s32)(reply - last) > 0 ? reply : last;
}

/* Does a timeout that the operator set still hold? */
static __always_inline int expires_is_set(const struct ctd_conn *conn, u32 last)
{
	return read_once(conn->expires) && read_once(conn->expires_seen) == last;
}

/* When the connection expires, in jiffies: its later direction counts. */
static __always_inline u32 conn_expires(const struct ctd_conn *conn)
{
	u32 last = last_seen(conn);

	return expires_is_set(conn, last) ? read_once(conn->expires) : last + read_once(conn->timeout);
}

/* A dead record that could not be taken apart now: the sweep tries again, and does not revive what is half gone. */
static __always_inline void conn_linger(struct ctd_conn *conn, u32 id, u32 ctl)
{
	write_once(conn->timeout, 0);
	write_once(conn->expires, 0);
	check_set(id, (u32)now_jiffies() + 1);
	conn_release_ctl(conn, CTD_CTL_WITH_LIFE(ctl, CTD_CONN_DEAD));
}

/* The record was CTD_CONN_DEAD, is CTD_CONN_BUSY and ours: tuples, verdicts and the id go. 1 if they did. */
CTD_GLOBAL int conn_destroy(u32 id)
{
	struct ctd_conn *conn = conn_get(id);
	struct ctd_rt *rt = rt_get();
	u32 *check, ctl;

	if (!conn || !rt)
		return 0;
	ctl = read_once(conn->ctl);
	/* A packet that found the connection alive may still be writing to it. */
	if (!conn_lock(conn, ctl)) {
		conn_linger(conn, id, ctl);
		return 0;
	}
	conn_drop_verdicts(id);
	if (conn_release(id)) {
		conn_unlock(conn);
		conn_linger(conn, id, ctl);
		return 0;
	}
	class_leave(CTD_CLASS_INDEX(CTD_CTL_CLASS(ctl), conn->orig.family), conn->source);
	zone_leave(conn->orig.zone);
	atomic_add(&rt->conns, -1);
	if (read_once(conn->status) & CTD_STATUS_CONFIRMED) {
		write_once(conn->end_reason, (u8)CTD_CTL_END(ctl));
		count_ended(CTD_CTL_END(ctl));
		event(id, CTD_EVENT_DESTROY);
	}
	check = map_lookup(&ct_check, &id);
	if (check)
		write_once(*check, 0);
	conn_release_ctl(conn, CTD_CTL(CTD_CTL_SEQ(ctl) + 1, 0, CTD_CONN_FREE));
	conn_unlock(conn);
	id_free(id, conn);
	return 1;
}

/* Sets bits of the status of the connection that `ctl` names; 0 if the record is another's by now. */
static __always_inline int status_set(struct ctd_conn *conn, u32 ctl, u32 bits)
{
	if (!conn_lock(conn, ctl))
		return 0;
	atomic_or(&conn->status, bits);
	conn_unlock(conn);
	return 1;
}

/* Makes a connection dead if it is still as `ctl` says; 1 if it was this call that did. `why`: enum ctd_end_reason. */
static __always_inline int conn_make_dead(struct ctd_conn *conn, u32 ctl, u8 why)
{
	return CTD_CTL_LIFE(ctl) == CTD_CONN_VALID && atomic_cmpxchg(&conn->ctl, ctl, CTD_CTL_DEAD(ctl, why)) == ctl;
}

/*
 * Dead connections are destroyed by the sweep a tick after they died; whoever needs the tuple earlier takes over by
 * moving the life to BUSY, so that just one destroys.
 */
static __always_inline int conn_reap(struct ctd_conn *conn, u32 id)
{
	u32 ctl = read_once(conn->ctl);

	if (CTD_CTL_LIFE(ctl) != CTD_CONN_DEAD)
		return 0;
	if (atomic_cmpxchg(&conn->ctl, ctl, CTD_CTL_WITH_LIFE(ctl, CTD_CONN_BUSY)) != ctl)
		return 0;
	return conn_destroy(id);
}

/* Has it been idle for longer than its timeout? What the fast path has seen meanwhile is credited first. */
static __always_inline int conn_expired(struct ctd_conn *conn, u32 id)
{
	u32 now = (u32)now_jiffies();

	if ((s32)(now - conn_expires(conn)) < 0)
		return 0;
	conn_drop_verdicts(id);
	return (s32)(now - conn_expires(conn)) >= 0;
}

/* Why a connection ends that has been idle for so long. */
static __always_inline u8 conn_idle_end(const struct ctd_conn *conn)
{
	return read_once(conn->timeout) ? CTD_END_TIMEOUT : CTD_END_REFUSED;
}

static __always_inline int conn_kill(struct ctd_conn *conn, u32 id, u32 ctl, u8 why)
{
	return conn_make_dead(conn, ctl, why) && conn_reap(conn, id);
}

#endif
