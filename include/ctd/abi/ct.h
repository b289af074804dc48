/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connection table: tuples, connection records, classes. After nf_conntrack's data model: a connection is two
 * tuples and one record.
 *
 * Times are in jiffies of the kernel (`ctd_meta.hz` a second). Only BPF programs write these maps.
 */
#ifndef CTD_ABI_CT_H
#define CTD_ABI_CT_H

#include <ctd/abi/types.h>

enum ctd_dir {
	CTD_DIR_ORIG = 0,
	CTD_DIR_REPLY = 1,
};

/*
 * One direction of a connection, as it appears on the wire before translation.
 * ICMP and ICMPv6 queries: `sport` is the identifier, `dport` is type * 256 + code in network order (so that the
 * two directions differ, as in the kernel). Protocols without ports: both zero.
 */
struct ctd_tuple {
	struct ctd_addr src;
	struct ctd_addr dst;
	be16 sport;
	be16 dport;
	u16 zone;
	u8 proto;  /* IPPROTO_* */
	u8 family; /* enum ctd_family */
};
CTD_ASSERT_SIZE(struct ctd_tuple, 40);

/* Key of map `ct_tuple4`. IPv6 uses struct ctd_tuple itself. */
struct ctd_tuple4 {
	be32 src;
	be32 dst;
	be16 sport;
	be16 dport;
	u16 zone;
	u8 proto;
	u8 pad; /* zero */
};
CTD_ASSERT_SIZE(struct ctd_tuple4, 16);

/*
 * Value of `ct_tuple4` and `ct_tuple6`. The insertion of a tuple with BPF_NOEXIST is its only reservation. An element
 * can be reused while it is read: whoever reads it takes `conn` as a hint and compares the record's tuple.
 */
struct ctd_tuple_ref {
	u32 conn; /* connection id: index into `ct_conn` */
	u32 seq;  /* the record's sequence when it was published, see ctd_conn.ctl */
	u32 tag;  /* the key's hash under our seed */
	u8 dir;   /* enum ctd_dir */
	u8 pad[3];
};
CTD_ASSERT_SIZE(struct ctd_tuple_ref, 16);

/* The control word of a record: state in bits 0..3, class in bits 4..7, sequence in bits 8..31. */
enum ctd_conn_life {
	CTD_CONN_FREE = 0,
	CTD_CONN_BUSY = 1,  /* being filled; its tuples are not valid yet */
	CTD_CONN_VALID = 2, /* confirmed */
	CTD_CONN_DEAD = 3,  /* expired or deleted; its tuples go at the next sweep */
};
enum ctd_conn_class {
	CTD_CLASS_UNANSWERED = 0,
	CTD_CLASS_ANSWERED = 1,
	CTD_CLASS_ASSURED = 2,
	CTD_CLASS_COUNT = 3,
};
#define CTD_CTL_LIFE(ctl) ((ctl) & 0xfu)
#define CTD_CTL_CLASS(ctl) (((ctl) >> 4) & 0xfu)
#define CTD_CTL_SEQ(ctl) ((ctl) >> 8)
#define CTD_CTL(seq, cls, life) (((u32)(seq) << 8) | ((u32)(cls) << 4) | (u32)(life))

/* Status bits; the names are those of the kernel's enum ip_conntrack_status. */
#define CTD_STATUS(X)                       \
	X(EXPECTED, 0x0001, "EXPECTED")     \
	X(SEEN_REPLY, 0x0002, "SEEN_REPLY") \
	X(ASSURED, 0x0004, "ASSURED")       \
	X(CONFIRMED, 0x0008, "CONFIRMED")   \
	X(SRC_NAT, 0x0010, "SRC_NAT")       \
	X(DST_NAT, 0x0020, "DST_NAT")       \
	X(HELPER, 0x2000, "HELPER")
enum ctd_status {
#define X(id, bit, name) CTD_STATUS_##id = (bit),
	CTD_STATUS(X)
#undef X
};

/* Protocol states; TCP's are the kernel's, in its order. Each protocol has its own numbering. */
#define CTD_TCP_STATES(X)    \
	X(NONE, 10)          \
	X(SYN_SENT, 120)     \
	X(SYN_RECV, 60)      \
	X(ESTABLISHED, 7440) \
	X(FIN_WAIT, 240)     \
	X(CLOSE_WAIT, 240)   \
	X(LAST_ACK, 30)      \
	X(TIME_WAIT, 120)    \
	X(CLOSE, 10)         \
	X(SYN_SENT2, 120)
