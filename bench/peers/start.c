/*
 * A process that starts and is there: `ready` on stdout once its environment is, its end with the end of stdin.
 *
 *   start EAL-OPTIONS
 */
#include <stdio.h>
#include <unistd.h>

#include <rte_debug.h>
#include <rte_eal.h>

int
main(int argc, char **argv)
{
	char byte;

	if (rte_eal_init(argc, argv) < 0)
		rte_exit(1, "no environment\n");
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	rte_eal_cleanup();
	return 0;
}
