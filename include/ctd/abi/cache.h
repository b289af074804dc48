/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict cache: what the whole pipeline did with a direction of a settled connection, in one look-up.
 *
 * Maps `ct_cache4` (key struct ctd_tuple4) and `ct_cache6` (key struct ctd_tuple) are LRU hashes: an eviction costs a
 * slower packet, never a connection. With the kernel's 48 bytes before the key, an element fills whole cache lines and
 * what every packet needs stands in the line after the key. An element may be reused while it is read: the tag stands
 * at both ends of that part, and readers compare both again after copying.
 */
#ifndef CTD_ABI_CACHE_H
#define CTD_ABI_CACHE_H

#include <ctd/abi/types.h>

/*
 * Fields other than the tuple that the flows of a verdict matched, compared exactly under a mask of `guard_masks`
 * (array; entry 0 compares in_port, VLAN and eth_dst). Written by the daemon.
 */
struct ctd_guard {
	u16 in_port;
	be16 vlan_tci;
	u32 pkt_mark;
	u8 eth_dst[6];
	u8 eth_src[6];
	u8 ip_tos;
	u8 verdict; /* in a verdict: enum ctd_verdict_flag; in a mask: zero */
	u16 mask;   /* in a verdict: index into `guard_masks`; in a mask: zero */
};
CTD_ASSERT_SIZE(struct ctd_guard, 24);
enum ctd_verdict_flag {
	CTD_VERDICT_WINDOW = 0x01, /* TCP whose windows are checked, packet by packet, in the record */
};
#define CTD_MAX_GUARD_MASKS 64
#define CTD_GUARD_NONE 0xffffu /* no verdict: what the flows matched fits no guard */

/* `pending` collects what has not been credited: packets in bits 40..63, bytes in bits 0..39. One atomic add a packet.
 */
#define CTD_PENDING_SHIFT 40
#define CTD_PENDING(packets, bytes) (((u64)(packets) << CTD_PENDING_SHIFT) | (u64)(bytes))

struct ctd_verdict_head {
	u32 tag;
	u32 version; /* ctd_rt.version under which it was made */
	u32 conn;
	u16 credited; /* jiffies >> CTD_CREDIT_SHIFT of the last crediting */
	u16 next_hop; /* index into `next_hops` */
	u64 pending;
	struct ctd_guard guard;
};
CTD_ASSERT_SIZE(struct ctd_verdict_head, 48);
#define CTD_CREDIT_SHIFT 5

#define CTD_VERDICT_FLOWS 4
struct ctd_verdict_tail {
	u32 conn_seq;
	u16 nat; /* CTD_CS_SNAT, CTD_CS_DNAT: which side of the header is rewritten */
	u8 dir;
	u8 flow_count;
	u32 flow[CTD_VERDICT_FLOWS]; /* flow slots to credit */
	u32 flow_gen[CTD_VERDICT_FLOWS];
};
CTD_ASSERT_SIZE(struct ctd_verdict_tail, 40);

struct ctd_verdict4 {
	struct ctd_verdict_head head;
	be32 src; /* the header as it leaves */
	be32 dst;
	be16 sport;
	be16 dport;
	u32 tag_end;
	struct ctd_verdict_tail tail;
	u8 reserved[24];
};
CTD_ASSERT_OFFSET(struct ctd_verdict4, tail, 64);
CTD_ASSERT_SIZE(struct ctd_verdict4, 128);

struct ctd_verdict6 {
	struct ctd_verdict_head head;
	struct ctd_addr src;
	struct ctd_addr dst;
	be16 sport;
	be16 dport;
	u32 tag_end;
	struct ctd_verdict_tail tail;
	u8 reserved[40];
};
CTD_ASSERT_OFFSET(struct ctd_verdict6, tail, 88);
CTD_ASSERT_SIZE(struct ctd_verdict6, 168);

/*
 * Map `next_hops`: array; index 0 is unused. Made by the datapath, one entry per output port and gateway; a neighbour
 * that changes its address rewrites one entry. Every few seconds one packet goes the long way and checks it.
 */
struct ctd_next_hop {
	u32 seq; /* odd while being written */
	u32 ifindex;
	u32 checked; /* jiffies (low word) when a packet last went the long way */
	u16 mtu;     /* of layer 3 */
	u16 out_port;
	u8 eth_dst[6];
	u8 eth_src[6];
	u8 family; /* of `gateway` */
	u8 l2_len; /* 14, or 0 for a device without Ethernet header */
	be16 vlan_tci;
	struct ctd_addr gateway;
	u8 reserved[16];
};
CTD_ASSERT_SIZE(struct ctd_next_hop, 64);
#define CTD_MAX_NEXT_HOPS 16384 /* a power of two */

#endif
