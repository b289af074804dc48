/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Expectations: connections that another one, their master, has announced. As nf_conntrack's: the destination is exact,
 * the source exact or any.
 */
#ifndef CTD_ABI_EXPECT_H
#define CTD_ABI_EXPECT_H

#include <ctd/abi/ct.h>

enum ctd_expect_flag {
	CTD_EXPECT_PERMANENT = 0x01, /* not used up by the connection that it announced */
	CTD_EXPECT_SNAT = 0x02,      /* that connection's source is translated: nat_src, nat_sport */
	CTD_EXPECT_DNAT = 0x04,      /* its destination: nat_dst, nat_dport */
};

/*
 * Map `ct_expects`: hash. The key is the original tuple of the expected connection; a source address of zeros is any, a
 * source port of zero is any. Written by BPF only: packets use expectations up, the sweep and control programs do the
 * rest. An element can be reused while it is read: `check` tells.
 */
struct ctd_expect {
	u32 tag;    /* the key's hash under our seed */
	u32 id;     /* counts; never used twice */
	u32 master; /* connection id of the one that announced it; when that ends, nothing is expected any more */
	u32 master_seq;
	u32 expires;    /* jiffies (low word) */
	u16 flags;      /* enum ctd_expect_flag */
	u16 helper;     /* of the expected connection, 0 none */
	u16 kind;       /* the helper's own distinction */
	be16 nat_sport; /* 0: the port stays */
	be16 nat_dport;
	u16 pad;
	struct ctd_addr nat_src;
	struct ctd_addr nat_dst;
	u32 pad2;
	u32 check; /* tag + id */
};
CTD_ASSERT_OFFSET(struct ctd_expect, nat_src, 32);
CTD_ASSERT_SIZE(struct ctd_expect, 72);
#define CTD_MAX_EXPECTS 4096u

/* Context of the control programs `ctd_expect_add` and `ctd_expect_remove`. */
struct ctd_expect_order {
	struct ctd_tuple key;
	struct ctd_expect expect; /* id, expires and checks are filled in. A removal: `id` alone, 0 for any */
	u32 timeout;              /* jiffies */
	u32 limit;                /* expectations of this master and kind at most: the oldest makes room. 0: no limit */
	u32 count;                /* out: expectations removed */
	s32 error;                /* out: 0, or a negative errno */
};
CTD_ASSERT_SIZE(struct ctd_expect_order, 128);

#endif
