/*
 * How many items a second does an rte_ring carry?
 *
 *   ring EAL-OPTIONS -- SHAPE BURST ITEMS
 *
 * SHAPE is spsc, mpsc or mpmc (two lcores: the first sends, the second receives), or spsc-1core; with `-u32` behind it
 * the elements are of 4 bytes instead of pointers. Every value is made, moved, read and added up. The first eighth of the
 * items is not timed. Rings hold 1024.
 */
#include <string.h>

#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_pause.h>
#include <rte_ring.h>

#include "round.h"

#define RING_SIZE 1024
#define BURST_MAX 64

enum sync { SPSC, MPSC, MPMC };

struct load {
	struct rte_ring *ring;
	uint64_t items;
	uint64_t warm;
	uint64_t sum;
	double seconds;
	enum sync sync;
	unsigned int burst;
	bool small;
};

static volatile bool both_here;

union items {
	void *pointers[BURST_MAX];
	uint32_t numbers[BURST_MAX];
};

#define INLINE static inline __attribute__((always_inline))

INLINE unsigned int
enqueue(struct rte_ring *r, const void *items, unsigned int esize, unsigned int n, enum sync sync)
{
	if (sync == SPSC)
		return rte_ring_sp_enqueue_burst_elem(r, items, esize, n, NULL);
	return rte_ring_mp_enqueue_burst_elem(r, items, esize, n, NULL);
}

INLINE unsigned int
dequeue(struct rte_ring *r, void *items, unsigned int esize, unsigned int n, enum sync sync)
{
	if (sync == MPMC)
		return rte_ring_mc_dequeue_burst_elem(r, items, esize, n, NULL);
	return rte_ring_sc_dequeue_burst_elem(r, items, esize, n, NULL);
}

INLINE void
fill(union items *items, uint64_t *next, unsigned int burst, unsigned int esize)
{
	unsigned int i;

	for (i = 0; i < burst; i++) {
		if (esize == 4)
			items->numbers[i] = (uint32_t)(*next)++;
		else
			items->pointers[i] = (void *)(uintptr_t)(*next)++;
	}
}

INLINE uint64_t
add(const union items *items, unsigned int n, unsigned int esize)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < n; i++)
		sum += esize == 4 ? items->numbers[i] : (uintptr_t)items->pointers[i];
	return sum;
}

INLINE void
send_all(struct load *load, unsigned int burst, unsigned int esize, enum sync sync)
{
	union items items;
	uint64_t next = 0;

	while (next < load->items) {
		unsigned int sent = 0;

		fill(&items, &next, burst, esize);
		while (sent < burst) {
			const char *rest = (const char *)&items + (size_t)sent * esize;
			unsigned int n = enqueue(load->ring, rest, esize, burst - sent, sync);

			sent += n;
			if (n == 0)
				rte_pause();
		}
	}
}

INLINE void
receive_all(struct load *load, unsigned int burst, unsigned int esize, enum sync sync)
{
	union items items;
	uint64_t received = 0, sum = 0, from = 0;
	uint64_t until[2] = { load->warm, load->items };
	double start = 0;
	int part;

	for (part = 0; part < 2; part++) {
		start = now();
		from = received;
		while (received < until[part]) {
			unsigned int n = dequeue(load->ring, &items, esize, burst, sync);

			if (n == 0)
				rte_pause();
			sum += add(&items, n, esize);
			received += n;
		}
	}
	load->seconds = now() - start;
	load->items = received - from;
	load->sum = sum;
}

INLINE void
alone(struct load *load, unsigned int burst, unsigned int esize)
{
	union items items, out;
	uint64_t next = 0, sum = 0, from = 0;
	uint64_t until[2] = { load->warm, load->items };
	double start = 0;
	int part;

	for (part = 0; part < 2; part++) {
		start = now();
		from = next;
		while (next < until[part]) {
			unsigned int n;

			fill(&items, &next, burst, esize);
			enqueue(load->ring, &items, esize, burst, SPSC);
			n = dequeue(load->ring, &out, esize, burst, SPSC);
			sum += add(&out, n, esize);
		}
	}
	load->seconds = now() - start;
	load->items = next - from;
	load->sum = sum;
}

