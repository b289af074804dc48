/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fast path: one look-up from parse to redirect for settled connections. Whatever could change a state (SYN, FIN,
 * RST, ICMP errors, fragments, options, a TTL at its end, a packet over the MTU) takes the long way.
 */
#ifndef CTD_DP_FAST_H
#define CTD_DP_FAST_H

#include "ct/track.h"
#include "dp/output.h"
#include "dp/verdict.h"
#include "nat/rewrite.h"

#define FAST_MISS (-1)

/* What a verdict says, copied out of an element that may be reused under us. */
struct fast {
	struct ctd_verdict_head *live;
	struct ctd_verdict_tail *tail;
	struct ctd_guard guard;
	u32 version;
	u32 next_hop;
	u16 credited;
	u8 dir; /* from here on with CTD_VERDICT_WINDOW only: they stand in a cache line of their own */
	u32 conn;
	u32 conn_seq;
};

/* Once a second: the collected counters go to the record and the flows. 0 if the connection is not there any more. */
static __always_inline int fast_credit(struct ctd_verdict_head *v, struct ctd_verdict_tail *tail, u32 now)
{
	struct ctd_conn *conn = conn_get(v->conn);
	u32 ctl;

	if (!conn)
		return 0;
	ctl = read_once(conn->ctl);
	if (CTD_CTL_SEQ(ctl) != tail->conn_seq || CTD_CTL_LIFE(ctl) != CTD_CONN_VALID)
		return 0;
	if (verdict_credit(v, tail, conn))
		seen_late(conn, tail->dir);
	if ((s32)(now - conn_expires(conn)) >= 0)
		return 0;
	v->credited = credit_clock(now);
	write_once(conn->last_seen[tail->dir & 1], now);
	if (stream_due(conn))
		conn_assure(conn, v->conn, &ctl);
	return 1;
}

/* The look-up. Fills `to` with the header as it leaves. */
static __always_inline int fast_find(const struct packet *pkt, struct fast *f, struct ctd_tuple *to)
{
	u32 tag = tuple_tag(&pkt->tuple), *tag_end;
	struct ctd_verdict_head *v;

	*to = pkt->tuple;
	if (pkt->tuple.family == CTD_IPV4) {
		struct ctd_verdict4 *v4;
		struct ctd_tuple4 key;

		tuple4_of(&key, &pkt->tuple);
		v4 = map_lookup(&ct_cache4, &key);
		if (!v4)
			return 0;
		v = &v4->head;
		tag_end = &v4->tag_end;
		to->src.v4 = v4->src;
		to->dst.v4 = v4->dst;
		to->sport = v4->sport;
		to->dport = v4->dport;
		f->tail = &v4->tail;
	} else {
		struct ctd_verdict6 *v6 = map_lookup(&ct_cache6, &pkt->tuple);

		if (!v6)
			return 0;
		v = &v6->head;
		tag_end = &v6->tag_end;
		to->src = v6->src;
		to->dst = v6->dst;
		to->sport = v6->sport;
		to->dport = v6->dport;
		f->tail = &v6->tail;
	}
	f->live = v;
	f->guard = v->guard;
	f->version = v->version;
	f->next_hop = v->next_hop;
	f->credited = v->credited;
	if (f->guard.verdict & CTD_VERDICT_WINDOW) {
		f->conn = v->conn;
		f->conn_seq = f->tail->conn_seq;
		f->dir = f->tail->dir & 1;
	}
	mem_barrier();
	return read_once(v->tag) == tag && read_once(*tag_end) == tag;
}

