/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers a packet that cannot be forwarded with an ICMP error (RFC 792, RFC 1812 4.3.2, RFC 4443): time exceeded,
 * unreachable, fragmentation needed, packet too big. The packet itself becomes the error. It quotes the header as it
 * came in, before translation, for that is the one its sender knows.
 *
 * Reads of the scratch record: pkt, ct, icmp_*. Uses: buffer.
 */
#ifndef CTD_DP_ICMP_ERROR_H
#define CTD_DP_ICMP_ERROR_H

#include "dp/output.h"
#include "nat/rewrite.h"

#define ERROR_QUOTE 128u /* bytes of the packet that an error quotes at most; a multiple of four */
#define ERROR_TTL 64

/* A token bucket for all of them; refilled by time. 1 if one may be sent. */
static __always_inline int error_allowed(void)
{
	u32 now = (u32)now_jiffies(), rate = ctd_config.icmp_rate, hz = ctd_config.hz;
	struct ctd_rt *rt = rt_get();

	if (!rt || !rate || !hz)
		return 0;
	for (int i = 0; i < 4; i++) {
		u64 old = read_once(rt->icmp_tokens);
		u32 passed = now - (u32)(old >> 32), tokens = (u32)old;
		u64 filled = passed > hz ? rate : tokens + (u64)passed * rate / hz;

		if (filled > rate)
			filled = rate;
		if (!filled)
			return 0;
		if (atomic_cmpxchg(&rt->icmp_tokens, old, ((u64)now << 32) | (u32)(filled - 1)) == old)
			return 1;
	}
	return 0;
}

/* RFC 1122 3.2.2, RFC 4443 2.4: what must never be answered. */
static __always_inline int error_due(const struct packet *pkt)
{
	if (pkt->flags & (PACKET_ICMP_ERROR | PACKET_L2_MULTICAST) || pkt->frag == CTD_FRAG_LATER)
		return 0;
	if (pkt->egress || !pkt->l2_len || !(pkt->flags & PACKET_IP))
		return 0;
	return 1;
}

/* The same length, 1..ERROR_QUOTE, in a form that every verifier follows. */
static __always_inline u32 quote_bound(u32 quote)
{
	quote--;
	value_barrier(quote);
	return (quote & (ERROR_QUOTE - 1)) + 1;
}

/*
 * The quote: the first bytes of the packet in s->buffer, zeros behind them; its header made again what it was before
 * translation, layer 4 checksum included.
 */
static __always_inline int error_quote(CTX *ctx, struct scratch *s, u32 quote)
{
	const struct ctd_tuple *was = &s->ct.tuple;
	u32 l4 = s->pkt.l4_off - s->pkt.l3_off, check = l4_csum_offset(was->proto);
	u32 addrs = addr_diff(&s->pkt.tuple, was), diff;
	u8 *b = s->buffer;
	be16 *sum;

	__builtin_memset(b, 0, ERROR_QUOTE);
	if (ctx_load(ctx, s->pkt.l3_off, b, quote_bound(quote)))
		return -1;
	if (!s->ct.nat_done)
		return 0;
	if (was->family == CTD_IPV4) {
		struct iphdr *ip = (struct iphdr *)b;

		ip->saddr = was->src.v4;
		ip->daddr = was->dst.v4;
		ip->check = csum_apply(ip->check, addrs);
	} else {
		__builtin_memcpy(b + offsetof(struct ipv6hdr, saddr), &was->src, 32);
	}
	value_barrier(l4);
	if (!(s->pkt.flags & PACKET_L4) || l4 > ERROR_QUOTE - 20)
		return 0;
	diff = csum_fold(port_diff(&s->pkt.tuple, was)) + csum_fold(was->proto == IPPROTO_ICMP ? 0 : addrs);
	if (proto_is_icmp(was->proto)) {
		*(be16 *)(b + l4 + 4) = was->sport;
	} else {
		*(be16 *)(b + l4) = was->sport;
		*(be16 *)(b + l4 + 2) = was->dport;
	}
	if (was->proto == IPPROTO_SCTP && !ctx_csum_partial(ctx))
		*(u32 *)(b + l4 + offsetof(struct sctp_header, check)) ^=
			sctp_check_diff(&s->pkt.tuple, was, s->pkt.l3_len - l4);
	value_barrier(check);
	if (!check || check > 18)
		return 0;
	sum = (be16 *)(b + l4 + check);
	if (was->proto != IPPROTO_UDP || *sum)
		*sum = csum_apply(*sum, diff);
	return 0;
}

