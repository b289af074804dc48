/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a flow does: a fixed-length list of fixed-size actions, carried out in order. Large arguments stand in side
 * arrays and are named by id. An action that this version does not carry out drops the packet as unsupported_action.
 */
#ifndef CTD_ABI_ACTION_H
#define CTD_ABI_ACTION_H

#include <ctd/abi/types.h>

#define CTD_ACTIONS(X)                  \
	X(END, end)                     \
	X(DROP, drop)                   \
	X(OUTPUT, output)               \
	X(CT, ct)                       \
	X(CT_CLEAR, ct_clear)           \
	X(RECIRC, recirc)               \
	X(ROUTE, route)                 \
	X(STACK, stack)                 \
	X(SET, set)                     \
	X(PUSH_VLAN, push_vlan)         \
	X(POP_VLAN, pop_vlan)           \
	X(PUSH_MPLS, push_mpls)         \
	X(POP_MPLS, pop_mpls)           \
	X(PUSH_ETH, push_eth)           \
	X(POP_ETH, pop_eth)             \
	X(DEC_TTL, dec_ttl)             \
	X(SET_TUNNEL, set_tunnel)       \
	X(HASH, hash)                   \
	X(SAMPLE, sample)               \
	X(CLONE, clone)                 \
	X(TRUNC, trunc)                 \
	X(CHECK_PKT_LEN, check_pkt_len) \
	X(METER, meter)                 \
	X(USERSPACE, userspace)         \
	X(CHAIN, chain)

enum ctd_action_type {
#define X(id, name) CTD_ACT_##id,
	CTD_ACTIONS(X)
#undef X
	CTD_ACT_COUNT,
};

/* Flags of CTD_ACT_CT: which arguments are given. */
enum ctd_ct_flag {
	CTD_CTF_COMMIT = 0x0001,
	CTD_CTF_FORCE = 0x0002,
	CTD_CTF_NAT = 0x0004, /* translate: an existing mapping, or with commit a new one by `nat_id` */
	CTD_CTF_MARK = 0x0008,
	CTD_CTF_LABEL = 0x0010,
	CTD_CTF_ZONE_FIELD = 0x0020, /* `zone` is an even offset into the flow key: 16 bits there */
};

struct ctd_action_ct {
	u32 recirc_id; /* where to go on; 0: with the next action of this list */
	u32 nat_id;    /* index into `ct_nat_args`; 0: no new mapping (bare nat) */
	u16 zone;
	u16 helper;         /* 0 none */
	u16 timeout_policy; /* 0 default */
	u16 pad;
	u32 mark;
	u32 mark_mask;
	u32 label_id; /* index into `ct_label_args`, 0 none */
	u32 event_mask;
	u32 reserved[2];
};

struct ctd_action_output {
	u32 port;    /* CTD_PORT_NONE: the port that `route` chose (key.out_port) */
	u32 max_len; /* 0: whole */
	u32 reserved[8];
};

/* `route`: the host's FIB. With a recirc_id it only chooses out_port and goes on there; without it forwards. */
struct ctd_action_route {
	u32 recirc_id;
	u32 reserved[9];
};

struct ctd_action_set {
	u8 value[16];
	u8 mask[16];
	u32 reserved[2];
};

struct ctd_action {
	u16 type;  /* enum ctd_action_type */
	u16 flags; /* by type */
	u32 arg;   /* by type: recirc id, side-array id, field offset, count of nested slots */
	union {
		struct ctd_action_ct ct;
		struct ctd_action_output output;
		struct ctd_action_route route;
		struct ctd_action_set set;
		u8 raw[40];
	};
};
CTD_ASSERT_SIZE(struct ctd_action_ct, 40);
CTD_ASSERT_SIZE(struct ctd_action_output, 40);
CTD_ASSERT_SIZE(struct ctd_action_route, 40);
CTD_ASSERT_SIZE(struct ctd_action_set, 40);
CTD_ASSERT_SIZE(struct ctd_action, 48);

#define CTD_MAX_ACTIONS 32

/* Map `flow_actions`: array; flows with equal lists share one. Index 0 is the empty list: drop. Written by the daemon.
 */
struct ctd_action_list {
	u32 count;
	u32 refs; /* flows that use it; the daemon's */
	struct ctd_action slot[CTD_MAX_ACTIONS];
};
CTD_ASSERT_SIZE(struct ctd_action_list, 8 + 48 * CTD_MAX_ACTIONS);

enum ctd_nat_flag {
	CTD_NAT_SRC = 0x0001,
	CTD_NAT_DST = 0x0002,
	CTD_NAT_PERSISTENT = 0x0004,
	CTD_NAT_RANDOM = 0x0008,
	CTD_NAT_HASH = 0x0010,
	CTD_NAT_MASQUERADE = 0x0020, /* the source becomes the address of the port `out_port` */
	CTD_NAT_NULL = 0x0040,       /* keep address and port, only resolve collisions */
	CTD_NAT_ADDR = 0x0080,       /* min_addr..max_addr are given */
	CTD_NAT_PORTS = 0x0100,      /* min_port..max_port are given */
};

/* Map `ct_nat_args`: array; index 0 is unused. Written by the daemon. */
struct ctd_nat_args {
	u16 flags; /* enum ctd_nat_flag */
	u8 family; /* enum ctd_family of the range */
	u8 pad;
	u16 min_port; /* host order, inclusive */
	u16 max_port;
	struct ctd_addr min_addr;
	struct ctd_addr max_addr;
	u8 reserved[24];
};
CTD_ASSERT_SIZE(struct ctd_nat_args, 64);

/* Map `ct_label_args`: array; index 0 is unused. Written by the daemon. */
struct ctd_label_args {
	u8 value[16];
	u8 mask[16];
};
CTD_ASSERT_SIZE(struct ctd_label_args, 32);

#endif
