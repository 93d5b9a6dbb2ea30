/*
 * How many packets the clients of DPDK's client_server_mp have sent, seen from outside: a secondary that only reads the
 * example's zone of statistics.
 *
 *   totals EAL-OPTIONS -- SETTLE_MS WINDOW_MS
 *
 * Built against the example's own `common.h`.
 */
#include <unistd.h>

#include <rte_atomic.h>
#include <rte_common.h>
#include <rte_debug.h>
#include <rte_ethdev.h>
#include <rte_memzone.h>

#include "common.h"
#include "round.h"

static uint64_t
received(const struct port_info *ports)
{
	uint64_t total = 0;
	unsigned int port;

	/* By place, not by number: as the example counts it. */
	for (port = 0; port < ports->num_ports; port++)
		total += ports->rx_stats.rx[port];
	return total;
}

/* Sent, and with `dropped` also what a port had no room for. */
static uint64_t
sent(const struct port_info *ports, bool dropped)
{
	uint64_t total = 0;
	unsigned int client, port;

	for (client = 0; client < MAX_CLIENTS; client++)
		for (port = 0; port < ports->num_ports; port++) {
			total += ports->tx_stats[client].tx[ports->id[port]];
			if (dropped)
				total += ports->tx_stats[client].tx_drop[ports->id[port]];
		}
	return total;
}

int
main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	const struct rte_memzone *zone;
	uint64_t before, passed, out, in;
	double start, seconds;

	if (used < 0 || argc - used != 3)
		rte_exit(2, "usage: totals EAL-OPTIONS -- SETTLE_MS WINDOW_MS\n");
	zone = rte_memzone_lookup(MZ_PORT_INFO);
	if (zone == NULL)
		rte_exit(1, "no zone of statistics: no server?\n");
	usleep((unsigned int)atoi(argv[used + 1]) * 1000);
	start = now();
	before = sent(zone->addr, false);
	usleep((unsigned int)atoi(argv[used + 2]) * 1000);
	passed = sent(zone->addr, false) - before;
	seconds = now() - start;
	/* What came in is read last: then it is no less than what went out, unless something went out twice. */
	out = sent(zone->addr, true);
	rte_smp_rmb();
	in = received(zone->addr);
	return report(passed, seconds, out <= in ? passed : out, out <= in ? passed : in);
}
