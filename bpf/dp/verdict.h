/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Making verdicts: what a settled connection's packets are spared next time. Read by dp/fast.h. */
#ifndef CTD_DP_VERDICT_H
#define CTD_DP_VERDICT_H

#include "ct/table.h"
#include "dp/nexthop.h"

static __always_inline void guard_of(struct ctd_guard *g, const struct scratch *s)
{
	g->in_port = (u16)s->pkt.in_port;
	g->vlan_tci = s->pkt.vlan_tci;
	g->pkt_mark = s->key.key.pkt_mark;
	__builtin_memcpy(g->eth_dst, s->pkt.eth_dst, 6);
	__builtin_memcpy(g->eth_src, s->pkt.eth_src, 6);
	g->ip_tos = s->pkt.tos;
	g->verdict = 0;
	g->mask = 0;
}

/* Does the packet agree with a verdict's guard? */
static __always_inline int guard_ok(const struct ctd_guard *want, const struct ctd_guard *have)
{
	u32 id = want->mask;
	const u64 *mask = map_lookup(&guard_masks, &id);
	const u64 *a = (const u64 *)want, *b = (const u64 *)have;
	/* The last 24 bits of the value are flags and the mask's name; those of a mask are zero. */

	return mask && !((a[0] ^ b[0]) & mask[0]) && !((a[1] ^ b[1]) & mask[1]) && !((a[2] ^ b[2]) & mask[2]);
}

static __always_inline u16 credit_clock(u32 jiffies)
{
	return (u16)(jiffies >> CTD_CREDIT_SHIFT);
}

static __always_inline void verdict_fill(struct ctd_verdict_head *v, struct ctd_verdict_tail *tail,
					 const struct scratch *s, const struct ctd_conn *conn, u32 next_hop)
{
	v->tag = tuple_tag(&s->ct.tuple);
	v->version = s->version;
	v->conn = s->ct.conn;
	v->credited = credit_clock((u32)now_jiffies());
	v->next_hop = (u16)next_hop;
	v->pending = 0;
	guard_of(&v->guard, s);
	v->guard.mask = (u16)s->guard;
	if (conn->orig.proto == IPPROTO_TCP && !(conn->tcp_syn_flags & CTD_TCPW_LIBERAL))
		v->guard.verdict = CTD_VERDICT_WINDOW;
	tail->conn_seq = s->ct.conn_seq;
	tail->nat = s->ct.nat_done;
	tail->dir = s->ct.dir;
	tail->flow_count = (u8)s->flow_count;
#pragma unroll
	for (int i = 0; i < CTD_VERDICT_FLOWS; i++) {
		tail->flow[i] = s->flow[i];
		tail->flow_gen[i] = s->flow_gen[i];
	}
}

/* Is the verdict that is there already the one that we would write? */
static __always_inline int verdict_current(const struct ctd_verdict_head *v, const struct ctd_verdict_tail *tail,
					   const struct scratch *s, u32 next_hop)
{
	return v->version == s->version && v->conn == s->ct.conn && tail->conn_seq == s->ct.conn_seq &&
	       v->next_hop == next_hop;
}

static __always_inline void verdict4_make(struct scratch *s, struct ctd_conn *conn, u32 next_hop)
{
	struct ctd_verdict4 *v, fresh = {};
	struct ctd_tuple4 key;

	tuple4_of(&key, &s->ct.tuple);
	v = map_lookup(&ct_cache4, &key);
	if (v) {
		if (verdict_current(&v->head, &v->tail, s, next_hop))
			return;
		verdict_end(conn, &v->head, &v->tail, s->ct.dir);
	}
	verdict_fill(&fresh.head, &fresh.tail, s, conn, next_hop);
	fresh.src = s->pkt.tuple.src.v4;
	fresh.dst = s->pkt.tuple.dst.v4;
	fresh.sport = s->pkt.tuple.sport;
	fresh.dport = s->pkt.tuple.dport;
	fresh.tag_end = fresh.head.tag;
	if (!map_update(&ct_cache4, &key, &fresh, BPF_ANY))
		count(s->pkt.port, CTD_COUNT_FAST_MADE);
}

static __always_inline void verdict6_make(struct scratch *s, struct ctd_conn *conn, u32 next_hop)
{
	/* Too large for the stack beside everything else; the buffer is free at this stage. */
	struct ctd_verdict6 *v, *fresh = (struct ctd_verdict6 *)s->buffer;

	v = map_lookup(&ct_cache6, &s->ct.tuple);
	if (v) {
		if (verdict_current(&v->head, &v->tail, s, next_hop))
			return;
		verdict_end(conn, &v->head, &v->tail, s->ct.dir);
	}
	__builtin_memset(fresh, 0, sizeof(*fresh));
	verdict_fill(&fresh->head, &fresh->tail, s, conn, next_hop);
	fresh->src = s->pkt.tuple.src;
	fresh->dst = s->pkt.tuple.dst;
	fresh->sport = s->pkt.tuple.sport;
	fresh->dport = s->pkt.tuple.dport;
	fresh->tag_end = fresh->head.tag;
	if (!map_update(&ct_cache6, &s->ct.tuple, fresh, BPF_ANY))
		count(s->pkt.port, CTD_COUNT_FAST_MADE);
}

/*
 * A connection that ended or left its settled state, or a mark or label that was set meanwhile, may want another
 * verdict. Who does that removes verdicts afterwards, so either that removal or this look sees the other.
 */
static __always_inline int verdict_outdated(const struct scratch *s, const struct ctd_conn *conn)
{
	u32 ctl;

	mem_barrier();
	ctl = read_once(conn->ctl);
	return CTD_CTL_LIFE(ctl) != CTD_CONN_VALID || CTD_CTL_SEQ(ctl) != s->ct.conn_seq ||
	       (conn->orig.proto == IPPROTO_TCP && read_once(conn->state) != CTD_TCP_ESTABLISHED) ||
	       read_once(conn->mark) != s->key.key.ct_mark ||
	       __builtin_memcmp(conn->label, s->key.key.ct_label, sizeof(conn->label));
}

/* Called where a forwarded packet leaves, before its TTL changes. */
static __always_inline void verdict_make(CTX *ctx, struct scratch *s, const struct ctd_port *out)
{
	struct ctd_conn *conn = conn_get(s->ct.conn);
	struct ctd_rt *rt = rt_get();
	u32 next_hop;

	if (!conn || !rt || s->guard == CTD_GUARD_NONE || s->flow_count > CTD_VERDICT_FLOWS || !s->pkt.l2_len ||
	    out->flags & CTD_PORT_L3 || s->pkt.flags & PACKET_RESUMED)
		return;
	next_hop = next_hop_get(ctx, s, out);
	if (!next_hop)
		return;
	/* Made under the version that was read before any table; if it has moved on, the verdict is void at once. */
	if (s->pkt.tuple.family == CTD_IPV4)
		verdict4_make(s, conn, next_hop);
	else
		verdict6_make(s, conn, next_hop);
	if (verdict_outdated(s, conn))
		verdict_remove(conn, &s->ct.tuple, s->ct.dir);
}

#endif