/* Calls FUNCTION with constants for what the load says, so that the compiler knows them as it would in an application. */
#define WITH_SYNC(function, load, burst, esize) \
	do { \
		switch ((load)->sync) { \
		case SPSC: function(load, burst, esize, SPSC); break; \
		case MPSC: function(load, burst, esize, MPSC); break; \
		case MPMC: function(load, burst, esize, MPMC); break; \
		} \
	} while (0)
#define WITH_SIZE(with, function, load, burst) \
	do { \
		if ((load)->small) \
			with(function, load, burst, 4); \
		else \
			with(function, load, burst, 8); \
	} while (0)
#define WITH_BURST(with, function, load) \
	do { \
		switch ((load)->burst) { \
		case 1: WITH_SIZE(with, function, load, 1); break; \
		case 2: WITH_SIZE(with, function, load, 2); break; \
		case 4: WITH_SIZE(with, function, load, 4); break; \
		case 8: WITH_SIZE(with, function, load, 8); break; \
		case 16: WITH_SIZE(with, function, load, 16); break; \
		case 32: WITH_SIZE(with, function, load, 32); break; \
		case 64: WITH_SIZE(with, function, load, 64); break; \
		} \
	} while (0)
#define WITHOUT_SYNC(function, load, burst, esize) function(load, burst, esize)

static int
receiver(void *arg)
{
	struct load *load = arg;

	both_here = true;
	WITH_BURST(WITH_SYNC, receive_all, load);
	return 0;
}

int
main(int argc, char **argv)
{
	unsigned int flags = RING_F_SP_ENQ | RING_F_SC_DEQ, worker;
	struct load load = { 0 }, sending;
	int used = rte_eal_init(argc, argv);
	uint64_t total;
	char *shape;

	if (used < 0 || argc - used != 4)
		rte_exit(2, "usage: ring EAL-OPTIONS -- SHAPE BURST ITEMS\n");
	shape = argv[used + 1];
	load.burst = (unsigned int)atoi(argv[used + 2]);
	load.items = strtoull(argv[used + 3], NULL, 10);
	if (load.burst == 0 || load.burst > BURST_MAX || (load.burst & (load.burst - 1)) != 0)
		rte_exit(2, "BURST is a power of two up to %d\n", BURST_MAX);
	load.items -= load.items % BURST_MAX;
	load.warm = load.items / 8 / BURST_MAX * BURST_MAX;
	total = load.items;
	load.small = strstr(shape, "-u32") != NULL;
	if (strncmp(shape, "mpsc", 4) == 0) {
		load.sync = MPSC;
		flags = RING_F_SC_DEQ;
	} else if (strncmp(shape, "mpmc", 4) == 0) {
		load.sync = MPMC;
		flags = 0;
	}
	load.ring = rte_ring_create_elem("bench", load.small ? 4 : 8, RING_SIZE, (int)rte_socket_id(),
		flags | RING_F_EXACT_SZ);
	if (load.ring == NULL)
		rte_exit(1, "no ring\n");
	if (strstr(shape, "1core") != NULL) {
		WITH_BURST(WITHOUT_SYNC, alone, &load);
		return report(load.items, load.seconds, load.sum, sum_below(total));
	}
	worker = rte_get_next_lcore(rte_lcore_id(), 1, 0);
	if (worker >= RTE_MAX_LCORE)
		rte_exit(2, "two lcores are needed\n");
	sending = load;
	rte_eal_remote_launch(receiver, &load, worker);
	while (!both_here)
		rte_pause();
	WITH_BURST(WITH_SYNC, send_all, &sending);
	rte_eal_wait_lcore(worker);
	return report(load.items, load.seconds, load.sum, sum_below(total));
}