/* Copies a usable next hop; 0 if there is none, or if this packet is the one to check it. */
static __always_inline int fast_next_hop(struct scratch *s, u32 id, struct ctd_next_hop *to, u32 now)
{
	struct ctd_next_hop *nh = map_lookup(&next_hops, &id);
	u32 seq, checked;

	if (!nh)
		return 0;
	seq = read_once(nh->seq);
	to->ifindex = nh->ifindex;
	to->mtu = nh->mtu;
	to->out_port = nh->out_port;
	__builtin_memcpy(to->eth_dst, nh->eth_dst, 12); /* both addresses */
	mem_barrier();
	if (seq & 1 || read_once(nh->seq) != seq || !to->ifindex)
		return 0;
	checked = read_once(nh->checked);
	if ((s32)(now - checked) > (s32)(NEXT_HOP_CHECK_S * ctd_config.hz) &&
	    atomic_cmpxchg(&nh->checked, checked, now) == checked) {
		s->nh_check = id;
		return 0;
	}
	return 1;
}

static __always_inline int fast_send(CTX *ctx, struct scratch *s, const struct ctd_tuple *to,
				     const struct ctd_next_hop *nh)
{
	struct packet *pkt = &s->pkt;
	struct ethhdr *eth;

	if (rewrite(ctx, pkt, to) || decrement_ttl(ctx, pkt))
		return drop(pkt->port, CTD_DROP_REWRITE);
	eth = ctx_at(ctx, 0, sizeof(*eth));
	if (!eth)
		return drop(pkt->port, CTD_DROP_REWRITE);
	__builtin_memcpy(eth, nh->eth_dst, 12);
	return send_to(ctx, nh->out_port, nh->ifindex, pkt->len);
}

/*
 * TCP's windows stay right on the fast path too: a FIN or RST after a bulk transfer is judged by them. 0 if the segment
 * does not fit, or the record is busy: it takes the long way, which does the same again and answers for it.
 */
static __always_inline int fast_follow(CTX *ctx, struct scratch *s, const struct fast *f, u32 now)
{
	struct ctd_conn *conn = conn_get(f->conn);

	tcp_read_options(ctx, s);
	if (!conn || tcp_follow(f->conn, CTD_CTL(f->conn_seq, 0, CTD_CONN_VALID), f->dir) != TRACK_OK)
		return 0;
	write_once(conn->last_seen[f->dir & 1], now);
	return 1;
}

/* FAST_MISS, or the program's verdict. */
static __always_inline int fast_path(CTX *ctx, struct scratch *s, const struct ctd_port *port)
{
	u32 wanted = s->pkt.tuple.family == CTD_IPV4 ? CTD_PORT_FAST4 : CTD_PORT_FAST6;
	struct packet *pkt = &s->pkt;
	struct ctd_next_hop nh = {};
	struct ctd_rt *rt = rt_get();
	struct ctd_guard guard;
	struct ctd_tuple to;
	struct fast f = {};
	u32 now;

	if (!(port->flags & wanted) || !rt || !pkt->l2_len)
		return FAST_MISS;
	if ((pkt->flags & (PACKET_L4 | PACKET_OPTIONS | PACKET_ICMP_ERROR | PACKET_UNTRACKABLE)) != PACKET_L4 ||
	    pkt->frag || pkt->ttl <= 1 || pkt->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))
		return FAST_MISS;
	pkt->tuple.zone = port->fast_zone;
	if (!fast_find(pkt, &f, &to) || f.version != read_once(rt->version))
		return FAST_MISS;
	s->key.key.pkt_mark = ctx_mark(ctx);
	guard_of(&guard, s);
	if (!guard_ok(&f.guard, &guard))
		return FAST_MISS;
	now = (u32)now_jiffies();
	if (!fast_next_hop(s, f.next_hop, &nh, now) || wire_size(ctx, pkt) > nh.mtu)
		return FAST_MISS;
	if (f.guard.verdict & CTD_VERDICT_WINDOW && !fast_follow(ctx, s, &f, now))
		return FAST_MISS;
	if ((u16)(credit_clock(now) - f.credited) >= (u16)(ctd_config.hz >> CTD_CREDIT_SHIFT) &&
	    !fast_credit(f.live, f.tail, now))
		return FAST_MISS;
	atomic_add(&f.live->pending, CTD_PENDING(1, pkt->l3_len));
	count(pkt->port, CTD_COUNT_FAST_HIT);
	return fast_send(ctx, s, &to, &nh);
}

#endif
