/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The scratch record: all that the stages tell each other about the packet under way. One a CPU: TC runs with bottom
 * halves off, so only bpf_clone_redirect could nest, and who calls it saves the record around the call.
 */
#ifndef CTD_CORE_SCRATCH_H
#define CTD_CORE_SCRATCH_H

#include <ctd/abi/action.h>
#include <ctd/abi/cache.h>
#include <ctd/abi/ct.h>
#include <ctd/abi/key.h>
#include <ctd/abi/upcall.h>

#include "host/host.h"

enum stage {
	STAGE_LOOKUP,     /* flow look-up, then the flow's actions from the first */
	STAGE_ACTIONS,    /* the action list from `action_at` */
	STAGE_CT,         /* the ct() action at `action_at` - 1 */
	STAGE_ROUTE,      /* the route action at `action_at` - 1 */
	STAGE_UPCALL,     /* to the daemon */
	STAGE_ICMP_ERROR, /* answer with the ICMP error in `icmp` */
	STAGE_COUNT,
};

/* What a header is good for. */
enum packet_flag {
	PACKET_IP = 0x01,      /* IPv4 or IPv6, header sound */
	PACKET_L4 = 0x02,      /* ports (or ICMP type, code, id) are in the tuple and rewritable */
	PACKET_OPTIONS = 0x04, /* IPv4 options or IPv6 extension headers */
	PACKET_ICMP_ERROR = 0x08,
	PACKET_UNTRACKABLE = 0x10, /* the L4 header is missing, short or lies */
	PACKET_DF = 0x20,
	PACKET_L2_MULTICAST = 0x40,
	PACKET_RESUMED = 0x80, /* came back from userspace: the skb stands at the dedicated device */
};

/* The header as it is now (NAT updates it). Offsets in bytes from the start of the packet. */
struct packet {
	u32 ifindex; /* device whose hook it met */
	u32 in_port; /* number of that device's port, or CTD_PORT_LOCAL at its egress hook */
	u32 port;    /* number of that device's port in both cases */
	u32 len;     /* with layer 2 */
	u32 l3_len;  /* by the IP header */
	u16 l3_off;
	u16 l4_off;
	u8 l2_len;
	u8 egress;
	u8 flags; /* enum packet_flag */
	u8 frag;  /* enum ctd_frag */
	be16 eth_type;
	be16 vlan_tpid;
	be16 vlan_tci; /* with 0x1000 if present */
	u8 tos;
	u8 ttl;
	u8 tcp_flags; /* low byte: FIN SYN RST PSH ACK URG ECE CWR */
	u8 icmp_type;
	u8 icmp_code;
	u8 tcp_options; /* bytes of options */
	be32 ipv6_label;
	u32 tcp_seq; /* host order */
	u32 tcp_ack;
	u32 tcp_end;  /* sequence number after it: payload, SYN and FIN count */
	u32 tcp_sack; /* from here on what core/tcp_options.h reads: the right edge of SACK blocks, or tcp_ack */
	struct ctd_tuple tuple; /* zone is ct()'s to set */
	u8 eth_dst[6];
	u8 eth_src[6];
	u16 tcp_window; /* host order, as on the wire */
	u8 tcp_offers;  /* CTD_TCPW_SCALE, CTD_TCPW_SACK */
	u8 tcp_scale;
};

/* What ct() reads of an SCTP packet beyond its ports, and where its association stands then: see ct/sctp.h. */
#define SCTP_MAX_CHUNKS 8 /* of those that change a state */
struct sctp_packet {
	be32 tag;
	be32 init_tag; /* of an INIT or INIT ACK */
	u16 seen;      /* 1 << chunk type, for the types below 16 */
	u8 count;      /* of `chunk` */
	u8 bad;        /* chunks are cut, or may not stand together */
	u8 state;      /* enum ctd_sctp_state */
	u8 quiet;      /* passes, but does not keep the association alive */
	u8 assured;    /* it was established, by this packet at the latest */
	u8 pad;
	u8 chunk[SCTP_MAX_CHUNKS]; /* types, in the packet's order; SCTP_T_BIT */
	struct ctd_sctp_track track;
};

/* What ct() reads of a DCCP packet. */
struct dccp_packet {
	u64 seq;
	u64 ack; /* ~0: none, or a short one */
	u8 type;
	u8 assured; /* it ends the handshake */
	u8 pad[6];
};

#define MASK_HINTS 64

struct scratch {
	struct packet pkt;
	struct ctd_packet_ct ct;     /* the packet's connection */
	struct ctd_action_ct commit; /* of the ct(commit) under way */
	struct ctd_tuple quoted;     /* of an ICMP error: the tuple of the packet it quotes */
	u32 quoted_l4;  /* offset of the quoted layer 4 header (or of where it would be), 0: not understood */
	u32 quoted_len; /* its length with payload by the quoted IP header, 0: not known */
	union {
		struct sctp_packet sctp;
		struct dccp_packet dccp;
	};

	u32 actions;   /* index into flow_actions */
	u32 action_at; /* next slot */
	u32 passes;    /* flow look-ups so far */
	u32 version;   /* ctd_rt.version when the pass began */

	/* For the verdict: what this packet matched on its way. */
	u32 flow_count;
	u32 flow[CTD_VERDICT_FLOWS];
	u32 flow_gen[CTD_VERDICT_FLOWS];
	u32 guard;
	u8 settle;  /* ct() found a settled connection: a verdict may be made */
	u8 lookups; /* of connections: by ct() in several zones, or again after a race */
	u8 rpf_done;
	u8 icmp_type; /* for STAGE_ICMP_ERROR: the error to answer with */
	u8 icmp_code;
	u32 icmp_info; /* MTU, host order */

	/* What `route` found; valid for fib_dst. */
	u32 fib_ifindex;
	u32 fib_family; /* enum ctd_family of fib_gw; 0: nothing found yet */
	struct ctd_addr fib_gw;
	struct ctd_addr fib_dst;
	u32 nh_check; /* the next hop that sent this packet the long way, 0 none */
	u32 fib_mtu;  /* of the route */

	union ctd_key_words key;
	u8 buffer[640]; /* one stage's at a time */

	/* What stays from packet to packet: see flow_lookup(). */
	u8 mask_hints[MASK_HINTS];
};

/* Free connection ids of one CPU: a chain through ctd_conn.next_free. */
struct free_cache {
	u32 head;
	u32 count;
};

#endif
