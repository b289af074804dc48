/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The timers of the sweep and of orders. A callback belongs to the program that set it, so a new daemon sets it again.
 */
#ifndef CTD_CT_TIMER_H
#define CTD_CT_TIMER_H

#include "ct/order.h"
#include "ct/sweep.h"

#define TIMER_CLOCK 1 /* CLOCK_MONOTONIC */

struct table_timer {
	struct bpf_timer timer;
};
CTD_MAP(ct_timer, ARRAY, u32, struct table_timer, 1, 0);

static int timer_fired(void *map CTD_UNUSED, u32 *key CTD_UNUSED, struct table_timer *value)
{
	bpf_timer_start(&value->timer, sweep_tick(), 0);
	return 0;
}

/* 0, or a negative error. */
static __always_inline long timer_arm(void)
{
	struct table_timer *t;
	u32 zero = 0;
	long error;

	t = map_lookup(&ct_timer, &zero);
	if (!t)
		return -1;
	bpf_timer_init(&t->timer, &ct_timer, TIMER_CLOCK); /* -EBUSY if an earlier program did */
	error = bpf_timer_set_callback(&t->timer, timer_fired);
	return error ? error : bpf_timer_start(&t->timer, SWEEP_TICK_NS, 0);
}

CTD_MAP(ct_order_timer, ARRAY, u32, struct table_timer, 1, 0);

static int order_fired(void *map CTD_UNUSED, u32 *key CTD_UNUSED, struct table_timer *value CTD_UNUSED)
{
	order_run();
	return 0;
}

/* The order is carried out as soon as this CPU comes to it. 0, or a negative error. */
static __always_inline long order_start(void)
{
	struct table_timer *t;
	u32 zero = 0;
	long error;

	t = map_lookup(&ct_order_timer, &zero);
	if (!t)
		return -1;
	bpf_timer_init(&t->timer, &ct_order_timer, TIMER_CLOCK); /* -EBUSY if an earlier program did */
	error = bpf_timer_set_callback(&t->timer, order_fired);
	return error ? error : bpf_timer_start(&t->timer, 0, 0);
}

/* The slow path keeps ageing alive without a daemon: a beat that is two seconds old means that the timer is lost. */
static __always_inline void timer_keep(void)
{
	u32 now = (u32)now_jiffies(), beat;
	struct ctd_rt *rt = rt_get();

	if (!rt)
		return;
	beat = read_once(rt->beat);
	if ((s32)(now - beat) > (s32)(2 * ctd_config.hz) && atomic_cmpxchg(&rt->beat, beat, now) == beat)
		timer_arm();
}

#endif
