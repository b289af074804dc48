/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Layer 4 headers other than TCP, UDP and ICMP: UDP-Lite, SCTP, DCCP, GRE. Each function fills the tuple's ports and
 * answers 1 if the header is whole and sound. `room` is what the IP header leaves for layer 4.
 */
#ifndef CTD_CORE_PARSE_L4_H
#define CTD_CORE_PARSE_L4_H

#include "core/hash.h"
#include "core/scratch.h"

struct udplite_header {
	be16 sport;
	be16 dport;
	be16 coverage; /* bytes that the checksum covers, 0: all */
	be16 check;
};

struct sctp_header {
	be16 sport;
	be16 dport;
	be32 tag;
	u32 check; /* CRC-32C, least significant byte first */
};
CTD_ASSERT_SIZE(struct sctp_header, 12);

/* The part that all have; 48-bit sequence numbers make it four bytes longer. */
struct dccp_header {
	be16 sport;
	be16 dport;
	u8 doff;     /* words */
	u8 coverage; /* lower four bits: words that the checksum covers, plus one; 0: all */
	be16 check;
	u8 type; /* in bits 1..4; bit 0: sequence numbers of 48 bits */
	u8 seq[3];
};
CTD_ASSERT_SIZE(struct dccp_header, 12);

enum dccp_type {
	DCCP_REQUEST,
	DCCP_RESPONSE,
	DCCP_DATA,
	DCCP_ACK,
	DCCP_DATAACK,
	DCCP_CLOSEREQ,
	DCCP_CLOSE,
	DCCP_RESET,
	DCCP_SYNC,
	DCCP_SYNCACK,
	DCCP_TYPES,
};
#define DCCP_TYPE(header) (((header)->type >> 1) & 0xf)
#define DCCP_LONG_SEQ(header) ((header)->type & 1)

struct gre_header {
	be16 flags;
	be16 protocol;
	be16 payload_len; /* of version 1 (RFC 2637): the key field is split */
	be16 call_id;
};
#define GRE_VERSION 0x0007
#define GRE_KEY 0x2000
#define GRE_PPP 0x880b

/* RFC 3828: the checksum is mandatory, and covers the header at least. */
static __always_inline int parse_udplite(CTX *ctx, struct packet *pkt, u32 room)
{
	struct udplite_header *h = ctx_at(ctx, pkt->l4_off, sizeof(*h));
	u32 coverage;

	if (!h || room < sizeof(*h) || !h->check)
		return 0;
	coverage = host_ntohs(h->coverage);
	if (coverage && (coverage < sizeof(*h) || coverage > room))
		return 0;
	pkt->tuple.sport = h->sport;
	pkt->tuple.dport = h->dport;
	return 1;
}

/* Its chunks are ct/sctp.h's. */
static __always_inline int parse_sctp(CTX *ctx, struct packet *pkt, u32 room)
{
	struct sctp_header *h = ctx_at(ctx, pkt->l4_off, sizeof(*h));

	if (!h || room < sizeof(*h))
		return 0;
	pkt->tuple.sport = h->sport;
	pkt->tuple.dport = h->dport;
	return 1;
}

/* RFC 4340, section 5: what the type brings along (acknowledgement, service or reset code) must be there. */
static __always_inline u32 dccp_header_len(u8 type, int long_seq)
{
	u32 len = long_seq ? 16 : 12;

	if (type != DCCP_REQUEST && type != DCCP_DATA)
		len += long_seq ? 8 : 4;
	if (type == DCCP_REQUEST || type == DCCP_RESPONSE || type == DCCP_RESET)
		len += 4;
	return len;
}

static __always_inline int parse_dccp(CTX *ctx, struct packet *pkt, u32 room)
{
	struct dccp_header *h = ctx_at(ctx, pkt->l4_off, sizeof(*h));
	u32 header, coverage;
	u8 type;

	if (!h || room < sizeof(*h))
		return 0;
	header = h->doff * 4;
	coverage = h->coverage & 0xf;
	type = DCCP_TYPE(h);
	if (type >= DCCP_TYPES || header > room || header < dccp_header_len(type, DCCP_LONG_SEQ(h)))
		return 0;
	if (coverage && (coverage - 1) * 4 + header > room)
		return 0;
	/* Short sequence numbers are for data and acknowledgements. */
	if (!DCCP_LONG_SEQ(h) && (type < DCCP_DATA || type > DCCP_DATAACK))
		return 0;
	pkt->tuple.sport = h->sport;
	pkt->tuple.dport = h->dport;
	return 1;
}

/*
 * GRE, as in the kernel: version 1 (PPTP) has its call id as the destination port; what the peer calls the source is
 * known to a helper only. All else goes by its addresses: its key may differ by direction and names no connection.
 */
static __always_inline int parse_gre(CTX *ctx, struct packet *pkt, u32 room)
{
	struct gre_header *h = ctx_at(ctx, pkt->l4_off, 4);
	be16 flags;

	if (!h || room < 4)
		return 0;
	flags = h->flags;
	if ((flags & host_htons(GRE_VERSION)) != host_htons(1))
		return 1;
	h = ctx_at(ctx, pkt->l4_off, sizeof(*h));
	if (!h || room < sizeof(*h) || !(flags & host_htons(GRE_KEY)) || h->protocol != host_htons(GRE_PPP))
		return 0;
	pkt->tuple.dport = h->call_id;
	return 1;
}

#endif
