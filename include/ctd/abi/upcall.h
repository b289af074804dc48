/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What travels with a packet over the dedicated device, in both directions:
 *
 *     vnet header | Ethernet header | struct ctd_packet_meta | layer 3 and up
 *
 * The daemon reads a miss, installs a flow and writes the same bytes back; the datapath takes the metadata off,
 * restores the packet's state and goes on where it left. The Ethernet type before the metadata is CTD_ETH_P_UPCALL
 * upwards. Downwards it is IPv6's for IPv6 and IPv4's for all others (the kernel strips room only from IP packets); the
 * packet's own one is in the metadata.
 */
#ifndef CTD_ABI_UPCALL_H
#define CTD_ABI_UPCALL_H

#include <ctd/abi/ct.h>
#include <ctd/abi/key.h>
#include <ctd/abi/types.h>

#define CTD_UPCALL_MAGIC 0x75706374u /* "tcpu" */
#define CTD_ETH_P_UPCALL 0x88b5u     /* IEEE 802 local experimental: it never leaves the host */

enum ctd_upcall_kind {
	CTD_UPCALL_MISS = 1,
	CTD_UPCALL_ACTION = 2, /* to userspace by an action */
};

/* What NAT and ct() have done to the packet so far; goes with it through recirculation and userspace. */
struct ctd_packet_ct {
	u32 conn; /* CTD_CONN_NONE: no committed connection */
	u32 conn_seq;
	u8 state; /* enum ctd_ct_state; 0: not tracked */
	u8 dir;
	u16 zone;
	u8 nat_done; /* CTD_CS_SNAT | CTD_CS_DNAT done to the header in this pass */
	u8 pad[3];
	struct ctd_tuple tuple; /* as looked up, before translation */
};
CTD_ASSERT_SIZE(struct ctd_packet_ct, 56);

struct ctd_packet_meta {
	u32 magic;
	u32 abi_version;
	u64 token;      /* ctd_meta.token: another instance's or a forged packet is refused */
	u8 kind;        /* enum ctd_upcall_kind */
	u8 l2_len;      /* of the packet in its device: 14 or 0 */
	be16 eth_type;  /* the packet's own */
	be16 vlan_tpid; /* accelerated tag that was taken off, 0 none */
	be16 vlan_tci;
	u32 ifindex;     /* device whose hook the packet met */
	u32 egress;      /* 1: at its egress hook */
	u32 rt_version;  /* ctd_rt.version at the miss */
	u32 passes;      /* recirculations so far */
	be16 cvlan_tpid; /* the tag behind the accelerated one, 0 none */
	be16 cvlan_tci;
	u32 pad;
	struct ctd_packet_ct ct;
	struct ctd_flow_key key;
};
CTD_ASSERT_SIZE(struct ctd_packet_meta, 48 + 56 + 320);
CTD_ASSERT_OFFSET(struct ctd_packet_meta, ct, 48);

#endif