/*
 * A local sender's packet has a partial checksum: when it leaves through a real device, the kernel sums everything from
 * the quoted layer 4 header on and writes the result into its checksum field, which would spoil our own checksum. So
 * the field gets the value that such a sum reproduces: X = ~(S + X), that is X = ~S / 2 in one's complement. As the
 * quote is cut, a checksum there says nothing anyway.
 */
static __always_inline void error_settle_partial(struct scratch *s)
{
	u32 l4 = s->pkt.l4_off - s->pkt.l3_off, check = l4_csum_offset(s->pkt.tuple.proto), inverse;
	u8 *b = s->buffer;

	value_barrier(l4);
	value_barrier(check);
	if (!check || check > 18 || l4 > ERROR_QUOTE - 20 || l4 & 3)
		return;
	*(be16 *)(b + l4 + check) = 0;
	inverse = (u16)~csum_fold((u32)csum_diff(NULL, 0, (void *)(b + l4), ERROR_QUOTE - l4, 0));
	inverse = inverse & 1 ? (inverse + 0xffff) >> 1 : inverse >> 1;
	*(be16 *)(b + l4 + check) = (be16)(inverse ? inverse : 0xffff);
}

struct error4 {
	struct ethhdr eth;
	struct iphdr ip;
	struct icmp_header icmp;
} __attribute__((packed));
CTD_ASSERT_SIZE(struct error4, 42);

struct error6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct icmp_header icmp;
} __attribute__((packed));
CTD_ASSERT_SIZE(struct error6, 62);

static __always_inline void error_eth(struct ethhdr *eth, const struct scratch *s, const struct ctd_port *port,
				      be16 type)
{
	__builtin_memcpy(eth->h_dest, s->pkt.eth_src, 6);
	__builtin_memcpy(eth->h_source, port->mac, 6);
	eth->h_proto = type;
}

/* The ICMP header, without its checksum. The last word is the MTU of "fragmentation needed" and "packet too big". */
static __always_inline u64 error_icmp(const struct scratch *s)
{
	u64 info = s->pkt.tuple.family == CTD_IPV4 ? host_htonl(s->icmp_info & 0xffff) : host_htonl(s->icmp_info);

	return info << 32 | (u64)s->icmp_code << 8 | s->icmp_type;
}

static __always_inline int error4_send(CTX *ctx, struct scratch *s, const struct ctd_port *port, u32 quote)
{
	u32 words[2], sum;
	struct error4 e = {};
	u64 icmp = error_icmp(s);

	if (!port->addr4)
		return -1;
	error_eth(&e.eth, s, port, host_htons(ETH_P_IP));
	e.ip.version = 4;
	e.ip.ihl = 5;
	e.ip.tos = 0xc0; /* internetwork control, RFC 1812 4.3.2.5 */
	e.ip.tot_len = host_htons((u16)(sizeof(e.ip) + sizeof(e.icmp) + quote));
	e.ip.ttl = ERROR_TTL;
	e.ip.protocol = IPPROTO_ICMP;
	e.ip.saddr = port->addr4;
	e.ip.daddr = s->ct.tuple.src.v4;
	{
		struct iphdr ip = e.ip;

		e.ip.check = (be16)~csum_fold((u32)csum_diff(NULL, 0, (void *)&ip, sizeof(ip), 0));
	}
	words[0] = (u32)icmp;
	words[1] = (u32)(icmp >> 32);
	sum = (u32)csum_diff(NULL, 0, words, sizeof(words), 0);
	sum = (u32)csum_diff(NULL, 0, (void *)s->buffer, ERROR_QUOTE, sum);
	words[0] |= (u32)(u16)~csum_fold(sum) << 16;
	__builtin_memcpy(&e.icmp, words, sizeof(words));
	if (ctx_change_head(ctx, sizeof(e.ip) + sizeof(e.icmp)) || ctx_change_tail(ctx, sizeof(e) + quote))
		return -1;
	return ctx_store(ctx, 0, &e, sizeof(e)) || ctx_store(ctx, sizeof(e), s->buffer, quote_bound(quote)) ? -1 : 0;
}

