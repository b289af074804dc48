/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why the datapath dropped a packet. One list makes the enum, the names and their descriptions; the names are
 * what `ctctl stats` and the metrics show. New reasons are appended: the numbers are part of the ABI.
 */
#ifndef CTD_ABI_DROP_H
#define CTD_ABI_DROP_H

#include <ctd/abi/types.h>

#define CTD_DROP_REASONS(X)                                                                         \
	X(NONE, none, "not dropped")                                                                \
	X(TRUNCATED, truncated, "the packet ends before its headers do")                            \
	X(BAD_HEADER, bad_header, "a header contradicts itself or the packet's length")             \
	X(FRAGMENT, fragment, "an IP fragment met ct(), and there is no reassembly stage yet")      \
	X(POLICY, policy, "a rule, or the absence of one, drops it")                                \
	X(CT_INVALID, ct_invalid, "connection tracking found the packet invalid")                   \
	X(CT_FULL, ct_full, "no room for a new connection")                                         \
	X(CT_CLASH, ct_clash, "lost a race for a tuple too many times")                             \
	X(NAT_EXHAUSTED, nat_exhausted, "no free mapping in the NAT range")                         \
	X(NAT_NO_ADDRESS, nat_no_address, "masquerade to a port without an address")                \
	X(NO_ROUTE, no_route, "the host's routing table has no route, or forbids it")               \
	X(MARTIAN, martian, "source or destination may not be forwarded")                           \
	X(RPFILTER, rpfilter, "reverse path filter")                                                \
	X(NOT_FOR_US, not_for_us, "not addressed to the port's MAC address")                        \
	X(MULTICAST_FORWARD, multicast_forward, "forwarding of multicast is not supported")         \
	X(TTL_EXCEEDED, ttl_exceeded, "TTL or hop limit ran out; answered if the rate allows")      \
	X(TOO_BIG, too_big, "larger than the MTU and may not be fragmented; answered")              \
	X(NEEDS_FRAGMENTATION, needs_fragmentation, "larger than the MTU; no fragment stage yet")   \
	X(FORWARDING_OFF, forwarding_off, "the host's ip_forward (or IPv6 forwarding) is off")      \
	X(STACK_FORWARD, stack_forward, "the host's stack tried to forward past the datapath")      \
	X(FORGED, forged, "a packet on the dedicated device without our token")                     \
	X(STALE, stale, "came back from userspace with another ABI or instance token")              \
	X(UNKNOWN_PORT, unknown_port, "the device is not a port, or the output port is gone")       \
	X(UPCALL_LIMIT, upcall_limit, "more misses than the port's token bucket allows")            \
	X(UPCALL_NO_DAEMON, upcall_no_daemon, "a miss while no daemon reads the dedicated device")  \
	X(UPCALL_FAILED, upcall_failed, "the packet could not be prepared for userspace")           \
	X(UNSUPPORTED_ACTION, unsupported_action, "an action this version does not carry out")      \
	X(UNKNOWN_RECIRC, unknown_recirc, "a recirculation id that names no state")                 \
	X(RECIRC_LIMIT, recirc_limit, "too many recirculations or actions for one packet")          \
	X(TAIL_CALL, tail_call, "a stage was not loaded, or the tail-call budget ran out")          \
	X(REWRITE, rewrite, "a header could not be rewritten")                                      \
	X(NO_SCRATCH, no_scratch, "internal: a map that always exists did not")                     \
	X(NOT_LOCAL, not_local, "given to the host, but neither for it nor broadcast or multicast") \
	X(CT_LIMIT, ct_limit, "a new connection of a zone that is at its limit")                    \
	X(NAT_REDIRECT, nat_redirect, "an ICMP redirect about a translated connection")

enum ctd_drop_reason {
#define X(id, name, text) CTD_DROP_##id,
	CTD_DROP_REASONS(X)
#undef X
	CTD_DROP_COUNT,
};

/* Room for reasons to come, so that the counters' layout stays. */
#define CTD_DROP_MAX 64
CTD_ASSERT(CTD_DROP_COUNT <= CTD_DROP_MAX);

/* Other per-port events worth a counter; same rules as for drop reasons. */
#define CTD_COUNTERS(X)                                                    \
	X(FAST_HIT, fast_hit, "forwarded by the verdict cache")            \
	X(FAST_MADE, fast_made, "verdicts made")                           \
	X(FLOW_HIT, flow_hit, "flow look-ups that found a flow")           \
	X(FLOW_MISS, flow_miss, "flow look-ups that found none")           \
	X(UPCALL, upcall, "packets sent to the daemon")                    \
	X(EXECUTE, execute, "packets that came back from the daemon")      \
	X(CT_NEW, ct_new, "connections created")                           \
	X(CT_EVICTED, ct_evicted, "connections that made room at a quota") \
	X(CT_BUSY, ct_busy, "packets of a record that stayed locked")      \
	X(TO_STACK, to_stack, "given to the host's stack")                 \
	X(ICMP_SENT, icmp_sent, "ICMP errors sent")                        \
	X(ICMP_LIMITED, icmp_limited, "ICMP errors withheld by the rate limit")

enum ctd_counter {
#define X(id, name, text) CTD_COUNT_##id,
	CTD_COUNTERS(X)
#undef X
	CTD_COUNT_COUNT,
};
#define CTD_COUNT_MAX 28
CTD_ASSERT(CTD_COUNT_COUNT <= CTD_COUNT_MAX);

/* Map `port_stats`: per-CPU array, index = port number (0 = LOCAL). Written by BPF, read by userspace. */
struct ctd_port_stats {
	u64 rx_packets;
	u64 rx_bytes;
	u64 tx_packets;
	u64 tx_bytes;
	u64 count[CTD_COUNT_MAX];
	u64 drop[CTD_DROP_MAX];
};
CTD_ASSERT_SIZE(struct ctd_port_stats, 8 * (4 + CTD_COUNT_MAX + CTD_DROP_MAX));

#endif
