/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What ct(commit,…) writes into a record beside the connection itself: mark, label, helper. Read of the scratch record:
 * commit.
 */
#ifndef CTD_CT_COMMIT_H
#define CTD_CT_COMMIT_H

#include "ct/event.h"
#include "ct/table.h"

/* A record's mark, and its label as two words. */
struct commit_fields {
	u32 mark;
	u16 helper;
	u64 label[2];
};

/* What the fields of a record become. */
static __always_inline void commit_fields(struct commit_fields *to, const struct ctd_conn *conn,
					  const struct ctd_action_ct *act)
{
	const u64 *label = (const u64 *)conn->label;
	struct ctd_label_args *args;
	u32 id = act->label_id;

	to->mark = (read_once(conn->mark) & ~act->mark_mask) | (act->mark & act->mark_mask);
	to->helper = conn->helper ? conn->helper : act->helper;
	to->label[0] = label[0];
	to->label[1] = label[1];
	args = id ? map_lookup(&ct_label_args, &id) : NULL;
	if (args) {
		const u64 *value = (const u64 *)args->value, *mask = (const u64 *)args->mask;

		to->label[0] = (to->label[0] & ~mask[0]) | (value[0] & mask[0]);
		to->label[1] = (to->label[1] & ~mask[1]) | (value[1] & mask[1]);
	}
}

/* What would change: enum ctd_event_bit. */
static __always_inline u32 commit_changes(const struct commit_fields *to, const struct ctd_conn *conn)
{
	const u64 *label = (const u64 *)conn->label;
	u32 what = 0;

	if (to->mark != conn->mark)
		what |= CTD_EVENT_MARK;
	if (to->helper != conn->helper)
		what |= CTD_EVENT_HELPER;
	if (to->label[0] != label[0] || to->label[1] != label[1])
		what |= CTD_EVENT_LABEL;
	return what;
}

static __always_inline void commit_write(const struct commit_fields *from, struct ctd_conn *conn)
{
	u64 *label = (u64 *)conn->label;

	write_once(conn->mark, from->mark);
	write_once(conn->helper, from->helper);
	write_once(label[0], from->label[0]);
	write_once(label[1], from->label[1]);
	if (from->helper && !(read_once(conn->status) & CTD_STATUS_HELPER))
		atomic_or(&conn->status, CTD_STATUS_HELPER);
}

/*
 * A second commit changes mark, label and the lack of a helper, and nothing else. Verdicts go: the flows that made them
 * may match what has changed.
 */
CTD_GLOBAL int conn_update(u32 id, u32 seq)
{
	struct scratch *s = scratch_get();
	struct ctd_conn *conn = conn_get(id);
	struct commit_fields fields;
	u32 what;

	if (!s || !conn)
		return 0;
	commit_fields(&fields, conn, &s->commit);
	if (!commit_changes(&fields, conn))
		return 0;
	if (!conn_lock(conn, CTD_CTL(seq, 0, 0))) {
		count(s->pkt.port, CTD_COUNT_CT_BUSY);
		return 0;
	}
	commit_fields(&fields, conn, &s->commit);
	what = commit_changes(&fields, conn);
	commit_write(&fields, conn);
	conn_unlock(conn);
	conn_drop_verdicts(id);
	event(id, what);
	return 1;
}

#define FORCE_RETRIES 4

/* ct(commit,force) on a packet of the reply direction: its connection ends. */
CTD_GLOBAL int conn_force_end(u32 id, u32 seq)
{
	struct ctd_conn *conn = conn_get(id);

	if (!conn)
		return 0;
	/* Its class may change under us. */
	for (int i = 0; i < FORCE_RETRIES; i++) {
		u32 ctl = read_once(conn->ctl);

		if (CTD_CTL_SEQ(ctl) != seq || CTD_CTL_LIFE(ctl) != CTD_CONN_VALID)
			return 0;
		if (conn_make_dead(conn, ctl, CTD_END_FORCED))
			return conn_reap(conn, id);
	}
	return 0;
}

#endif
