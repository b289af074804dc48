/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The instance itself: ABI version, seeds and the few values that change while it runs. */
#ifndef CTD_ABI_META_H
#define CTD_ABI_META_H

#include <ctd/abi/types.h>

#define CTD_ABI_MAGIC 0x63746430u /* "ctd0" */
/*
 * Raised with every change of a layout or meaning in include/ctd/abi or of the stages' shared state. Pinned maps of
 * another version are refused: equal sizes with another layout are accepted silently by the kernel.
 */
#define CTD_ABI_VERSION 3u

/* Map `ctd_meta`: array of one. Written once, when the instance is made; pinned. */
struct ctd_meta {
	u32 magic;
	u32 abi_version;
	u64 seed;  /* of tags, flow hashes and dp_hash */
	u64 token; /* marks our packets at the hooks */
	u32 hz;    /* jiffies a second */
	u32 conn_capacity;
	u32 flow_capacity;
	u32 tap_ifindex;
	u64 rules; /* hash of the rules in force: a daemon with others ends the connections made under them */
	u32 family_capacity[2]; /* connections of IPv4 and of IPv6, each at most conn_capacity */
	u8 reserved[8];
};
CTD_ASSERT_SIZE(struct ctd_meta, 64);

/* Map `ctd_rt`: array of one, mapped by userspace. */
struct ctd_rt {
	u32 version;          /* of rules, flows, routes: verdicts of another one are void. Daemon, atomic add */
	u32 mask_list;        /* 0 or 1: the published entry of `flow_mask_list`. Daemon */
	u32 beat;             /* jiffies (low word) of the last sweep. BPF timer */
	u32 daemon_beat;      /* jiffies (low word) when the daemon last said that it reads the tap. Daemon */
	u32 high_water;       /* connection ids handed out so far: 1..high_water. BPF */
	u32 sweep_at;         /* next id to look at. BPF timer */
	u32 timeout_scale[2]; /* what is left of timeouts, by family (IPv4, IPv6), in CTD_SCALE_FULL; 0: no sweep yet.
				 BPF timer */
	u64 free_head;        /* free list of ids: (tag << 32) | first id. BPF */
	s64 conns;            /* connections alive. BPF */
	u64 sweeps;           /* whole rounds. BPF timer */
	u64 icmp_tokens;      /* token bucket of ICMP errors: (jiffies << 32) | tokens. BPF */
	u64 event_seq;        /* events so far, lost ones included. BPF */
	u64 events_lost;      /* of these: the ring was full. BPF */
	u32 event_mask;       /* events that somebody reads, enum ctd_event_bit. Daemon */
	u32 pad;
	u8 reserved[40];
};
CTD_ASSERT_SIZE(struct ctd_rt, 128);

/* What is fixed when the programs are loaded: their read-only data. Set by the daemon. */
struct ctd_config {
	u64 seed;  /* of tags and flow hashes: ctd_meta.seed */
	u64 token; /* ctd_meta.token */
	u32 hz;    /* jiffies a second */
	u32 conn_capacity;
	u32 tap_ifindex;
	u32 icmp_rate; /* ICMP errors a second, at most */
	u32 family_capacity[2];
	u32 id_batch;       /* ctd_id_batch() */
	u32 adaptive_start; /* per mille of the capacity: from here on, assured connections shorten all timeouts … */
	u32 adaptive_end;   /* … and here nothing would be left of them */
	u32 pad[3];
};

CTD_ASSERT_SIZE(struct ctd_config, 64);

#define CTD_SCALE_FULL 1024u

/*
 * Free connection ids move between the CPUs' caches and the shared stack in chains of this length. What a CPU keeps to
 * itself is no use to the others: all together never more than a sixteenth of the table, unless there are more CPUs.
 */
static inline u32 ctd_id_batch(u32 capacity, u32 cpus)
{
	u32 batch = capacity / (16 * (cpus ? cpus : 1));

	return batch < 1 ? 1 : batch > 32 ? 32 : batch;
}

/* Context of the control programs (BPF_PROG_TYPE_SYSCALL): what userspace asks of the connection table. */
struct ctd_control {
	u64 count; /* out: connections marked, or verdicts visited */
};

#endif
