// SPDX-License-Identifier: Apache-2.0
/*
 * Maps. What the kernel does that surprises, this does too: a deleted hash element is the next one handed out, the
 * update of an existing key moves it to another element, an LRU hash evicts without telling anyone.
 *
 * The thread sanitizer sees the accesses of the core through the pointers it got, not those in here: elements are
 * recycled under readers on purpose. A look-up that finds an element is ordered after the insertion that published it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "native/internal.h"
#include "native/native.h"

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif

#ifdef THREAD_SANITIZED
#include <sanitizer/tsan_interface.h>
#define publish(p) __tsan_release(p)
#define subscribe(p) __tsan_acquire(p)
#ifdef __clang__
#define UNTRACED __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define UNTRACED __attribute__((no_sanitize_thread, noinline))
#endif
#else
#define publish(p) ((void)(p))
#define subscribe(p) ((void)(p))
#define UNTRACED
#endif

#define NIL 0xffffffffu

/* An element of a hash, followed by its key and value, each rounded up to eight bytes. */
struct element {
	u32 next; /* in its bucket or in the free list */
	u32 hash;
	u64 used; /* stamp of the last look-up; 0: free */
};

struct native_table {
	u8 *memory;
	size_t stride;
	u32 elements; /* max_entries and what updates need besides */
	u32 *bucket;
	u32 mask;
	u32 free;  /* elements that were deleted, the last first */
	u32 fresh; /* elements from here on were never used */
	u32 count;
	u64 stamp;
	int lock;
	unsigned fail_operations;
	int fail_error;
	u32 fail_skip;
	u32 fail_times;
};

static struct native_map *all_maps;
static u32 random_failures; /* per mille */

void native_map_register(struct native_map *map)
{
	map->next = all_maps;
	all_maps = map;
}

struct native_map *native_map_find(const char *name)
{
	struct native_map *map = all_maps;

	while (map && strcmp(map->name, name))
		map = map->next;
	return map;
}

static size_t round8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static bool is_hash(const struct native_map *map)
{
	return map->type == BPF_MAP_TYPE_HASH || map->type == BPF_MAP_TYPE_LRU_HASH;
}

static bool is_percpu(const struct native_map *map)
{
	return map->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static void table_free(struct native_table *t)
{
	if (!t)
		return;
	free(t->memory);
	free(t->bucket);
	free(t);
}

static void *must_calloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	if (!p)
		abort();
	return p;
}

static struct element *element_at(struct native_table *t, u32 i)
{
	return (struct element *)(t->memory + i * t->stride);
}

static void hash_init(struct native_map *map, struct native_table *t)
{
	u32 buckets = 1;

	while (buckets < map->max_entries)
		buckets <<= 1;
	t->elements = map->max_entries + NATIVE_MAX_CPUS;
	t->stride = round8(sizeof(struct element)) + round8(map->key_size) + round8(map->value_size);
	t->memory = must_calloc(t->elements, t->stride);
	t->bucket = must_calloc(buckets, sizeof(u32));
	t->mask = buckets - 1;
}

static void array_init(struct native_map *map, struct native_table *t)
{
	t->stride = round8(map->value_size);
	t->elements = map->max_entries;
	t->memory = must_calloc((size_t)t->elements * (is_percpu(map) ? NATIVE_MAX_CPUS : 1), t->stride);
}

/* As new. */
static void table_clear(struct native_map *map, struct native_table *t)
{
	t->count = t->fresh = t->lock = 0;
	t->stamp = 0;
	t->fail_times = 0;
	t->free = NIL;
	if (is_hash(map))
		memset(t->bucket, 0xff, ((size_t)t->mask + 1) * sizeof(u32)); /* NIL */
	else
		memset(t->memory, 0, (size_t)t->elements * (is_percpu(map) ? NATIVE_MAX_CPUS : 1) * t->stride);
}

