/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Choosing a mapping. It is reserved by inserting the reply tuple: uniqueness is the table's own. The port is kept if
 * it is free (RFC 4787 calls it port preservation); else one of the same kind is looked for from a random place, with a
 * bound on the attempts, so that a full range is an error and never a hang.
 */
#ifndef CTD_NAT_SELECT_H
#define CTD_NAT_SELECT_H

#include "ct/table.h"

#define NAT_ATTEMPTS 128

struct nat_search {
	u32 id;
	u32 min; /* host order */
	u32 size;
	u32 start;
	long error; /* 0 once reserved */
};

/* The field of the reply tuple that a source mapping may change: the port, or the identifier of an ICMP query. */
static __always_inline be16 *mapped_port(struct ctd_tuple *reply)
{
	return proto_is_icmp(reply->proto) ? &reply->sport : &reply->dport;
}

static long nat_try(u32 i, void *arg)
{
	struct nat_search *search = arg;
	struct ctd_conn *conn = conn_get(search->id);

	if (!conn || !search->size) {
		search->error = -1;
		return 1;
	}
	/* An odd step walks all of the range's residues before it repeats one. */
	*mapped_port(&conn->reply) = host_htons((u16)(search->min + (search->start + i * 7919u) % search->size));
	search->error = tuple_insert(search->id, CTD_DIR_REPLY);
	return search->error != -E_EXIST;
}

/* Ports of the same kind, as the kernel's masquerade: a privileged port stays privileged. RFC 4787, section 4.2.2. */
static __always_inline void same_kind(u32 port, u32 *min, u32 *max)
{
	if (port < 512) {
		*min = 1;
		*max = 511;
	} else if (port < 1024) {
		*min = 600;
		*max = 1023;
	} else {
		*min = 1024;
		*max = 65535;
	}
}

/* An address of the range: always the same one for a client, as RFC 4787 REQ-2 (paired) asks. */
static __always_inline void range_pick(struct ctd_addr *to, const struct ctd_nat_args *args,
				       const struct ctd_addr *client)
{
	u64 h = ctd_hash_end(ctd_hash_step(ctd_hash_step(ctd_config.seed, client->q[0]), client->q[1]));
	/* The last 32 bits count; a range has one prefix. */
	u32 low = args->family == CTD_IPV4 ? 0 : 3;
	u32 min = host_ntohl(args->min_addr.w[low]), size = host_ntohl(args->max_addr.w[low]) - min + 1;

	*to = args->min_addr;
	if (size > 1)
		to->w[low] = host_htonl(min + (u32)h % size);
}

/*
 * Is the reply tuple the original of a connection that another CPU is just making? That may be the same connection,
 * seen from its other end: whether it is, shows when it is published.
 */
CTD_GLOBAL int reply_unborn(u32 id)
{
	struct ctd_conn *conn = conn_get(id);
	struct ctd_tuple_ref *ref;

	if (!conn)
		return 0;
	ref = tuple_ref(&conn->reply);
	if (!ref || read_once(ref->dir) != CTD_DIR_ORIG)
		return 0;
	conn = conn_get(read_once(ref->conn));
	return conn && CTD_CTL_LIFE(read_once(conn->ctl)) == CTD_CONN_BUSY;
}

/*
 * Sets the reply tuple's addresses and ports by `args` and inserts it. Answers a drop reason. For masquerade the caller
 * has set the address.
 */
static __always_inline int nat_reserve(struct ctd_conn *conn, u32 id, const struct ctd_nat_args *args)
{
	struct nat_search search = {.id = id};
	struct ctd_tuple *reply = &conn->reply;
	u32 max = 65535, port;

	if (args->flags & CTD_NAT_ADDR && args->family != conn->orig.family)
		return CTD_DROP_NAT_NO_ADDRESS;
	if (args->flags & CTD_NAT_SRC && args->flags & CTD_NAT_ADDR) {
		range_pick(&reply->dst, args, &conn->orig.src);
	} else if (args->flags & CTD_NAT_DST) {
		if (args->flags & CTD_NAT_ADDR)
			range_pick(&reply->src, args, &conn->orig.src);
		if (args->flags & CTD_NAT_PORTS && !proto_is_icmp(reply->proto))
			reply->sport = host_htons(args->min_port);
	}

	port = host_ntohs(*mapped_port(reply));
	if (args->flags & CTD_NAT_PORTS && args->flags & CTD_NAT_SRC) {
		search.min = args->min_port;
		max = args->max_port;
	} else if (proto_is_icmp(reply->proto)) {
		search.min = 0;
	} else {
		same_kind(port, &search.min, &max);
	}
	if (!has_ports(reply) || (port >= search.min && port <= max)) {
		search.error = tuple_insert(id, CTD_DIR_REPLY);
		if (!search.error)
			return CTD_DROP_NONE;
		if (search.error != -E_EXIST)
			return CTD_DROP_CT_FULL;
		if (reply_unborn(id))
			return CTD_DROP_CT_CLASH;
		if (!has_ports(reply))
			return CTD_DROP_NAT_EXHAUSTED;
	}
	if (max < search.min)
		return CTD_DROP_NAT_EXHAUSTED;
	search.size = max - search.min + 1;
	search.start = random32() & 0xffff;
	search.error = -E_EXIST;
	loop(search.size < NAT_ATTEMPTS ? search.size : NAT_ATTEMPTS, nat_try, &search);
	if (search.error == -E_EXIST)
		return CTD_DROP_NAT_EXHAUSTED;
	return search.error ? CTD_DROP_CT_FULL : CTD_DROP_NONE;
}

#endif
