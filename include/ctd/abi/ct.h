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

/*
 * The control word of a record: life in bits 0..1, class in bits 2..3, why it ended in bits 4..7 (of a dead one),
 * sequence in bits 8..31. One word, so that a compare-and-swap says all: nobody may write to a record that is dead, for
 * whoever meets it may take it apart and use it again.
 */
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
#define CTD_CTL_LIFE(ctl) ((ctl) & 0x3u)
#define CTD_CTL_CLASS(ctl) (((ctl) >> 2) & 0x3u)
#define CTD_CTL_END(ctl) (((ctl) >> 4) & 0xfu) /* enum ctd_end_reason */
#define CTD_CTL_SEQ(ctl) ((ctl) >> 8)
#define CTD_CTL(seq, cls, life) (((u32)(seq) << 8) | ((u32)(cls) << 2) | (u32)(life))
#define CTD_CTL_DEAD(ctl, end) (((ctl) & ~0xffu) | ((u32)(end) << 4) | (CTD_CTL_CLASS(ctl) << 2) | (u32)CTD_CONN_DEAD)
/* The same with another life. */
#define CTD_CTL_WITH_LIFE(ctl, life) (((ctl) & ~0x3u) | (u32)(life))

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

/*
 * Protocol states, each protocol with its own numbering, with their default timeouts in seconds: ctd's own, which meet
 * RFC 4787, RFC 5382 and RFC 5508, and those of the preset `linux` (nf_conntrack's). TCP's, SCTP's and DCCP's states
 * are the kernel's, in its order.
 */
#define CTD_TCP_STATES(X)            \
	X(NONE, 10, 10)              \
	X(SYN_SENT, 240, 120)        \
	X(SYN_RECV, 240, 60)         \
	X(ESTABLISHED, 7440, 432000) \
	X(FIN_WAIT, 240, 120)        \
	X(CLOSE_WAIT, 240, 60)       \
	X(LAST_ACK, 240, 30)         \
	X(TIME_WAIT, 240, 120)       \
	X(CLOSE, 10, 10)             \
	X(SYN_SENT2, 240, 120)
enum ctd_tcp_state {
#define X(name, timeout_s, linux_s) CTD_TCP_##name,
	CTD_TCP_STATES(X)
#undef X
	CTD_TCP_STATE_COUNT,
};
/* UDP, UDP-Lite, GRE, ICMP and all others. */
#define CTD_OTHER_STATES(X) \
	X(UNREPLIED)        \
	X(REPLIED)
enum ctd_other_state {
#define X(name) CTD_OTHER_##name,
	CTD_OTHER_STATES(X)
#undef X
	CTD_OTHER_STATE_COUNT,
};
/*
 * Ours last a little longer than RTO.Max (60 s), after which a peer repeats a chunk at the latest; linux's three
 * seconds end a handshake that lost one packet. Established: as TCP, for heartbeats (every 30 s, which linux's 210 s
 * count on) can be switched off.
 */
#define CTD_SCTP_STATES(X)          \
	X(NONE, 10, 10)             \
	X(CLOSED, 10, 10)           \
	X(COOKIE_WAIT, 65, 3)       \
	X(COOKIE_ECHOED, 65, 3)     \
	X(ESTABLISHED, 7440, 210)   \
	X(SHUTDOWN_SENT, 65, 3)     \
	X(SHUTDOWN_RECD, 65, 3)     \
	X(SHUTDOWN_ACK_SENT, 65, 3) \
	X(HEARTBEAT_SENT, 65, 30)
enum ctd_sctp_state {
#define X(name, timeout_s, linux_s) CTD_SCTP_##name,
	CTD_SCTP_STATES(X)
#undef X
	CTD_SCTP_STATE_COUNT,
};
/* RFC 4340: two and four maximum segment lifetimes, the time after which its timestamps wrap, and its retransmissions.
 */
#define CTD_DCCP_STATES(X)    \
	X(NONE, 240, 240)     \
	X(REQUEST, 240, 240)  \
	X(RESPOND, 480, 480)  \
	X(PARTOPEN, 480, 480) \
	X(OPEN, 43200, 43200) \
	X(CLOSEREQ, 64, 64)   \
	X(CLOSING, 64, 64)    \
	X(TIMEWAIT, 240, 240)
enum ctd_dccp_state {
#define X(name, timeout_s, linux_s) CTD_DCCP_##name,
	CTD_DCCP_STATES(X)
#undef X
	CTD_DCCP_STATE_COUNT,
};

/*
 * Places of a policy's timeouts: the protocol's base plus its state. TCP has two more that cap the state's own, as in
 * the kernel: after `tcp_max_retrans` retransmissions, and while data is unacknowledged.
 */
