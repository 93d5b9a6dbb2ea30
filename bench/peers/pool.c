/*
 * What does it cost to allocate and free 32 mbufs, and how many pass from one lcore to another in a second?
 *
 *   pool EAL-OPTIONS -- alloc-free|handoff ITEMS CACHE
 *
 * The pool has 8192 mbufs and a cache of CACHE for each lcore; between the lcores is a ring of 1024, SP/SC. The first
 * eighth of the items is not timed.
 */
#include <string.h>

#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <rte_ring.h>

#include "round.h"

#define BURST 32
#define MBUFS 8191
#define RING_SIZE 1024

static struct rte_mempool *pool;
static struct rte_ring *ring;
static uint64_t items, warm, counted;
static double seconds;
static volatile bool both_here;

static void
alloc_free(void)
{
	struct rte_mbuf *mbufs[BURST];
	uint64_t until[2] = { warm, items };
	uint64_t done = 0, from = 0;
	double start = 0;
	int part;

	for (part = 0; part < 2; part++) {
		start = now();
		from = done;
		while (done < until[part]) {
			if (rte_pktmbuf_alloc_bulk(pool, mbufs, BURST) != 0)
				rte_exit(1, "the pool is empty\n");
			rte_pktmbuf_free_bulk(mbufs, BURST);
			done += BURST;
		}
	}
	seconds = now() - start;
	counted = done - from;
}

static int
receiver(__rte_unused void *arg)
{
	struct rte_mbuf *mbufs[BURST];
	uint64_t until[2] = { warm, items };
	uint64_t done = 0, from = 0;
	double start = 0;
	int part;

	both_here = true;
	for (part = 0; part < 2; part++) {
		start = now();
		from = done;
		while (done < until[part]) {
			unsigned int n = rte_ring_sc_dequeue_burst(ring, (void **)mbufs, BURST, NULL);

			if (n == 0) {
				rte_pause();
				continue;
			}
			rte_pktmbuf_free_bulk(mbufs, n);
			done += n;
		}
	}
	seconds = now() - start;
	counted = done - from;
	return 0;
}

static void
sender(void)
{
	struct rte_mbuf *mbufs[BURST];
	uint64_t done = 0;

	while (done < items) {
		unsigned int sent = 0;

		if (rte_pktmbuf_alloc_bulk(pool, mbufs, BURST) != 0) {
			rte_pause();
			continue;
		}
		while (sent < BURST) {
			unsigned int n = rte_ring_sp_enqueue_burst(ring, (void **)&mbufs[sent], BURST - sent, NULL);

			sent += n;
			if (n == 0)
				rte_pause();
		}
		done += BURST;
	}
}

int
main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	unsigned int worker;

	if (used < 0 || argc - used != 4)
		rte_exit(2, "usage: pool EAL-OPTIONS -- alloc-free|handoff ITEMS CACHE\n");
	items = strtoull(argv[used + 2], NULL, 10) / BURST * BURST;
	warm = items / 8 / BURST * BURST;
	pool = rte_pktmbuf_pool_create("bench", MBUFS, (unsigned int)atoi(argv[used + 3]), 0, RTE_MBUF_DEFAULT_BUF_SIZE,
		(int)rte_socket_id());
	if (pool == NULL)
		rte_exit(1, "no pool\n");
	if (strcmp(argv[used + 1], "alloc-free") == 0) {
		alloc_free();
	} else {
		ring = rte_ring_create("bench", RING_SIZE, (int)rte_socket_id(),
			RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
		worker = rte_get_next_lcore(rte_lcore_id(), 1, 0);
		if (ring == NULL || worker >= RTE_MAX_LCORE)
			rte_exit(1, "a ring and two lcores are needed\n");
		rte_eal_remote_launch(receiver, NULL, worker);
		while (!both_here)
			rte_pause();
		sender();
		rte_eal_wait_lcore(worker);
	}
	/* Every mbuf is back: in the pool or in a cache of it. */
	return report(counted, seconds, rte_mempool_avail_count(pool), MBUFS);
}
