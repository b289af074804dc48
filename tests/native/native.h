/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control side of the native host: what a test, a fuzzer or a benchmark says to the emulated kernel.
 *
 * One core is in the process: native_reset() makes its maps anew. Threads are CPUs; native_run() may be called from
 * several threads at once, everything else here only while no packet is under way. C and C++.
 */
#ifndef CTD_TESTS_NATIVE_H
#define CTD_TESTS_NATIVE_H

#include "host/native.h"

#ifdef __cplusplus
extern "C" {
#endif
#include <ctd/abi/expect.h>

#include "core/config.h"
#include "core/scratch.h"

#define NATIVE_MAX_CPUS 4
#define NATIVE_TAP_IFINDEX 1000
#define NATIVE_TAIL_CALLS 33 /* MAX_TAIL_CALL_CNT */

/* The clock after native_reset(): as in the kernel, five minutes before its low word wraps (at 250 Hz). */
#define NATIVE_FIRST_JIFFIES ((u64)0xffffffffu - 300 * 250)

/* Sizes of the maps that the configuration sizes. Zero: a small default. */
struct native_options {
	u32 conn_capacity;
	u32 flow_capacity;
	u32 unanswered_quota; /* members of the classes unanswered and answered; 0: a quarter and a half of the capacity
			       */
	u32 answered_quota;
	u32 cache_entries;
	u32 source_share; /* of a quota; 0: all of it */
	u32 capacity4;    /* of a family; 0: conn_capacity */
	u32 capacity6;
	u32 adaptive_start; /* per mille of the capacity; both zero: timeouts are not shortened */
	u32 adaptive_end;
	u32 seed; /* of random32() and of ctd_config.seed */
};

/* New maps, clock, counters and routes. */
void native_reset(const struct native_options *options);

/* Maps by the name they have in bpf/core/maps.h; NULL if there is none. */
struct native_map *native_map_find(const char *name);
u32 native_map_count(const struct native_map *map);
/* The value of one CPU in a PERCPU map. */
void *native_map_lookup_cpu(struct native_map *map, const void *key, u32 cpu);

enum native_operation {
	NATIVE_ON_UPDATE = 1,
	NATIVE_ON_DELETE = 2,
};

/* After `skip` more operations of these kinds on the map, the next `times` fail with -error (E2BIG, EBUSY, ENOMEM). */
void native_map_fail(struct native_map *map, unsigned operations, int error, u32 skip, u32 times);
/* Each update and delete of any hash fails with this probability: per mille. For fuzzers. */
void native_map_fail_randomly(u32 permille);

/* Rings by their name. A ring has as much room as the kernel's: what is not read is lost when it is full. */
struct native_ring *native_ring_find(const char *name);
/* Takes the oldest record that is submitted; its size, 0 if there is none. `to` has room for `size` bytes. */
u32 native_ring_read(struct native_ring *ring, void *to, u32 size);

void native_set_cpu(u32 cpu); /* of the calling thread */
void native_set_jiffies(u64 jiffies);
void native_advance(u64 jiffies);
/* Whether csum_diff() folds to 16 bits, as kernels from 6.13 do. */
void native_fold_csum_diff(bool fold);

/* A route of the emulated host. `result` is what bpf_fib_lookup answers: BPF_FIB_LKUP_RET_*. */
struct native_route {
	u8 family; /* enum ctd_family */
	u8 prefix;
	struct ctd_addr dst;
	struct ctd_addr gateway; /* zero: on link */
	u32 ifindex;
	u16 mtu;
	int result;
	bool neighbour; /* resolved: a look-up without BPF_FIB_LOOKUP_SKIP_NEIGH gives both addresses */
	u8 smac[6];
	u8 dmac[6];
};
/* The longest prefix wins, the later one among equals. */
void native_route_add(const struct native_route *route);
void native_routes_clear(void);

/* A packet as a device hands it over: `linear` bytes of it in the linear part. Layer 2 is Ethernet, or absent. */
struct native_packet *native_packet_new(const void *bytes, u32 len, u32 linear, bool ethernet);
void native_packet_free(struct native_packet *packet);
/* Its bytes, copied out; the caller's buffer holds at least packet->len. */
void native_packet_bytes(const struct native_packet *packet, void *to);
/* Marks the checksum as the device's: computes `csum` over layer 3 and up. */
void native_packet_csum_complete(struct native_packet *packet);
/* Does `csum` still agree with the bytes? For NATIVE_CSUM_COMPLETE. */
bool native_packet_csum_true(const struct native_packet *packet);

enum native_entry {
	NATIVE_INGRESS, /* a port's device received it */
	NATIVE_EGRESS,  /* the host sends it by a port's device */
	NATIVE_TAP_IN,  /* the daemon wrote it to the dedicated device */
	NATIVE_TAP_OUT, /* something sends it to the dedicated device */
};
/* Runs the program of a hook and the stages that it calls; answers TC_ACT_*. */
int native_run(struct native_packet *packet, enum native_entry entry);
/* Tail calls to this stage fail from now on, as with an empty slot of the program array. */
void native_stage_missing(u32 stage, bool missing);
/* How many tail calls the last native_run() of this thread made. */
u32 native_tail_calls(void);

/* What the sweep's timer does every ten milliseconds; the clock stays. Answers when it would do so next, in ns. */
u64 native_sweep_tick(void);
/* The counter of a tuple's source, see map `ct_sources`. */
u32 native_source_of(const struct ctd_tuple *tuple);
/* The control programs: connections marked dead, verdicts credited. */
u64 native_flush(void);
/* Until the connection expires; 0 if it has. */
u32 native_jiffies_left(const struct ctd_conn *conn);
u64 native_credit(void);
/* What userspace has put into `ct_order` and `ct_requests` is carried out. */
void native_order(void);
enum native_expect_order {
	NATIVE_EXPECT_ADD,
	NATIVE_EXPECT_REMOVE,
};
int native_expect(enum native_expect_order what, struct ctd_expect_order *order);

/* The TCP state machine alone: see bpf/ct/tcp.h. */
u32 native_tcp_next(u32 state, u8 dir, u8 flags);
bool native_tcp_flags_valid(u8 flags);
#define NATIVE_TCP_INVALID 0xffu
#define NATIVE_TCP_IGNORE 0xfeu

/* The other state machines alone: see bpf/ct/sctp.h and bpf/ct/dccp.h. */
u32 native_sctp_next(u32 state, u8 dir, u8 type);
u32 native_dccp_next(u32 state, u8 role, u8 type);
#define NATIVE_SCTP_INVALID 0xffu
#define NATIVE_DCCP_INVALID 0xffu
#define NATIVE_DCCP_IGNORE 0xfeu
/* What a change of the ports does to SCTP's checksum: see bpf/nat/crc32c.h. */
u32 native_crc32c_shift(u32 word, u32 len);
/* Packets found invalid for a reason (enum ctd_invalid_reason), on all CPUs. */
u64 native_invalid(u32 reason);

/* Connection ids alone: see bpf/ct/ids.h. */
u32 native_id_alloc(void);
void native_id_free(u32 id);

/* The parser alone. Answers a drop reason. */
int native_parse(struct native_packet *packet, struct packet *to);

/* The internet checksum of bytes, not inverted, folded. */
u16 native_csum(const void *bytes, u32 len, u32 sum);

#ifdef __cplusplus
}
#endif
#endif