static bool fits(const struct native_map *map, const struct native_table *t)
{
	return t && t->elements == map->max_entries + (is_hash(map) ? NATIVE_MAX_CPUS : 0);
}

void native_maps_reset(void)
{
	random_failures = 0;
	for (struct native_map *map = all_maps; map; map = map->next) {
		if (!map->max_entries)
			map->max_entries = map->declared;
		if (!fits(map, map->table)) {
			table_free(map->table);
			map->table = must_calloc(1, sizeof(*map->table));
			if (is_hash(map))
				hash_init(map, map->table);
			else
				array_init(map, map->table);
		}
		table_clear(map, map->table);
	}
}

/* Not memcpy, which the thread sanitizer watches in any function. */
UNTRACED static void copy(void *to, const void *from, size_t n)
{
	volatile u8 *d = to;
	const volatile u8 *s = from;

	while (n--)
		*d++ = *s++;
}

UNTRACED static bool equal(const void *a, const void *b, size_t n)
{
	const volatile u8 *x = a, *y = b;

	while (n--)
		if (*x++ != *y++)
			return false;
	return true;
}

UNTRACED static u32 hash_of(const void *key, size_t n)
{
	const volatile u8 *p = key;
	u32 h = 2166136261u;

	while (n--)
		h = (h ^ *p++) * 16777619u;
	return h ^ (h >> 15);
}

UNTRACED static void lock(struct native_table *t)
{
	while (__atomic_exchange_n(&t->lock, 1, __ATOMIC_ACQUIRE))
		;
}

UNTRACED static void unlock(struct native_table *t)
{
	__atomic_store_n(&t->lock, 0, __ATOMIC_RELEASE);
}

UNTRACED static u8 *key_of(struct element *e)
{
	return (u8 *)e + round8(sizeof(*e));
}

UNTRACED static u8 *value_of(const struct native_map *map, struct element *e)
{
	return key_of(e) + round8(map->key_size);
}

UNTRACED static u32 hash_find(struct native_map *map, const void *key, u32 hash)
{
	struct native_table *t = map->table;
	u32 i = t->bucket[hash & t->mask];

	while (i != NIL) {
		struct element *e = element_at(t, i);

		if (e->hash == hash && equal(key_of(e), key, map->key_size))
			break;
		i = e->next;
	}
	return i;
}

UNTRACED static void hash_unlink(struct native_table *t, u32 i)
{
	struct element *e = element_at(t, i);
	u32 *at = &t->bucket[e->hash & t->mask];

	while (*at != i)
		at = &element_at(t, *at)->next;
	*at = e->next;
	e->used = 0;
	e->next = t->free;
	t->free = i; /* the next one handed out */
	t->count--;
}

UNTRACED static void hash_evict(struct native_table *t)
{
	u32 oldest = NIL;
	u64 used = ~0ull;

	for (u32 b = 0; b <= t->mask; b++)
		for (u32 i = t->bucket[b]; i != NIL; i = element_at(t, i)->next)
			if (element_at(t, i)->used < used) {
				used = element_at(t, i)->used;
				oldest = i;
			}
	if (oldest != NIL)
		hash_unlink(t, oldest);
}

UNTRACED static int failing(struct native_table *t, unsigned operation)
{
	if (random_failures && native_random32() % 1000 < random_failures)
		return native_random32() & 1 ? -ENOMEM : -EBUSY;
	if (!(t->fail_operations & operation) || !t->fail_times)
		return 0;
	if (t->fail_skip) {
		t->fail_skip--;
		return 0;
	}
	t->fail_times--;
	return -t->fail_error;
}

