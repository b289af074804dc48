/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow key of the packet in the scratch record. ct() and `route` bring their own fields up to date. */
#ifndef CTD_DP_KEY_H
#define CTD_DP_KEY_H

#include "core/maps.h"
#include "core/parse.h"
#include "ct/expect.h"

static __always_inline void key_set_l4(struct ctd_flow_key *key, const struct packet *pkt)
{
	if (proto_is_icmp(pkt->tuple.proto)) {
		/* Also of messages that are no connections: neighbour discovery. */
		key->sport = host_htons(pkt->icmp_type);
		key->dport = host_htons(pkt->icmp_code);
	} else if (pkt->flags & PACKET_L4) {
		key->sport = pkt->tuple.sport;
		key->dport = pkt->tuple.dport;
		if (pkt->tuple.proto == IPPROTO_TCP)
			key->tcp_flags = host_htons(pkt->tcp_flags);
	}
}

struct arp_header {
	be16 hardware;
	be16 protocol;
	u8 hardware_len;
	u8 protocol_len;
	be16 op;
	u8 sha[6];
	u8 spa[4];
	u8 tha[6];
	u8 tpa[4];
};
CTD_ASSERT_SIZE(struct arp_header, 28);

static __always_inline void key_set_arp(CTX *ctx, struct ctd_flow_key *key, const struct packet *pkt)
{
	struct arp_header *arp = ctx_at(ctx, pkt->l3_off, sizeof(*arp));

	if (!arp || arp->protocol_len != 4 || arp->hardware_len != 6)
		return;
	key->ip_proto = (u8)host_ntohs(arp->op);
	__builtin_memcpy(&key->ip_src, arp->spa, 4);
	__builtin_memcpy(&key->ip_dst, arp->tpa, 4);
	__builtin_memcpy(key->arp_sha, arp->sha, 6);
	__builtin_memcpy(key->arp_tha, arp->tha, 6);
}

static __always_inline void key_build(CTX *ctx, struct scratch *s)
{
	struct ctd_flow_key *key = &s->key.key;
	const struct packet *pkt = &s->pkt;

#pragma unroll
	for (int i = 0; i < CTD_KEY_WORDS; i++)
		s->key.w[i] = 0;
	key->in_port = pkt->in_port;
	/* Where the host sends its packet is known before any rule runs. */
	key->out_port = pkt->egress ? pkt->port : CTD_PORT_NONE;
	key->pkt_mark = ctx_mark(ctx);
	key->priority = ctx_priority(ctx);
	key->eth_type = pkt->eth_type;
	key->frag = pkt->frag;
	key->vlan_tpid = pkt->vlan_tpid;
	key->vlan_tci = pkt->vlan_tci;
	if (pkt->l2_len) {
		__builtin_memcpy(key->eth_dst, pkt->eth_dst, 6);
		__builtin_memcpy(key->eth_src, pkt->eth_src, 6);
	} else {
		key->packet_type = CTD_PT_L3;
	}
	if (pkt->flags & PACKET_IP) {
		key->ip_src = pkt->tuple.src;
		key->ip_dst = pkt->tuple.dst;
		key->ip_proto = pkt->tuple.proto;
		key->ip_tos = pkt->tos;
		key->ip_ttl = pkt->ttl;
		key->ipv6_label = pkt->ipv6_label;
		key_set_l4(key, pkt);
	} else if (pkt->eth_type == host_htons(ETH_P_ARP)) {
		key_set_arp(ctx, key, pkt);
	}
}

static __always_inline void key_clear_ct(struct ctd_flow_key *key)
{
	key->ct_state = 0;
	key->ct_zone = 0;
	key->ct_mark = 0;
	__builtin_memset(key->ct_label, 0, sizeof(key->ct_label));
	__builtin_memset(&key->ct_orig_src, 0, 2 * sizeof(struct ctd_addr));
	key->ct_orig_proto = 0;
	key->ct_orig_sport = 0;
	key->ct_orig_dport = 0;
}

/* The original direction's tuple; of ICMP queries type and code, as in Open vSwitch. */
static __always_inline void key_set_orig(struct ctd_flow_key *key, const struct ctd_tuple *orig)
{
	u16 kind = host_ntohs(orig->dport);

	key->ct_orig_src = orig->src;
	key->ct_orig_dst = orig->dst;
	key->ct_orig_proto = orig->proto;
	key->ct_orig_sport = orig->sport;
	key->ct_orig_dport = orig->dport;
	if (proto_is_icmp(orig->proto)) {
		key->ct_orig_sport = host_htons(kind >> 8);
		key->ct_orig_dport = host_htons(kind & 0xff);
	}
}

/* What the key has of a record, copied before it is known to be still the connection's. */
struct key_ct {
	u8 label[16];
	struct ctd_tuple orig;
	u32 mark;
};

/*
 * What ct() found, in the flow key. Answers a drop reason: if the connection has ended and its record is another's,
 * that one's mark must not be matched. A packet that was translated under the connection goes on with what an earlier
 * ct() has put into the key.
 */
static __always_inline int key_set_ct(struct scratch *s)
{
	struct key_ct *found = (struct key_ct *)s->buffer;
	struct ctd_conn *conn = conn_get(s->ct.conn);
	struct ctd_flow_key *key = &s->key.key;

	if (s->ct.conn && conn) {
		__builtin_memcpy(found->label, conn->label, sizeof(found->label));
		found->orig = conn->orig;
		found->mark = read_once(conn->mark);
		mem_barrier();
		if (CTD_CTL_SEQ(read_once(conn->ctl)) != s->ct.conn_seq)
			return s->ct.nat_done ? CTD_DROP_NONE : CTD_DROP_CT_CLASH;
	}
	key_clear_ct(key);
	key->ct_zone = s->ct.zone;
	if (s->ct.conn && conn) {
		key->ct_mark = found->mark;
		__builtin_memcpy(key->ct_label, found->label, sizeof(key->ct_label));
		key_set_orig(key, &found->orig);
	} else if (s->ct.state & CTD_CS_NEW) {
		key_set_orig(key, &s->ct.tuple);
		if (s->ct.state & CTD_CS_REL)
			expect_key();
	}
	return CTD_DROP_NONE;
}

/* What ct() and NAT made of the packet. */
static __always_inline void key_set_header(struct scratch *s)
{
	struct ctd_flow_key *key = &s->key.key;

	key->ct_state = s->ct.state;
	key->ip_src = s->pkt.tuple.src;
	key->ip_dst = s->pkt.tuple.dst;
	if (proto_has_ports(s->pkt.tuple.proto)) {
		key->sport = s->pkt.tuple.sport;
		key->dport = s->pkt.tuple.dport;
	}
}

#endif
