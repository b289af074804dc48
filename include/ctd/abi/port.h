/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ports: the devices that the datapath owns. Written by the daemon. */
#ifndef CTD_ABI_PORT_H
#define CTD_ABI_PORT_H

#include <ctd/abi/types.h>

enum ctd_port_flag {
	CTD_PORT_ROUTED = 0x0001, /* ingress and egress hooks; the host keeps its stack */
	CTD_PORT_L3 = 0x0002,     /* no Ethernet header */
	CTD_PORT_FAST4 = 0x0004,  /* IPv4 packets may use the verdict cache in zone `fast_zone` */
	CTD_PORT_FAST6 = 0x0008,
	CTD_PORT_RPF_STRICT = 0x0010,
	CTD_PORT_RPF_LOOSE = 0x0020,
	CTD_PORT_FORWARD4 = 0x0040, /* the host forwards IPv4 on it */
	CTD_PORT_FORWARD6 = 0x0080,
};

/* Map `ports`: array, index = port number. An unused entry has ifindex 0. */
struct ctd_port {
	u32 ifindex;
	u32 flags; /* enum ctd_port_flag */
	u16 number;
	u16 mtu; /* of layer 3 */
	u16 fast_zone;
	u8 mac[6];
	u16 pad;
	be32 addr4; /* primary address, 0 none: masquerade and ICMP errors use it */
	u32 pad2;
	struct ctd_addr addr6; /* preferred global address, zero none */
	struct ctd_addr addr6_ll;
};
CTD_ASSERT_OFFSET(struct ctd_port, addr4, 24);
CTD_ASSERT_SIZE(struct ctd_port, 64);

/*
 * Map `port_index`: array of u32, index = low 16 bits of the interface index, value = port number. The port's entry
 * has the whole ifindex to compare; two ports whose indices collide are refused by the daemon.
 */
#define CTD_PORT_INDEX_SIZE 65536u

/* Map `port_limits`: array, index = port number: the token bucket of upcalls. `tokens` and `filled` written by BPF. */
struct ctd_port_limit {
	u32 rate; /* upcalls a second */
	u32 burst;
	u32 tokens;
	u32 filled; /* jiffies (low word) */
};
CTD_ASSERT_SIZE(struct ctd_port_limit, 16);

#endif