UNTRACED static long hash_update(struct native_map *map, const void *key, const void *value, u64 flags)
{
	struct native_table *t = map->table;
	u32 hash = hash_of(key, map->key_size), old, i;
	int error = failing(t, NATIVE_ON_UPDATE);
	struct element *e;

	if (error)
		return error;
	old = hash_find(map, key, hash);
	if (old != NIL && flags == BPF_NOEXIST)
		return -EEXIST;
	if (old == NIL && flags == BPF_EXIST)
		return -ENOENT;
	if (old == NIL && t->count >= map->max_entries) {
		if (map->type != BPF_MAP_TYPE_LRU_HASH)
			return -E2BIG;
		hash_evict(t);
	}
	i = t->free;
	if (i == NIL && t->fresh == t->elements)
		return -E2BIG;
	if (i == NIL)
		i = t->fresh++;
	else
		t->free = element_at(t, i)->next;
	e = element_at(t, i);
	copy(key_of(e), key, map->key_size);
	copy(value_of(map, e), value, map->value_size);
	e->hash = hash;
	e->used = ++t->stamp;
	publish(e);
	e->next = t->bucket[hash & t->mask];
	t->bucket[hash & t->mask] = i;
	t->count++;
	if (old != NIL)
		hash_unlink(t, old);
	return 0;
}

UNTRACED static long hash_delete(struct native_map *map, const void *key)
{
	int error = failing(map->table, NATIVE_ON_DELETE);
	u32 i;

	if (error)
		return error;
	i = hash_find(map, key, hash_of(key, map->key_size));
	if (i == NIL)
		return -ENOENT;
	hash_unlink(map->table, i);
	return 0;
}

UNTRACED static void *hash_lookup(struct native_map *map, const void *key)
{
	u32 i = hash_find(map, key, hash_of(key, map->key_size));
	struct element *e;

	if (i == NIL)
		return NULL;
	e = element_at(map->table, i);
	e->used = ++map->table->stamp;
	subscribe(e);
	return value_of(map, e);
}

UNTRACED void *native_map_lookup_cpu(struct native_map *map, const void *key, u32 cpu)
{
	struct native_table *t = map->table;
	u32 i;

	copy(&i, key, sizeof(i));
	if (i >= t->elements)
		return NULL;
	return t->memory + ((size_t)(is_percpu(map) ? cpu : 0) * t->elements + i) * t->stride;
}

UNTRACED void *native_map_lookup(struct native_map *map, const void *key)
{
	void *value;

	if (!is_hash(map))
		return native_map_lookup_cpu(map, key, native_this_cpu());
	lock(map->table);
	value = hash_lookup(map, key);
	unlock(map->table);
	return value;
}

UNTRACED long native_map_update(struct native_map *map, const void *key, const void *value, u64 flags)
{
	void *to;
	long result;

	if (flags > BPF_EXIST)
		return -EINVAL;
	if (is_hash(map)) {
		lock(map->table);
		result = hash_update(map, key, value, flags);
		unlock(map->table);
		return result;
	}
	to = native_map_lookup(map, key);
	if (!to)
		return -E2BIG;
	if (flags == BPF_NOEXIST)
		return -EEXIST;
	copy(to, value, map->value_size);
	return 0;
}

UNTRACED long native_map_delete(struct native_map *map, const void *key)
{
	long result;

	if (!is_hash(map))
		return -EINVAL;
	lock(map->table);
	result = hash_delete(map, key);
	unlock(map->table);
	return result;
}

u32 native_map_count(const struct native_map *map)
{
	return map->table->count;
}

bool native_map_next(struct native_map *map, u32 *at, const void **key, void **value)
{
	struct native_table *t = map->table;

	while (*at < t->fresh) {
		struct element *e = element_at(t, (*at)++);

		if (e->used) {
			*key = key_of(e);
			*value = value_of(map, e);
			return true;
		}
	}
	return false;
}

void native_map_fail(struct native_map *map, unsigned operations, int error, u32 skip, u32 times)
{
	map->table->fail_operations = operations;
	map->table->fail_error = error;
	map->table->fail_skip = skip;
	map->table->fail_times = times;
}

void native_map_fail_randomly(u32 permille)
{
	random_failures = permille;
}
