/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Expectations, as packets meet them: a new connection looks for the one that announced it, and uses it up. Nobody
 * looks unless ctd_rt.expects says that there are any. Global functions: they stand below the deepest chain of calls,
 * whose stack the verifier of 6.1 adds up.
 *
 * Uses of the scratch record: ct; buffer, from expect_inherit() to expect_use(). Writes: the key's mark and label.
 */
#ifndef CTD_CT_EXPECT_H
#define CTD_CT_EXPECT_H

#include <ctd/abi/action.h>
#include <ctd/abi/expect.h>

#include "core/count.h"
#include "core/hash.h"

/* A copy of what was found, in s->buffer: too large for the stack. */
struct expect_copy {
	struct ctd_tuple key;
	struct ctd_expect expect;
	struct ctd_nat_args args; /* for the search of a free port */
};

static __always_inline struct expect_copy *expect_copy_of(struct scratch *s)
{
	CTD_ASSERT(sizeof(struct expect_copy) <= sizeof(s->buffer));
	return (struct expect_copy *)s->buffer;
}

/* Is the one that announced it still there? */
static __always_inline int expect_has_master(const struct ctd_expect *expect)
{
	struct ctd_conn *master = conn_get(expect->master);
	u32 ctl;

	if (!master || !read_once(master->timeout)) /* without time, it is over and waits for the sweep */
		return 0;
	ctl = read_once(master->ctl);
	return CTD_CTL_LIFE(ctl) == CTD_CONN_VALID && CTD_CTL_SEQ(ctl) == expect->master_seq;
}

static __always_inline int expect_in_time(const struct ctd_expect *expect)
{
	return (s32)((u32)now_jiffies() - expect->expires) < 0;
}

static __always_inline int expect_holds(const struct ctd_expect *expect)
{
	return expect_in_time(expect) && expect_has_master(expect);
}

static __always_inline int expect_read(struct expect_copy *copy)
{
	const struct ctd_expect *expect = map_lookup(&ct_expects, &copy->key);

	if (!expect)
		return 0;
	copy->expect = *expect;
	if (copy->expect.tag != tuple_tag(&copy->key) || copy->expect.check != copy->expect.tag + copy->expect.id)
		return 0;
	return expect_holds(&copy->expect);
}

#define SOURCE_PORT_ANY 1u
#define SOURCE_ADDR_ANY 2u
#define SOURCES 4u

/* Is the packet's connection expected? The most exact expectation is in s->buffer then. */
CTD_GLOBAL int expect_find(void)
{
	struct scratch *s = scratch_get();
	struct expect_copy *copy;

	if (!s)
		return 0;
	copy = expect_copy_of(s);
	for (u32 any = 0; any < SOURCES; any++) {
		copy->key = s->ct.tuple;
		if (any & SOURCE_PORT_ANY)
			copy->key.sport = 0;
		if (any & SOURCE_ADDR_ANY)
			__builtin_memset(&copy->key.src, 0, sizeof(copy->key.src));
		if (expect_read(copy))
			return 1;
	}
	return 0;
}

static __always_inline int expected(void)
{
	struct ctd_rt *rt = rt_get();

	return rt && read_once(rt->expects) > 0 && expect_find();
}

/* Takes an expectation out of the table; 1 if it was this call that did. */
static __always_inline int expect_remove(const struct ctd_tuple *key, enum ctd_expect_counter why)
{
	struct ctd_rt *rt = rt_get();

	if (map_delete(&ct_expects, key))
		return 0;
	if (rt)
		atomic_add(&rt->expects, -1);
	count_expect(why);
	return 1;
}

/* Mark and label of an expected connection that is not committed yet, in the flow key: its master's. */
CTD_GLOBAL int expect_key(void)
{
	struct scratch *s = scratch_get();
	struct ctd_flow_key *key;
	struct ctd_conn *master;
	struct expect_copy *copy;

	if (!s || !expect_find())
		return 0;
	copy = expect_copy_of(s);
	master = conn_get(copy->expect.master);
	if (!master)
		return 0;
	key = &s->key.key;
	key->ct_mark = read_once(master->mark);
	__builtin_memcpy(key->ct_label, master->label, sizeof(key->ct_label));
	mem_barrier();
	if (expect_holds(&copy->expect))
		return 1;
	/* What was read may be another's. */
	key->ct_mark = 0;
	__builtin_memset(key->ct_label, 0, sizeof(key->ct_label));
	return 0;
}

/* What replies will say, by the translation that the expectation asks for. */
static __always_inline void expect_translate(struct ctd_tuple *reply, const struct ctd_expect *expect)
{
	if (expect->flags & CTD_EXPECT_SNAT) {
		reply->dst = expect->nat_src;
		if (expect->nat_sport)
			reply->dport = expect->nat_sport;
	}
	if (expect->flags & CTD_EXPECT_DNAT) {
		reply->src = expect->nat_dst;
		if (expect->nat_dport)
			reply->sport = expect->nat_dport;
	}
}

/*
 * The new, unpublished record `id` becomes what was expected: it inherits mark and label, and is translated as its
 * master's helper said. 0 if nobody expects it any more.
 */
CTD_GLOBAL int expect_inherit(u32 id)
{
	struct ctd_conn *conn = conn_get(id), *master;
	struct scratch *s = scratch_get();
	struct expect_copy *copy;

	if (!conn || !s || !expect_find())
		return 0;
	copy = expect_copy_of(s);
	master = conn_get(copy->expect.master);
	if (!master)
		return 0;
	conn->status |= CTD_STATUS_EXPECTED;
	conn->master = copy->expect.master;
	conn->master_seq = copy->expect.master_seq;
	conn->helper = copy->expect.helper;
	if (conn->helper)
		conn->status |= CTD_STATUS_HELPER;
	conn->mark = read_once(master->mark);
	__builtin_memcpy(conn->label, master->label, sizeof(conn->label));
	expect_translate(&conn->reply, &copy->expect);
	__builtin_memset(&copy->args, 0, sizeof(copy->args));
	copy->args.flags = CTD_NAT_NULL; /* the mapping is there; only a free port may have to be found */
	mem_barrier();
	return expect_holds(&copy->expect); /* what was read of the master was its own */
}

/* The mapping that the expectation asks for, NULL if it leaves that to the action. */
static __always_inline const struct ctd_nat_args *expect_nat(struct scratch *s, const struct ctd_conn *conn)
{
	struct expect_copy *copy = expect_copy_of(s);

	if (!(conn->status & CTD_STATUS_EXPECTED) || !(copy->expect.flags & (CTD_EXPECT_SNAT | CTD_EXPECT_DNAT)))
		return NULL;
	return &copy->args;
}

/* The last step before the record is published: of several connections that fit an expectation one gets it. */
CTD_GLOBAL int expect_use(void)
{
	struct scratch *s = scratch_get();
	struct expect_copy *copy;

	if (!s)
		return 0;
	copy = expect_copy_of(s);
	if (!(copy->expect.flags & CTD_EXPECT_PERMANENT))
		return expect_remove(&copy->key, CTD_EXPECT_USED);
	count_expect(CTD_EXPECT_USED);
	return 1;
}

#endif