enum ctd_timeout_base {
	CTD_TIMEOUT_TCP = 0,
	CTD_TIMEOUT_TCP_RETRANS = 10,
	CTD_TIMEOUT_TCP_UNACK = 11,
	CTD_TIMEOUT_UDP = 16,
	CTD_TIMEOUT_UDPLITE = 20,
	CTD_TIMEOUT_ICMP = 24,
	CTD_TIMEOUT_ICMPV6 = 28,
	CTD_TIMEOUT_GRE = 32,
	CTD_TIMEOUT_GENERIC = 36,
	CTD_TIMEOUT_SCTP = 40,
	CTD_TIMEOUT_DCCP = 50,
	CTD_TIMEOUT_COUNT = 64,
};
/* Of the protocols with the two states UNREPLIED and REPLIED: base, name, own and linux's, for both states each. */
#define CTD_OTHER_TIMEOUTS(X)                  \
	X(UDP, udp, 120, 120, 30, 120)         \
	X(UDPLITE, udplite, 120, 120, 30, 120) \
	X(ICMP, icmp, 60, 60, 30, 30)          \
	X(ICMPV6, icmpv6, 60, 60, 30, 30)      \
	X(GRE, gre, 30, 180, 30, 180)          \
	X(GENERIC, generic, 600, 600, 600, 600)
#define CTD_TCP_RETRANS_S 300
#define CTD_TCP_UNACK_S 300

enum ctd_ct_policy_flag {
	CTD_CTP_LIBERAL = 0x01,   /* no TCP segment is invalid by its window; the fast path leaves windows alone */
	CTD_CTP_NO_PICKUP = 0x02, /* a TCP connection begins with a SYN only */
};

#define CTD_CT_POLICY_NAME 32 /* with the zero at its end */

/*
 * Map `ct_policies`: array; how the connections of a zone or of a ct() action are kept. Index 0 is everybody's who
 * names no other. Written by the daemon.
 */
struct ctd_ct_policy {
	u32 timeout_s[CTD_TIMEOUT_COUNT]; /* seconds by enum ctd_timeout_base; 0: policy 0's, there: the default */
	u32 flags;                        /* enum ctd_ct_policy_flag */
	u32 tcp_max_retrans;              /* 0: 3, as in the kernel */
	char name[CTD_CT_POLICY_NAME];    /* the daemon's: an id keeps its name, for connections keep their ids */
};
CTD_ASSERT_SIZE(struct ctd_ct_policy, 296);
#define CTD_MAX_CT_POLICIES 256u

/* Map `ct_zones`: array, index = zone. `limit` and `policy` are the daemon's, `count` is written by BPF only. */
struct ctd_zone {
	u32 limit; /* connections at most, 0: no limit */
	s32 count; /* connections now */
	u16 policy;
	u16 pad;
	u32 reserved;
};
CTD_ASSERT_SIZE(struct ctd_zone, 16);

/* Why a connection ended; the names are those of events and of statistics. */
#define CTD_END_REASONS(X)                                                   \
	X(NONE, none, "not ended")                                           \
	X(TIMEOUT, timeout, "idle for longer than its timeout")              \
	X(DELETED, deleted, "deleted by the operator")                       \
	X(FLUSHED, flushed, "ended by a flush, or by a change of the rules") \
	X(EVICTED, evicted, "made room for another one of its class")        \
	X(REOPENED, reopened, "its endpoints opened a new one")              \
	X(REFUSED, refused, "a RST before it was answered")                  \
	X(FORCED, forced, "a ct(force) began another one with its tuple")
enum ctd_end_reason {
#define X(id, name, text) CTD_END_##id,
	CTD_END_REASONS(X)
#undef X
	CTD_END_COUNT,
};
CTD_ASSERT(CTD_END_COUNT <= 16); /* bits of CTD_CTL_END() */

/* Why a packet was found invalid: it goes on with `inv`, and has changed nothing. */
#define CTD_INVALID_REASONS(X)                                                                 \
	X(NONE, none, "not invalid")                                                           \
	X(UNTRACKABLE, untrackable, "its layer 4 header is missing, short or contradictory")   \
	X(TCP_FLAGS, tcp_flags, "TCP flags that no TCP sends")                                 \
	X(TCP_STATE, tcp_state, "a TCP segment that its connection's state does not allow")    \
	X(TCP_WINDOW, tcp_window, "a TCP segment outside of its connection's window")          \
	X(TCP_RST, tcp_rst, "a TCP RST that is not exact (RFC 5961)")                          \
	X(TCP_PICKUP, tcp_pickup, "no connection, and TCP may not begin with this segment")    \
	X(ICMP_QUERY, icmp_query, "an ICMP answer that nobody asked for")                      \
	X(ICMP_ERROR, icmp_error, "an ICMP error that quotes no known connection")             \
	X(SCTP_STATE, sctp_state, "an SCTP chunk that the association's state does not allow") \
	X(SCTP_TAG, sctp_tag, "a wrong SCTP verification tag")                                 \
	X(SCTP_CHUNK, sctp_chunk, "SCTP chunks that are cut or may not stand together")        \
	X(DCCP_STATE, dccp_state, "a DCCP packet that its connection's state does not allow")  \
	X(UNTRACKED, untracked, "neighbour discovery or MLD, which is never tracked")
