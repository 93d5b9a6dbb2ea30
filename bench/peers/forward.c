/*
 * Forwards between two ports: one lcore receives, an rte_ring, the other sends, as DPDK's secondaries cannot send on
 * net_af_packet.
 *
 *   forward EAL-OPTIONS -- poll|nap
 *
 * `poll` is how DPDK is run: both lcores look all the time. With `nap` an lcore that has found nothing sleeps for a
 * moment, so that what a packet takes can be told from what looking takes. Prints `ready` on stderr, ends with stdin.
 */
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "round.h"

#define BURST 32
#define DESCRIPTORS 1024
#define MBUFS 16383
#define CACHE 256
#define RING_SIZE 1024
/* Looks that find nothing before a nap, and its length. */
#define LOOKS 64
#define NAP_US 20

static volatile bool ended;
static bool naps;
static struct rte_ring *ring;

static inline void
idle(unsigned int *looks)
{
	if (naps && ++*looks >= LOOKS)
		usleep(NAP_US);
}

static int
sender(__rte_unused void *arg)
{
	struct rte_mbuf *mbufs[BURST], *out[2][BURST];
	unsigned int i, looks = 0;

	while (!ended) {
		unsigned int n = rte_ring_sc_dequeue_burst(ring, (void **)mbufs, BURST, NULL);
		uint16_t count[2] = { 0, 0 }, port;

		if (n == 0) {
			idle(&looks);
			continue;
		}
		looks = 0;
		for (i = 0; i < n; i++) {
			port = mbufs[i]->port ^ 1;
			out[port][count[port]++] = mbufs[i];
		}
		for (port = 0; port < 2; port++) {
			uint16_t sent = 0;

			if (count[port] > 0)
				sent = rte_eth_tx_burst(port, 0, out[port], count[port]);
			if (sent < count[port])
				rte_pktmbuf_free_bulk(&out[port][sent], count[port] - sent);
		}
	}
	return 0;
}

static void
receiver(void)
{
	struct rte_mbuf *mbufs[BURST];
	unsigned int looks = 0;

	while (!ended) {
		unsigned int all = 0;
		uint16_t port;

		for (port = 0; port < 2; port++) {
			uint16_t n = rte_eth_rx_burst(port, 0, mbufs, BURST);
			unsigned int sent;

			if (n == 0)
				continue;
			all += n;
			sent = rte_ring_sp_enqueue_burst(ring, (void **)mbufs, n, NULL);
			if (sent < n)
				rte_pktmbuf_free_bulk(&mbufs[sent], n - sent);
		}
		if (all == 0)
			idle(&looks);
		else
			looks = 0;
	}
}

static void *
wait_for_end(__rte_unused void *arg)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	ended = true;
	return NULL;
}

static void
open_port(uint16_t port, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = { 0 };
	int socket = (int)rte_socket_id();

	if (rte_eth_dev_configure(port, 1, 1, &conf) != 0 ||
	    rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, (unsigned int)socket, NULL, pool) != 0 ||
	    rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, (unsigned int)socket, NULL) != 0 ||
	    rte_eth_dev_start(port) != 0 || rte_eth_promiscuous_enable(port) != 0)
		rte_exit(1, "port %u does not start\n", port);
}

int
main(int argc, char **argv)
{
	struct rte_mempool *pool;
	pthread_t waiter;
	unsigned int worker;
	int used;

	/* Or a nap is 50 us longer than it should be. Threads that are made later have it from this one. */
	if (prctl(PR_SET_TIMERSLACK, 1) != 0)
		return 1;
	used = rte_eal_init(argc, argv);
	if (used < 0 || argc - used != 2)
		rte_exit(2, "usage: forward EAL-OPTIONS -- poll|nap\n");
	naps = strcmp(argv[used + 1], "nap") == 0;
	pool = rte_pktmbuf_pool_create("bench", MBUFS, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());
	ring = rte_ring_create("bench", RING_SIZE, (int)rte_socket_id(), RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
	worker = rte_get_next_lcore(rte_lcore_id(), 1, 0);
	if (pool == NULL || ring == NULL || worker >= RTE_MAX_LCORE || rte_eth_dev_count_avail() != 2)
		rte_exit(1, "two ports, two lcores, a pool and a ring are needed\n");
	open_port(0, pool);
	open_port(1, pool);
	if (pthread_create(&waiter, NULL, wait_for_end, NULL) != 0)
		rte_exit(1, "no thread\n");
	rte_eal_remote_launch(sender, NULL, worker);
	fprintf(stderr, "ready\n");
	receiver();
	rte_eal_wait_lcore(worker);
	rte_eal_cleanup();
	return 0;
}
