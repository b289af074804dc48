/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations on single connections that userspace asks for, a batch at a time. A BPF timer carries them out: there they
 * run as packets do, on one CPU with bottom halves off, and may use whatever packets use.
 */
#ifndef CTD_ABI_CONTROL_H
#define CTD_ABI_CONTROL_H

#include <ctd/abi/ct.h>

enum ctd_order_kind {
	CTD_ORDER_DELETE = 1,
	CTD_ORDER_UPDATE = 2,
	CTD_ORDER_INSERT = 3,
	CTD_ORDER_CREDIT = 4, /* what its verdicts have counted goes to the record */
};

enum ctd_update_flag {
	CTD_UPDATE_MARK = 0x01,
	CTD_UPDATE_LABEL = 0x02,
	CTD_UPDATE_TIMEOUT = 0x04,
};

/* Map `ct_order`: array of one, mapped by userspace. Written by the daemon, `done` by BPF. */
struct ctd_order {
	u32 number; /* another one for each order */
	u32 done;   /* number of the order that was carried out last */
	u32 kind;   /* enum ctd_order_kind */
	u32 count;  /* entries of `ct_requests` that it is about */
	u32 reason; /* of a deletion: enum ctd_end_reason */
	u32 update; /* enum ctd_update_flag */
	u32 mark;   /* these bits of the mark … */
	u32 mark_mask;
	u8 label[16];
	u8 label_mask[16];
	u32 timeout; /* jiffies from now */
	u32 pad;
};
CTD_ASSERT_SIZE(struct ctd_order, 72);

enum ctd_request_result {
	CTD_REQUEST_OPEN = 0, /* not looked at */
	CTD_REQUEST_DONE = 1,
	CTD_REQUEST_DYING = 2,  /* a deletion: dead, but in use: ask again, or leave it to the sweep */
	CTD_REQUEST_GONE = 3,   /* there is no such connection (any more) */
	CTD_REQUEST_BUSY = 4,   /* its record stayed locked: ask again */
	CTD_REQUEST_EXISTS = 5, /* an insertion: somebody has one of its tuples */
	CTD_REQUEST_FULL = 6,   /* an insertion: no room for it */
	CTD_REQUEST_LIMIT = 7,  /* an insertion: its zone is at its limit */
};

#define CTD_MAX_REQUESTS 128u

/* Map `ct_requests`: array of CTD_MAX_REQUESTS, mapped by userspace. Written by the daemon, `result` and `id` by BPF.
 */
struct ctd_request {
	u32 id;               /* of an insertion: the new connection's */
	u32 seq;              /* the record's sequence: another connection is left alone */
	u32 result;           /* enum ctd_request_result */
	u32 cls;              /* of an insertion: enum ctd_conn_class */
	struct ctd_conn conn; /* of an insertion: all but ctl, lock, id and what the table itself keeps */
};
CTD_ASSERT_SIZE(struct ctd_request, 272);

#endif
