/* The side raw-c: "ping serve SOCKET" copies what comes, in a thread for each connection, and "ping call SOCKET" takes turns, as
 * takeTurns in turns.go does. A caller of one connection blocks; one of many waits for all of them at once. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "ping: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(a.sun_path, path);
	return a;
}

static void *echo(void *arg)
{
	int fd = (int)(long)arg;
	char *b = malloc(1 << 16);
	ssize_t n;
	while (b && (n = recv(fd, b, 1 << 16, 0)) > 0)
		for (ssize_t sent = 0, m; sent < n; sent += m)
			if ((m = send(fd, b + sent, n - sent, MSG_NOSIGNAL)) < 0)
				goto over;
over:
	free(b);
	close(fd);
	return NULL;
}

static void *leave_with_bench(void *arg)
{
	char b[64];
	while (read(0, b, sizeof b) > 0)
		;
	_exit(0);
	return arg;
}

static void serve(const char *path)
{
	struct sockaddr_un a = address(path);
	pthread_attr_t small;
	pthread_t t;
	int fd, l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 4096))
		die(path);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 16);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &small, leave_with_bench, NULL))
		die("a thread");
	puts(path);
	fflush(stdout);
	while ((fd = accept4(l, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		if (pthread_create(&t, &small, echo, (void *)(long)fd))
			die("a thread");
	die("accept");
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* A peer is a connection, and what is on its way over it. */
struct peer {
	int fd, index;
	long calls;
	size_t sent, got;
};

static char *texts, *answers; /* as texts in turns.go; an answer of each connection */
static size_t size;

static const char *text_of(struct peer *p) { return texts + 16 * p->index + 8 * (p->calls % 2); }

/* step sends, and reads what has come, and tells whether the whole answer is there. Without waiting it does one of the two. */
static int step(struct peer *p, int wait)
{
	ssize_t n;
	if (p->sent < size) {
		n = send(p->fd, text_of(p) + p->sent, size - p->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN)
			die("send");
		p->sent += n > 0 ? n : 0;
		if (!wait)
			return 0;
	}
	if (wait && p->sent < size) {
		struct pollfd f = {.fd = p->fd, .events = POLLIN | POLLOUT};
		poll(&f, 1, -1);
		wait = 0;
	}
	n = recv(p->fd, answers + p->index * size + p->got, size - p->got, wait ? 0 : MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		die("recv");
	p->got += n > 0 ? n : 0;
	if (p->got < size)
		return 0;
	if (memcmp(answers + p->index * size, text_of(p), size)) {
		errno = EBADMSG;
		die("the answer is not what was sent");
	}
	p->sent = p->got = 0;
	p->calls++;
	return 1;
}

static long turn(struct peer *peers, int many, int poller, long long end)
{
	struct epoll_event events[64];
	long calls = 0;
	int busy = many;
	for (int i = 0; i < many; i++)
		peers[i].calls = 0;
	if (many == 1) {
		do
			while (!step(peers, 1))
				;
		while (now() < end);
		return peers->calls;
	}
	for (int i = 0; i < many; i++)
		step(peers + i, 0);
	while (busy > 0) {
		int n = epoll_wait(poller, events, 64, -1);
		for (int i = 0; i < n; i++) {
			struct peer *p = peers + events[i].data.fd;
			if (!step(p, 0))
				continue;
			calls++;
			if (now() >= end)
				busy--;
			else
				step(p, 0); /* sends the next */
		}
	}
	return calls;
}

static void call(const char *path)
{
	struct sockaddr_un a = address(path);
	int callers, conns, have = 0, poller = epoll_create1(EPOLL_CLOEXEC);
	struct peer *peers = NULL;
	long long time;
	while (scanf("%d %d %zu %lld", &callers, &conns, &size, &time) == 4) {
		long long began = now();
		char *t;
		peers = realloc(peers, conns * sizeof *peers);
		answers = realloc(answers, conns * size);
		texts = t = realloc(texts, 16 * conns + size + 9);
		if (!peers || !answers || !texts || callers != conns)
			die("such a turn");
		for (int n = 0; t < texts + 16 * conns + size; n++)
			t += sprintf(t, "%07d ", n);
		for (; have < conns; have++) {
			struct epoll_event e = {.events = EPOLLIN, .data.fd = have};
			int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e))
				die(path);
			peers[have] = (struct peer){.fd = fd, .index = have};
		}
		long calls = turn(peers, conns, poller, began + time);
		printf("%ld %lld\n", calls, now() - began);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	if (argc != 3 || strcmp(argv[1], "call"))
		return 2;
	call(argv[2]);
	return 0;
}
