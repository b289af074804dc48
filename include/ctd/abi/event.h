/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Events of the connection table, in the ring buffer `ct_events`. BPF writes them while ctd_rt.event_mask says that
 * somebody reads; whoever reads the ring sets that mask.
 */
#ifndef CTD_ABI_EVENT_H
#define CTD_ABI_EVENT_H

#include <ctd/abi/ct.h>

/*
 * What happened, as bits. The numbers are those of the kernel's enum ip_conntrack_events, so that a mask means the same
 * in ctd_rt, in a connection, in a ct() action and in Open vSwitch. NEW and RELATED (a new connection with a master)
 * begin a connection and DESTROY ends it; each of these stands alone. All others are changes, and may come together.
 */
#define CTD_EVENTS(X)          \
	X(NEW, 0, new)         \
	X(RELATED, 1, related) \
	X(DESTROY, 2, destroy) \
	X(REPLY, 3, reply)     \
	X(ASSURED, 4, assured) \
	X(STATE, 5, state)     \
	X(HELPER, 6, helper)   \
	X(MARK, 7, mark)       \
	X(LABEL, 10, label)
enum ctd_event_bit {
#define X(id, bit, name) CTD_EVENT_##id = 1 << (bit),
	CTD_EVENTS(X)
#undef X
};
#define CTD_EVENT_BEGIN (CTD_EVENT_NEW | CTD_EVENT_RELATED)
#define CTD_EVENT_UPDATE \
	(CTD_EVENT_REPLY | CTD_EVENT_ASSURED | CTD_EVENT_STATE | CTD_EVENT_HELPER | CTD_EVENT_MARK | CTD_EVENT_LABEL)
#define CTD_EVENT_ALL (CTD_EVENT_BEGIN | CTD_EVENT_DESTROY | CTD_EVENT_UPDATE)
/* In ctd_conn.event_mask, where 0 means all: none. */
#define CTD_EVENT_SILENT 0x8000

struct ctd_event {
	/*
	 * Counts all events of the instance, those that found the ring full included. Events of different CPUs may
	 * stand in the ring in another order; those of one connection never do.
	 */
	u64 seq;
	u64 time;  /* jiffies, all 64 bits; ctd_meta.hz a second */
	u16 what;  /* enum ctd_event_bit */
	u8 reason; /* enum ctd_end_reason, of DESTROY */
	u8 pad[5];
	struct ctd_conn conn; /* a copy of the record, as it is then. Of DESTROY: with its final counters */
};
CTD_ASSERT_OFFSET(struct ctd_event, conn, 24);
CTD_ASSERT_SIZE(struct ctd_event, 280);

/* A little more than 14,000 events. */
#define CTD_EVENT_RING_BYTES (4u << 20)

#endif
