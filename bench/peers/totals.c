/*
 * How many packets the clients of DPDK's client_server_mp have sent, seen from outside: a secondary that only reads the
 * example's zone of statistics.
 *
 *   totals EAL-OPTIONS -- SETTLE_MS WINDOW_MS
 *
 * Built against the example's own `common.h`.
 */
#include <unistd.h>

#include <rte_common.h>
#include <rte_debug.h>
#include <rte_ethdev.h>
#include <rte_memzone.h>

#include "common.h"
#include "round.h"

static uint64_t
sent(const struct port_info *ports)
{
	uint64_t total = 0;
	unsigned int client, port;

	for (client = 0; client < MAX_CLIENTS; client++)
		for (port = 0; port < ports->num_ports; port++)
			total += ports->tx_stats[client].tx[ports->id[port]];
	return total;
}

int
main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	const struct rte_memzone *zone;
	uint64_t before, passed;
	double start, seconds;

	if (used < 0 || argc - used != 3)
		rte_exit(2, "usage: totals EAL-OPTIONS -- SETTLE_MS WINDOW_MS\n");
	zone = rte_memzone_lookup(MZ_PORT_INFO);
	if (zone == NULL)
		rte_exit(1, "no zone of statistics: no server?\n");
	usleep((unsigned int)atoi(argv[used + 1]) * 1000);
	start = now();
	before = sent(zone->addr);
	usleep((unsigned int)atoi(argv[used + 2]) * 1000);
	passed = sent(zone->addr) - before;
	seconds = now() - start;
	return report(passed, seconds, passed, passed);
}
