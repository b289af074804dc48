/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow key: all that a flow can match. Fields that a packet does not have are zero. A mask has the same layout;
 * keys and masks are hashed and compared as 64-bit words, and only the words that a mask touches.
 *
 * Semantics are those of Open vSwitch's flow key unless said otherwise; `out_port` is ctd's own.
 */
#ifndef CTD_ABI_KEY_H
#define CTD_ABI_KEY_H

#include <ctd/abi/types.h>

/* Values of ctd_flow_key.frag, as in Open vSwitch. */
enum ctd_frag {
	CTD_FRAG_NO = 0,
	CTD_FRAG_FIRST = 1,
	CTD_FRAG_LATER = 3, /* L4 fields are zero */
};

/* Values of ctd_flow_key.packet_type: what the packet begins with. */
enum ctd_packet_type {
	CTD_PT_ETHERNET = 0,
	CTD_PT_L3 = 1, /* a device without Ethernet header */
};

struct ctd_flow_key {
	u32 in_port;   /* port number, CTD_PORT_LOCAL for the host */
	u32 recirc_id; /* 0 on the first pass */

	u32 out_port; /* chosen by `route` or, for the host's own packets, by the host; 0 before */
	u32 pkt_mark;

	u32 priority;
	u32 dp_hash;

	u16 ct_zone;
	u8 ct_state; /* enum ctd_ct_state */
	u8 ct_orig_proto;
	u32 ct_mark;

	u8 ct_label[16];
	struct ctd_addr ct_orig_src;
	struct ctd_addr ct_orig_dst;

	be16 ct_orig_sport;
	be16 ct_orig_dport;
	be16 eth_type; /* of the innermost of the parsed VLAN tags' payload */
	u8 frag;       /* enum ctd_frag */
	u8 packet_type;

	u8 eth_dst[6];
	be16 vlan_tpid; /* outer tag; 0 if none */

	u8 eth_src[6];
	be16 vlan_tci; /* outer tag, with bit 0x1000 set if there is one */

	be16 cvlan_tpid;
	be16 cvlan_tci;
	be32 mpls_lse;

	struct ctd_addr ip_src; /* also ARP's sender protocol address */
	struct ctd_addr ip_dst; /* also ARP's target protocol address */

	u8 ip_proto; /* also the low byte of ARP's operation */
	u8 ip_tos;
	u8 ip_ttl;
	u8 pad0;
	be32 ipv6_label;

	be16 sport; /* ICMP and ICMPv6: type */
	be16 dport; /* ICMP and ICMPv6: code */
	be16 tcp_flags;
	u16 pad1;

	struct ctd_addr nd_target;

	u8 arp_sha[6]; /* also ND's source link-layer address option */
	u16 pad2;

	u8 arp_tha[6]; /* also ND's target link-layer address option */
	u16 pad3;

	be64 tun_id;
	struct ctd_addr tun_src;
	struct ctd_addr tun_dst;

	u8 tun_tos;
	u8 tun_ttl;
	u16 tun_flags;
	be16 tun_sport;
	be16 tun_dport;

	u8 tun_metadata[64]; /* fields that the configuration maps from tunnel options */

	u16 gbp_id;
	u8 gbp_flags;
	u8 reserved[13];
};
#define CTD_KEY_WORDS 40
CTD_ASSERT_SIZE(struct ctd_flow_key, 8 * CTD_KEY_WORDS);
CTD_ASSERT_OFFSET(struct ctd_flow_key, ct_label, 32);
CTD_ASSERT_OFFSET(struct ctd_flow_key, ct_orig_sport, 80);
CTD_ASSERT_OFFSET(struct ctd_flow_key, eth_dst, 88);
CTD_ASSERT_OFFSET(struct ctd_flow_key, ip_src, 112);
CTD_ASSERT_OFFSET(struct ctd_flow_key, sport, 152);
CTD_ASSERT_OFFSET(struct ctd_flow_key, nd_target, 160);
CTD_ASSERT_OFFSET(struct ctd_flow_key, tun_id, 192);
CTD_ASSERT_OFFSET(struct ctd_flow_key, tun_metadata, 240);

/* A key or mask as words. */
union ctd_key_words {
	struct ctd_flow_key key;
	u64 w[CTD_KEY_WORDS];
};
CTD_ASSERT_SIZE(union ctd_key_words, 8 * CTD_KEY_WORDS);

#endif