enum ctd_tcp_state {
#define X(name, timeout_s) CTD_TCP_##name,
	CTD_TCP_STATES(X)
#undef X
	CTD_TCP_STATE_COUNT,
};
/* UDP, ICMP and all others. */
#define CTD_OTHER_STATES(X) \
	X(UNREPLIED, 120)   \
	X(REPLIED, 120)
enum ctd_other_state {
#define X(name, timeout_s) CTD_OTHER_##name,
	CTD_OTHER_STATES(X)
#undef X
	CTD_OTHER_STATE_COUNT,
};

/* `ct_state` of a packet: the bits and names of OpenFlow's ct_state in Open vSwitch. */
#define CTD_CT_STATES(X)      \
	X(NEW, 0x01, "new")   \
	X(EST, 0x02, "est")   \
	X(REL, 0x04, "rel")   \
	X(RPL, 0x08, "rpl")   \
	X(INV, 0x10, "inv")   \
	X(TRK, 0x20, "trk")   \
	X(SNAT, 0x40, "snat") \
	X(DNAT, 0x80, "dnat")
enum ctd_ct_state {
#define X(id, bit, name) CTD_CS_##id = (bit),
	CTD_CT_STATES(X)
#undef X
};

/* TCP window of what one direction sent, as in the kernel's struct ip_ct_tcp_state. Sequence numbers in host order. */
struct ctd_tcp_window {
	u32 end;
	u32 max_end;
	u32 max_win;
	u8 scale;
	u8 flags;
	u16 pad;
};
CTD_ASSERT_SIZE(struct ctd_tcp_window, 16);

struct ctd_dir_count {
	u64 packets;
	u64 bytes; /* of layer 3, headers included */
};

#define CTD_CONN_NONE 0u /* connection ids start at 1 */

/* Map `ct_conn`: array, index = connection id, mapped read-only by userspace. Written by BPF. */
struct ctd_conn {
	/* One cache line with all that crediting a verdict touches. */
	u32 ctl;          /* CTD_CTL(); the sequence changes with every reuse */
	u32 lock;         /* 0 free, else taken: compare-and-swap, bounded spins */
	u32 status;       /* enum ctd_status */
	u32 timeout;      /* jiffies after the last packet */
	u32 last_seen[2]; /* jiffies (low word) by direction; 0 if never */
	u32 id;           /* its own index */
	u8 state;         /* enum ctd_tcp_state or ctd_other_state, by orig.proto */
	u8 tcp_last_dir;  /* enum ctd_dir of tcp_last_flags */
	u16 tcp_last_flags;
	struct ctd_dir_count count[2]; /* without what verdicts have not credited yet */

	struct ctd_tuple orig;
	struct ctd_tuple reply;
	u64 start; /* jiffies */
	u32 mark;
	u16 helper;         /* 0 none */
	u16 timeout_policy; /* 0 default */
	u8 label[16];
	u32 master; /* connection id of the expecting connection, CTD_CONN_NONE if none */
	u32 master_seq;
	struct ctd_tcp_window win[2];
	u32 tcp_last_seq; /* host order, of the last packet that matters to the state */
	u32 tcp_last_ack;
	u32 ring_pos;  /* while free: next chain of the free list */
	u32 next_free; /* while free: next id of the chain */
	u8 reserved[24];
};
CTD_ASSERT_OFFSET(struct ctd_conn, last_seen, 16);
CTD_ASSERT_OFFSET(struct ctd_conn, count, 32);
CTD_ASSERT_OFFSET(struct ctd_conn, orig, 64);
CTD_ASSERT_OFFSET(struct ctd_conn, start, 144);
CTD_ASSERT_OFFSET(struct ctd_conn, label, 160);
CTD_ASSERT_OFFSET(struct ctd_conn, win, 184);
CTD_ASSERT_SIZE(struct ctd_conn, 256);

/*
 * Map `ct_class`: array, index = class (the first two). `ct_ring` holds their rings one after the other; an entry is
 * (sequence << 32) | connection id. Positions count up and never wrap in practice.
 */
struct ctd_class {
	u64 head;
	u64 tail;
	s64 live;  /* members */
	u32 quota; /* members allowed */
	u32 size;  /* entries of its ring, a power of two */
	u32 base;  /* index of its first entry in `ct_ring` */
	u32 pad;
};
CTD_ASSERT_SIZE(struct ctd_class, 40);

#endif
