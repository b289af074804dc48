// SPDX-License-Identifier: Apache-2.0
/*
 * Ring buffers to userspace, as the kernel's: records lie in the order in which they were reserved, each behind a
 * header of eight bytes, and a record that is not submitted yet holds up those behind it.
 */
#include <stdlib.h>
#include <string.h>

#include "native/internal.h"
#include "native/native.h"

#define HEADER 8u /* as BPF_RINGBUF_HDR_SZ: counts against the ring's size */

struct record {
	struct record *next;
	struct native_ring *ring;
	u32 size;
	bool submitted;
	u64 data[];
};

struct native_ring_state {
	struct record *first;
	struct record **last;
	u32 used;
	int lock;
};

static struct native_ring *all_rings;

void native_ring_register(struct native_ring *ring)
{
	ring->next = all_rings;
	all_rings = ring;
}

struct native_ring *native_ring_find(const char *name)
{
	struct native_ring *ring = all_rings;

	while (ring && strcmp(ring->name, name))
		ring = ring->next;
	return ring;
}

static void lock(struct native_ring_state *state)
{
	while (__atomic_exchange_n(&state->lock, 1, __ATOMIC_ACQUIRE))
		;
}

static void unlock(struct native_ring_state *state)
{
	__atomic_store_n(&state->lock, 0, __ATOMIC_RELEASE);
}

static u32 room_of(u32 size)
{
	return HEADER + ((size + 7) & ~7u);
}

static void drop_first(struct native_ring_state *state)
{
	struct record *record = state->first;

	state->first = record->next;
	if (!state->first)
		state->last = &state->first;
	state->used -= room_of(record->size);
	free(record);
}

void native_rings_reset(void)
{
	for (struct native_ring *ring = all_rings; ring; ring = ring->next) {
		if (!ring->state)
			ring->state = calloc(1, sizeof(*ring->state));
		if (!ring->state)
			abort();
		while (ring->state->first)
			drop_first(ring->state);
		ring->state->last = &ring->state->first;
	}
}

void *native_ring_reserve(struct native_ring *ring, u32 size)
{
	struct record *record = malloc(sizeof(*record) + size);
	struct native_ring_state *state = ring->state;

	if (!record)
		abort();
	memset(record->data, 0xa5, size); /* what the program leaves out is not zero */
	record->next = NULL;
	record->ring = ring;
	record->size = size;
	record->submitted = false;
	lock(state);
	if (state->used + room_of(size) > ring->bytes) {
		unlock(state);
		free(record);
		return NULL;
	}
	state->used += room_of(size);
	*state->last = record;
	state->last = &record->next;
	unlock(state);
	return record->data;
}

void native_ring_submit(void *data)
{
	struct record *record = (struct record *)((u8 *)data - offsetof(struct record, data));
	struct native_ring_state *state = record->ring->state;

	lock(state);
	record->submitted = true;
	unlock(state);
}

u32 native_ring_read(struct native_ring *ring, void *to, u32 size)
{
	struct native_ring_state *state = ring->state;
	u32 taken = 0;

	lock(state);
	if (state->first && state->first->submitted) {
		taken = state->first->size;
		memcpy(to, state->first->data, taken < size ? taken : size);
		drop_first(state);
	}
	unlock(state);
	return taken;
}
