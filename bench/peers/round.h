/* What the peers share: a clock, and the line of JSON that a round ends with. */
#ifndef FOREBAY_BENCH_ROUND_H
#define FOREBAY_BENCH_ROUND_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rte_eal.h>

static inline double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Ends a round: how many items passed in which time, and what they add up to beside what they should. */
static inline int
report(uint64_t items, double seconds, uint64_t sum, uint64_t expected)
{
	printf("{\"items\":%" PRIu64 ",\"seconds\":%.9f,\"sum\":%" PRIu64 ",\"expected\":%" PRIu64 ",\"pages\":\"%s\"}\n",
		items, seconds, sum, expected, rte_eal_has_hugepages() ? "hugepages" : "plain pages");
	return sum == expected ? 0 : 1;
}

/* The sum of all numbers below `count`. */
static inline uint64_t
sum_below(uint64_t count)
{
	return count % 2 == 0 ? count / 2 * (count - 1) : (count - 1) / 2 * count;
}

#endif
