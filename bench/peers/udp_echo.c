/*
 * Sends every datagram back, by the kernel's stack, as a good server does: it blocks until some are there, takes up to
 * 32 at once and answers them at once.
 *
 *   udp_echo ADDRESS PORT CORE
 *
 * Prints `ready` on stderr, ends with stdin. Needs no DPDK.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BURST 32
#define DATAGRAM_MAX 2048
#define SOCKET_BUFFER (4 << 20)

static unsigned char bytes[BURST][DATAGRAM_MAX];
static struct sockaddr_in peers[BURST];
static struct iovec iovecs[BURST];
static struct mmsghdr messages[BURST];

static void *
wait_for_end(void *arg)
{
	char byte;

	(void)arg;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	exit(0);
}

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

/* As large as it may be: root goes beyond net.core.rmem_max. */
static void
enlarge(int fd, int force, int plain)
{
	int size = SOCKET_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) != 0 &&
	    setsockopt(fd, SOL_SOCKET, plain, &size, sizeof(size)) != 0)
		fail("setsockopt");
}

static int
open_socket(const char *address, const char *port)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		fail("socket");
	if (inet_pton(AF_INET, address, &here.sin_addr) != 1) {
		fprintf(stderr, "%s is no address\n", address);
		exit(2);
	}
	enlarge(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	enlarge(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) != 0)
		fail("bind");
	return fd;
}

static void
echo(int fd)
{
	for (;;) {
		int count, sent, i;

		for (i = 0; i < BURST; i++) {
			iovecs[i].iov_len = DATAGRAM_MAX;
			messages[i].msg_hdr.msg_namelen = sizeof(peers[i]);
		}
		count = recvmmsg(fd, messages, BURST, MSG_WAITFORONE, NULL);
		if (count < 0 && errno != EINTR)
			fail("recvmmsg");
		for (i = 0; i < count; i++)
			iovecs[i].iov_len = messages[i].msg_len;
		for (sent = 0; sent < count;) {
			int n = sendmmsg(fd, &messages[sent], (unsigned int)(count - sent), 0);

			/* One that cannot be sent is lost, the others are not. */
			sent += n > 0 ? n : 1;
		}
	}
}

int
main(int argc, char **argv)
{
	pthread_t waiter;
	cpu_set_t cores;
	int fd, i;

	if (argc != 4) {
		fprintf(stderr, "usage: udp_echo ADDRESS PORT CORE\n");
		return 2;
	}
	CPU_ZERO(&cores);
	CPU_SET(atoi(argv[3]), &cores);
	if (sched_setaffinity(0, sizeof(cores), &cores) != 0)
		fail("sched_setaffinity");
	fd = open_socket(argv[1], argv[2]);
	for (i = 0; i < BURST; i++) {
		iovecs[i].iov_base = bytes[i];
		messages[i].msg_hdr.msg_iov = &iovecs[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &peers[i];
	}
	if (pthread_create(&waiter, NULL, wait_for_end, NULL) != 0)
		fail("pthread_create");
	fprintf(stderr, "ready\n");
	echo(fd);
	return 0;
}
