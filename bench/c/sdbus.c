/* The side sd-bus: "sdbus serve ADDRESS" offers a method at a bus, and "sdbus call ADDRESS" takes turns, as takeTurns in turns.go does.
 * All callers share a connection, and have their calls under way side by side; one alone waits for each answer in sd_bus_call(3). */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#define NAME "org.ipcd.Bench"
#define PATH "/org/ipcd/Bench"

static void check(int r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "sdbus: %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

static sd_bus *bus;

static void join(const char *address)
{
	check(sd_bus_new(&bus), "new");
	check(sd_bus_set_address(bus, address), address);
	check(sd_bus_set_bus_client(bus, 1), "bus client");
	check(sd_bus_start(bus), address);
}

/* once processes what there is, or waits until there is something. */
static void once(void)
{
	int r = sd_bus_process(bus, NULL);
	check(r, "process");
	if (r == 0)
		check(sd_bus_wait(bus, (uint64_t)-1), "wait");
}

static int say(sd_bus_message *m, void *data, sd_bus_error *error)
{
	const char *text;
	int r = sd_bus_message_read(m, "s", &text);
	(void)data, (void)error;
	return r < 0 ? r : sd_bus_reply_method_return(m, "s", text);
}

static const sd_bus_vtable methods[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Say", "s", "s", say, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

static void *leave_with_bench(void *arg)
{
	char b[64];
	while (read(0, b, sizeof b) > 0)
		;
	_exit(0);
	return arg;
}

static void serve(const char *address)
{
	pthread_t t;
	join(address);
	check(sd_bus_add_object_vtable(bus, NULL, PATH, NAME, methods, NULL), "the method");
	check(sd_bus_request_name(bus, NAME, 0), NAME);
	check(-pthread_create(&t, NULL, leave_with_bench, NULL), "a thread");
	puts(address);
	fflush(stdout);
	for (;;)
		once();
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static char *texts; /* as texts in turns.go, but each of its own, as they end with a zero */
static size_t size;
static long calls;
static int busy;
static long long end;

struct caller {
	int index;
	long calls;
};

static const char *text_of(struct caller *c) { return texts + (2 * c->index + c->calls % 2) * (size + 1); }

static void compare(sd_bus_message *m, struct caller *c)
{
	const char *text;
	check(sd_bus_message_is_method_error(m, NULL) ? -sd_bus_message_get_errno(m) : 0, "the call");
	check(sd_bus_message_read(m, "s", &text), "the answer");
	check(strcmp(text, text_of(c)) ? -EBADMSG : 0, "the answer is not what was sent");
	c->calls++;
	calls++;
}

static int answered(sd_bus_message *m, void *data, sd_bus_error *error);

static void ask(struct caller *c)
{
	check(sd_bus_call_method_async(bus, NULL, NAME, PATH, NAME, "Say", answered, c, "s", text_of(c)), "call");
}

static int answered(sd_bus_message *m, void *data, sd_bus_error *error)
{
	(void)error;
	compare(m, data);
	if (now() < end)
		ask(data);
	else
		busy--;
	return 0;
}

static void turn(struct caller *callers, int many)
{
	calls = 0;
	if (many == 1) {
		do {
			sd_bus_message *m = NULL;
			check(sd_bus_call_method(bus, NAME, PATH, NAME, "Say", NULL, &m, "s", text_of(callers)), "call");
			compare(m, callers);
			sd_bus_message_unref(m);
		} while (now() < end);
		return;
	}
	busy = many;
	for (int i = 0; i < many; i++)
		ask(callers + i);
	while (busy > 0)
		once();
}

int main(int argc, char **argv)
{
	int many, conns;
	long long time;
	if (argc == 3 && !strcmp(argv[1], "serve"))
		serve(argv[2]);
	if (argc != 3 || strcmp(argv[1], "call"))
		return 2;
	join(argv[2]);
	while (scanf("%d %d %zu %lld", &many, &conns, &size, &time) == 4) {
		long long began = now();
		struct caller *callers = calloc(many, sizeof *callers);
		texts = realloc(texts, 2 * many * (size + 1));
		check(callers && texts && conns == 1 ? 0 : -EINVAL, "such a turn");
		for (int i = 0; i < 2 * many; i++) {
			char *t = texts + i * (size + 1);
			memset(t, 'x', size);
			memcpy(t + 1, &(char[8]){i / 1000 + '0', i / 100 % 10 + '0', i / 10 % 10 + '0', i % 10 + '0'}, 4);
			t[size] = 0;
		}
		for (int i = 0; i < many; i++)
			callers[i].index = i;
		end = began + time;
		turn(callers, many);
		printf("%ld %lld\n", calls, now() - began);
		fflush(stdout);
		free(callers);
	}
	return 0;
}
