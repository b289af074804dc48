/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The action list of the flow that matched: a fixed-length array in one loop. ct() and `route` are stages of their own
 * and come back here (or to LOOKUP).
 */
#ifndef CTD_DP_ACTIONS_H
#define CTD_DP_ACTIONS_H

#include "dp/key.h"
#include "dp/output.h"

/* What the loop ends with: a program's verdict, or a stage to go to (negative). */
#define GO(stage) (-1 - (int)(stage))

static __always_inline struct ctd_action *action_at(const struct scratch *s, u32 at)
{
	u32 id = s->actions;
	struct ctd_action_list *list = map_lookup(&flow_actions, &id);

	if (!list || at >= CTD_MAX_ACTIONS || at >= list->count)
		return NULL;
	return &list->slot[at];
}

static __always_inline int output(CTX *ctx, struct scratch *s, const struct ctd_action *action)
{
	u32 number = action->output.port ? action->output.port : s->key.key.out_port;
	struct ctd_port *out = port_get(number);

	if (number == CTD_PORT_LOCAL)
		return to_stack(ctx, s);
	if (!out || action->output.max_len)
		return drop(s->pkt.port, out ? CTD_DROP_UNSUPPORTED_ACTION : CTD_DROP_UNKNOWN_PORT);
	if (s->pkt.egress && number == s->pkt.port)
		return to_stack(ctx, s);
	if ((out->flags & CTD_PORT_L3) != (s->pkt.l2_len ? 0 : CTD_PORT_L3))
		return drop(s->pkt.port, CTD_DROP_UNSUPPORTED_ACTION);
	return send_to(ctx, number, out->ifindex, s->pkt.len);
}

/* A new pass over the tables with another recirculation id. */
static __always_inline int recirculate(struct scratch *s, u32 recirc_id)
{
	s->key.key.recirc_id = recirc_id;
	return GO(STAGE_LOOKUP);
}

static __always_inline int run_actions(CTX *ctx, struct scratch *s)
{
	for (u32 i = 0; i < CTD_MAX_ACTIONS; i++) {
		struct ctd_action *action = action_at(s, s->action_at);

		if (!action)
			return drop(s->pkt.port, CTD_DROP_POLICY);
		s->action_at++;
		switch (action->type) {
			case CTD_ACT_END:
			case CTD_ACT_DROP:
				return drop(s->pkt.port, CTD_DROP_POLICY);
			case CTD_ACT_OUTPUT: /* so far always the last action: several outputs come with clone */
				return output(ctx, s, action);
			case CTD_ACT_CT:
				return GO(STAGE_CT);
			case CTD_ACT_ROUTE:
				return GO(STAGE_ROUTE);
			case CTD_ACT_STACK:
				return to_stack(ctx, s);
			case CTD_ACT_RECIRC:
				return recirculate(s, action->arg);
			case CTD_ACT_CT_CLEAR:
				__builtin_memset(&s->ct, 0, sizeof(s->ct));
				key_clear_ct(&s->key.key);
				s->settle = 0;
				continue;
		}
		return drop(s->pkt.port, CTD_DROP_UNSUPPORTED_ACTION);
	}
	return drop(s->pkt.port, CTD_DROP_RECIRC_LIMIT);
}

#endif