static __always_inline int error6_send(CTX *ctx, struct scratch *s, const struct ctd_port *port, u32 quote)
{
	u32 len = sizeof(struct icmp_header) + quote, words[2], sum, pseudo[2];
	struct error6 e = {};
	u64 icmp = error_icmp(s);
	struct ctd_addr addrs[2];

	addrs[0] = addr_is_zero(&port->addr6) ? port->addr6_ll : port->addr6;
	addrs[1] = s->ct.tuple.src;
	if (addr_is_zero(&addrs[0]))
		return -1;
	error_eth(&e.eth, s, port, host_htons(ETH_P_IPV6));
	e.ip.version = 6;
	e.ip.payload_len = host_htons((u16)len);
	e.ip.nexthdr = IPPROTO_ICMPV6;
	e.ip.hop_limit = ERROR_TTL;
	__builtin_memcpy(&e.ip.saddr, addrs, 32);
	words[0] = (u32)icmp;
	words[1] = (u32)(icmp >> 32);
	pseudo[0] = host_htonl(len);
	pseudo[1] = host_htonl(IPPROTO_ICMPV6);
	sum = (u32)csum_diff(NULL, 0, (void *)addrs, sizeof(addrs), 0);
	sum = (u32)csum_diff(NULL, 0, pseudo, sizeof(pseudo), sum);
	sum = (u32)csum_diff(NULL, 0, words, sizeof(words), sum);
	sum = (u32)csum_diff(NULL, 0, (void *)s->buffer, ERROR_QUOTE, sum);
	words[0] |= (u32)(u16)~csum_fold(sum) << 16;
	__builtin_memcpy(&e.icmp, words, sizeof(words));
	if (ctx_change_head(ctx, sizeof(e.ip) + sizeof(e.icmp)) || ctx_change_tail(ctx, sizeof(e) + quote))
		return -1;
	return ctx_store(ctx, 0, &e, sizeof(e)) || ctx_store(ctx, sizeof(e), s->buffer, quote_bound(quote)) ? -1 : 0;
}

/* The packet has been counted as dropped for its reason; what leaves is another one. */
static __always_inline int icmp_error(CTX *ctx, struct scratch *s)
{
	struct ctd_port *port = port_get(s->pkt.port);
	u32 quote = s->pkt.l3_len < ERROR_QUOTE ? s->pkt.l3_len : ERROR_QUOTE;
	int failed;

	if (!port || !error_due(&s->pkt))
		return CTX_DROP;
	if (!error_allowed()) {
		count(s->pkt.port, CTD_COUNT_ICMP_LIMITED);
		return CTX_DROP;
	}
	if (!(s->ct.state & CTD_CS_TRK))
		s->ct.tuple = s->pkt.tuple; /* never translated */
	if (error_quote(ctx, s, quote))
		return CTX_DROP;
	if (ctx_csum_partial(ctx))
		error_settle_partial(s);
	if (s->pkt.tuple.family == CTD_IPV4)
		failed = error4_send(ctx, s, port, quote);
	else
		failed = error6_send(ctx, s, port, quote);
	if (failed)
		return CTX_DROP;
	count(s->pkt.port, CTD_COUNT_ICMP_SENT);
	return send_to(ctx, s->pkt.port, s->pkt.ifindex, ctx_len(ctx));
}

#endif
