package main

import "testing"

// The first quota that is about somebody changes what it says of their limits.
func TestQuotas(t *testing.T) {
	set := settingsOf(t, `
[limits]
max_calls = 10
[[quota]]
of = ["worker:greeter", "token:ci"]
max_calls = 20
user_memory = "1MiB"
max_subscriptions = 30
user_methods = 40
[[quota]]
of = ["local"]
max_connections = 4096
user_calls = 5
`)
	for _, test := range []struct {
		who                                                    peer
		connections, calls, userCalls, memory, topics, methods int
	}{
		{peer{}, 1024, 10, 1024, 64 << 20, 1024, 10_000},
		{peer{worker: "greeter"}, 1024, 20, 1024, 1 << 20, 30, 40},
		{peer{worker: "other"}, 1024, 10, 1024, 64 << 20, 1024, 10_000},
		{peer{proof: proofOf(&bearer{name: "ci"})}, 1024, 20, 1024, 1 << 20, 30, 40},
		{peer{Known: true, UID: 7}, 4096, 10, 5, 64 << 20, 1024, 10_000},
	} {
		l := limitsOf(set.quotas, &test.who, &set.Limits)
		if l.MaxConnections != test.connections || l.MaxCalls != test.calls || l.UserCalls != test.userCalls || l.UserMemory != test.memory || l.MaxSubscriptions != test.topics || l.UserMethods != test.methods {
			t.Errorf("%s has %d connections, %d calls, %d that run, %d bytes, %d topics, %d methods; want %+v", test.who.who(), l.MaxConnections, l.MaxCalls, l.UserCalls, l.UserMemory, l.MaxSubscriptions, l.UserMethods, test)
		}
	}
}
