/*
 * Short connections: connect, request, answer, close; one after the other. In the emulated machine
 * a nanosecond is an instruction.
 *
 *     short serve PORT               answers until it is killed
 *     short ask ADDRESS PORT COUNT   prints nanoseconds for each connection
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 100 /* bytes of a request, and of an answer */

static char message[MESSAGE];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void take(int connection)
{
	size_t have = 0;

	while (have < MESSAGE) {
		ssize_t size = read(connection, message, MESSAGE - have);

		if (size <= 0)
			die("read");
		have += (size_t)size;
	}
}

static void give(int connection)
{
	if (write(connection, message, MESSAGE) != MESSAGE)
		die("write");
}

static void serve(int port)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 128))
		die("listen");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		if (connection < 0)
			die("accept");
		take(connection);
		give(connection);
		while (read(connection, message, MESSAGE) > 0)
			;
		close(connection);
	}
}

static void ask(const char *address, int port, long count)
{
	struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	uint64_t began = now_ns();

	if (inet_pton(AF_INET, address, &there.sin_addr) != 1)
		die(address);
	for (long todo = count; todo > 0; todo--) {
		int connection = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(connection, (struct sockaddr *)&there, sizeof(there)))
			die("connect");
		give(connection);
		take(connection);
		close(connection);
	}
	printf("%.1f\n", (double)(now_ns() - began) / (double)count);
}

int main(int count, char **words)
{
	if (count == 3 && !strcmp(words[1], "serve"))
		serve(atoi(words[2]));
	else if (count == 5 && !strcmp(words[1], "ask"))
		ask(words[2], atoi(words[3]), atol(words[4]));
	else
		fprintf(stderr, "short serve PORT | ask ADDRESS PORT COUNT\n");
	return count == 5 ? 0 : 1;
}