enum ctd_invalid_reason {
#define X(id, name, text) CTD_INVALID_##id,
	CTD_INVALID_REASONS(X)
#undef X
	CTD_INVALID_COUNT,
};

/* What became of expectations. */
#define CTD_EXPECT_COUNTERS(X)                                              \
	X(MADE, made, "announced by their masters")                         \
	X(USED, used, "the connection that was announced came")             \
	X(TIMEOUT, timeout, "it did not come in time")                      \
	X(MASTER, master_ended, "the master ended first")                   \
	X(DELETED, deleted, "deleted by the operator")                      \
	X(REPLACED, replaced, "announced again by the same master")         \
	X(EVICTED, evicted, "made room for a newer one of the same master") \
	X(REFUSED, refused, "the table was full, or another master had announced the same")
enum ctd_expect_counter {
#define X(id, name, text) CTD_EXPECT_##id,
	CTD_EXPECT_COUNTERS(X)
#undef X
	CTD_EXPECT_COUNTER_COUNT,
};

/* Map `ct_stats`: per-CPU array of one. Written by BPF, read by userspace. */
#define CTD_INVALID_MAX 32
#define CTD_END_MAX 16
#define CTD_EXPECT_COUNTER_MAX 8
struct ctd_ct_stats {
	u64 invalid[CTD_INVALID_MAX];        /* packets, by enum ctd_invalid_reason */
	u64 ended[CTD_END_MAX];              /* connections, by enum ctd_end_reason */
	u64 expects[CTD_EXPECT_COUNTER_MAX]; /* expectations, by enum ctd_expect_counter */
	u64 reserved[8];
};
CTD_ASSERT(CTD_INVALID_COUNT <= CTD_INVALID_MAX && CTD_END_COUNT <= CTD_END_MAX);
CTD_ASSERT(CTD_EXPECT_COUNTER_COUNT <= CTD_EXPECT_COUNTER_MAX);
CTD_ASSERT_SIZE(struct ctd_ct_stats, 512);

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
	u32 end;     /* highest sequence number sent, plus one */
	u32 max_end; /* highest acknowledged by the peer plus its window: what may be sent */
	u32 max_win; /* largest window advertised, scaled; 0: nothing seen of this direction yet */
	u8 scale;
	u8 flags; /* enum ctd_tcp_window_flag */
	u16 pad;
};
CTD_ASSERT_SIZE(struct ctd_tcp_window, 16);
enum ctd_tcp_window_flag {
	CTD_TCPW_SCALE = 0x01,   /* offered window scaling */
	CTD_TCPW_SACK = 0x02,    /* may be sent SACK blocks */
	CTD_TCPW_FIN = 0x04,     /* was the first to send a FIN */
	CTD_TCPW_LIBERAL = 0x08, /* nothing is invalid by the window */
	CTD_TCPW_UNACKED = 0x10, /* data that the peer has not acknowledged */
	CTD_TCPW_MAXACK = 0x20,  /* has acknowledged something: whether a RST to it is exact can be told */
	/* Of the connection, in tcp_syn_flags; LIBERAL there is by policy. */
	CTD_TCPW_CHALLENGE = 0x40,    /* the answer to the SYN that was let through may be a challenge ACK */
	CTD_TCPW_SIMULTANEOUS = 0x80, /* both sides began with a SYN */
};
/* The tags that packets of each direction carry, as on the wire; 0: not known. */
struct ctd_sctp_track {
	be32 vtag[2];
	u8 flags; /* ct/sctp.h's: open INITs, a doubted tag, a handshake with pending tags */
	u8 pad[3];
	be32 pending[2]; /* tags of a handshake that is not finished, and may be forged */
	u32 reserved[3];
};
CTD_ASSERT_SIZE(struct ctd_sctp_track, 32);
struct ctd_dccp_track {
	u64 handshake_seq; /* of the server's Response */
	u8 role[2];        /* by direction: 0 client, 1 server */
	u8 last_type;      /* of the last packet, and its direction */
	u8 last_dir;
	u32 reserved[5];
};
CTD_ASSERT_SIZE(struct ctd_dccp_track, 32);

