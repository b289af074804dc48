// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The TC datapath: hooks, stages, and the programs that userspace runs by hand. No logic here. */
#include "host/tc.h"

#include "ct/control.h"
#include "ct/expect_control.h"
#include "ct/timer.h"
#include "dp/stages.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PROGRAM(name, body)             \
	SEC("tc")                       \
	int name(struct __sk_buff *skb) \
	{                               \
		return body(skb);       \
	}

PROGRAM(ctd_ingress, entry_ingress)
PROGRAM(ctd_egress, entry_egress)
PROGRAM(ctd_tap_in, entry_tap_in)
PROGRAM(ctd_tap_out, entry_tap_out)

PROGRAM(ctd_lookup, stage_lookup)
PROGRAM(ctd_actions, stage_actions)
PROGRAM(ctd_route, stage_route)
PROGRAM(ctd_upcall, stage_upcall)
PROGRAM(ctd_icmp_error, stage_icmp_error)

SEC("tc")
int ctd_ct(struct __sk_buff *skb)
{
	timer_keep();
	return stage_ct(skb);
}

/* Run by the daemon with BPF_PROG_TEST_RUN when it starts: sets the sweep's timer. */
SEC("tc")
int ctd_timer(struct __sk_buff *skb CTD_UNUSED)
{
	return (int)timer_arm();
}

/* Run by the daemon in the same way: has the order in `ct_order` carried out. */
SEC("tc")
int ctd_order(struct __sk_buff *skb CTD_UNUSED)
{
	return (int)order_start();
}

/* Userspace changes the connection table through these only. */
SEC("syscall")
int ctd_flush(struct ctd_control *arg)
{
	return control_flush(arg);
}

SEC("syscall")
int ctd_credit(struct ctd_control *arg)
{
	return control_credit(arg);
}

SEC("syscall")
int ctd_expect_add(struct ctd_expect_order *order)
{
	return control_expect_add(order);
}

SEC("syscall")
int ctd_expect_remove(struct ctd_expect_order *order)
{
	return control_expect_remove(order);
}