struct ctd_dir_count {
	u64 packets;
	u64 bytes; /* of layer 3, headers included */
};

#define CTD_CONN_NONE 0u /* connection ids start at 1 */

/* Map `ct_conn`: array, index = connection id, mapped read-only by userspace. Written by BPF. */
struct ctd_conn {
	/* One cache line with all that crediting a verdict touches. */
	u32 ctl;                       /* CTD_CTL(); the sequence changes with every reuse */
	u32 lock;                      /* 0 free, else taken: compare-and-swap, bounded spins */
	u32 status;                    /* enum ctd_status */
	u32 timeout;                   /* jiffies after the last packet; but see `expires` */
	u32 last_seen[2];              /* jiffies (low word) by direction; 0 if never */
	u32 id;                        /* its own index */
	u8 state;                      /* enum ctd_tcp_state or ctd_other_state, by orig.proto */
	u8 tcp_last_dir;               /* enum ctd_dir of tcp_last_flags */
	u16 tcp_last_flags;            /* of the last segment that counted, or that was let through unchecked */
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
	/*
	 * While free: the next chain of the free list, and the next id of the chain. Else: a timeout that the operator
	 * set, which holds until the next packet, that is, while the later last_seen is `expires_seen`.
	 */
	union {
		u32 next_chain;
		u32 expires; /* jiffies (low word); 0: none */
	};
	union {
		u32 next_free;
		u32 expires_seen;
	};

	/* One cache line with all else that a TCP segment touches. */
	union {
		struct ctd_tcp_window win[2];
		struct ctd_sctp_track sctp;
		struct ctd_dccp_track dccp;
	};
	u32 tcp_last_seq; /* host order; of the last ACK that counted, or of the segment that was let through unchecked
			   */
	u32 tcp_last_ack;
	u32 tcp_last_end; /* sequence number after it */
	u16 tcp_last_win; /* as on the wire */
	u8 tcp_retrans;   /* the last ACK again, so many times */
	u8 end_reason;    /* enum ctd_end_reason, once dead */
	u16 event_mask;   /* events that are of interest: enum ctd_event_bit; 0: all */
	u8 tcp_syn_flags; /* of the SYN that was let through unchecked: enum ctd_tcp_window_flag */
	u8 tcp_syn_scale;
	u32 source;         /* 1..CTD_SOURCES: the counter of its source address, see map `ct_sources` */
	u32 tcp_max_ack[2]; /* highest acknowledgement by direction; see CTD_TCPW_MAXACK */
};
CTD_ASSERT_OFFSET(struct ctd_conn, last_seen, 16);
CTD_ASSERT_OFFSET(struct ctd_conn, count, 32);
CTD_ASSERT_OFFSET(struct ctd_conn, orig, 64);
CTD_ASSERT_OFFSET(struct ctd_conn, start, 144);
CTD_ASSERT_OFFSET(struct ctd_conn, label, 160);
CTD_ASSERT_OFFSET(struct ctd_conn, win, 192);
CTD_ASSERT_SIZE(struct ctd_conn, 256);

/*
 * Map `ct_class`: array, index = CTD_CLASS_INDEX(). The classes unanswered and answered have a ring, all of them one
 * after the other in `ct_ring`; an entry is (sequence << 32) | connection id. Positions count up and never wrap in
 * practice.
 */
struct ctd_class {
	u64 head;
	u64 tail;
	s64 live;  /* members */
	s64 over;  /* sources with more than `share` members */
	u32 quota; /* members allowed */
	u32 size;  /* entries of its ring, a power of two; 0: it has none */
	u32 base;  /* index of its first entry in `ct_ring` */
	u32 share; /* members of one source beyond which they make room first */
};
CTD_ASSERT_SIZE(struct ctd_class, 48);
#define CTD_CLASS_INDEX(cls, family) ((cls) + ((family) == CTD_IPV6 ? (u32)CTD_CLASS_COUNT : 0u))
#define CTD_CLASS_INDEXES (2 * CTD_CLASS_COUNT)

/*
 * Map `ct_sources`: array of u32; how many members the sources have in each ring: CTD_SOURCES counters a ring. A source
 * is an IPv4 address or an IPv6 /64 in a zone; those that hash to one counter under our seed share it.
 */
#define CTD_SOURCES 16384u
#define CTD_RINGS 4u
/* Of a class with a ring. */
#define CTD_CLASS_RING(class_index) ((class_index) < CTD_CLASS_COUNT ? (class_index) : (class_index) - 1)

/* What unanswered and answered connections of a family may take of its capacity, and one source of that. */
#define CTD_QUOTA(capacity) ((capacity) / 2 ? (capacity) / 2 : 1)
#define CTD_SHARE(quota) ((quota) / 16 ? (quota) / 16 : 1)

#endif
