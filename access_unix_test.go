//go:build unix

package main

// This file owns the cases of what rules decide, without a daemon, for users and groups that have numbers.

import (
	"strings"
	"testing"
)

func TestRulesDecide(t *testing.T) {
	t.Chdir(t.TempDir())
	pol := policyFrom(t, `
[[rule]]
deny = ["user:1001"]
[[rule]]
allow = ["user:1002", "worker:greeter"]
call = ["Greeter.*", "Clock.Now"]
publish = ["build.*"]
[[rule]]
deny = ["local"]
call = ["Secret.*"]
subscribe = ["ipcd.>"]
[[rule]]
allow = ["group:64317"]
on = ["unix:///run/box.sock"]
call = ["Box.*"]
subscribe = ["box.>"]
register = ["Box"]
[[rule]]
allow = ["user:1003"]
admin = true
[[rule]]
allow = ["sid:S-1-5-21-7"]
call = ["*"]
[[rule]]
deny = ["token:ci"]
call = ["Never.*"]
[[rule]]
allow = ["token:ci", "token:narrow"]
publish = ["build.>"]
register = ["Greeter"]
admin = true
[[rule]]
allow = ["*"]
call = ["Open.Door"]
`)
	pol.group = group{name: "callers", id: "500"}
	who := func(uid int, groups ...string) peer {
		return peer{Known: true, UID: uid, Groups: groups, on: endpoint{Scheme: "unix", Path: "/run/ipcd.sock"}.key()}
	}
	inBox := who(1009, "64317")
	inBox.on = endpoint{Scheme: "unix", Path: "/run/box.sock"}.key()
	for _, test := range []struct {
		who  peer
		need right
		what string
		want bool
		by   basis
	}{
		{peer{owns: true}, rightAdmin, "", true, byOwner},
		{who(1001), rightCall, "Open.Door", false, byRule},
		{who(1001, "500"), rightCall, "Echo.Say", false, byRule},
		{who(1002), rightCall, "Greeter.Hello", true, byRule},
		{who(1002), rightCall, "Clock.Now", true, byRule},
		{who(1002), rightCall, "Clock.Set", false, byNothing}, // one that its provider may add later
		{who(1002), rightCall, "GreeterTwo.Hello", false, byNothing},
		{who(1002), rightCall, "Open.Door", true, byRule},
		{who(1002), rightPublish, "build.done", true, byRule},
		{who(1002), rightPublish, "build.done.twice", false, byNothing},
		{who(1002), rightSubscribe, "build.done", false, byNothing},
		{who(1002), rightAdmin, "", false, byNothing},
		{who(1004, "500"), rightCall, "Echo.Say", true, byGroup},
		{who(1004, "500"), rightCall, "Secret.Tell", false, byRule},
		{who(1004, "500"), rightSubscribe, "build.>", true, byGroup},
		{who(1004, "500"), rightSubscribe, "ipcd.service.>", false, byRule},
		{who(1004, "500"), rightSubscribe, ">", false, byRule}, // part of it is denied
		{who(1004, "500"), rightSubscribe, "*.service.up", false, byRule},
		{who(1004, "500"), rightSubscribe, "*", true, byGroup},
		{who(1004, "500"), rightPublish, "build.done", false, byGroup},
		{who(1004, "500"), rightRegister, "Greeter", false, byGroup},
		{who(1009, "64317"), rightCall, "Box.Open", false, byNothing}, // at another endpoint
		{inBox, rightCall, "Box.Open", true, byRule},
		{inBox, rightRegister, "Box", true, byRule},
		{inBox, rightRegister, "Boxes", false, byNothing},
		{inBox, rightSubscribe, "box.lid.*", true, byRule},
		{inBox, rightSubscribe, "boxes.lid", false, byNothing},
		{who(1003), rightAdmin, "", true, byRule},
		{who(1003), rightCall, "Echo.Say", false, byNothing},
		{peer{Known: true, UID: -1, SID: "S-1-5-21-7"}, rightCall, "Echo.Say", true, byRule},
		{peer{Known: true, UID: -1, SID: "S-1-5-21-7"}, rightCall, "Secret.Tell", false, byRule},
		{peer{Known: true, UID: -1, Groups: []string{"S-1-5-21-7"}}, rightCall, "Echo.Say", true, byRule},
		// A worker is neither local nor the user that it runs as.
		{peer{worker: "greeter", Known: true, UID: 1001}, rightCall, "Greeter.Hello", true, byRule},
		{peer{worker: "greeter", Known: true, UID: 1003}, rightAdmin, "", false, byWorker},
		{peer{worker: "other", Known: true, UID: 1001}, rightCall, "Secret.Tell", true, byWorker},
		{peer{worker: "other", Known: true, UID: 1001}, rightPublish, "any.topic", true, byWorker},
		// Nobody knows who it is.
		{peer{noAuth: true}, rightCall, "Secret.Tell", true, byNoAuth},
		{peer{noAuth: true}, rightPublish, "build.done", false, byNoAuth},
		{peer{noAuth: true, UID: 1002}, rightPublish, "build.done", false, byNoAuth},
		{peer{}, rightCall, "Open.Door", true, byRule},
		// Holders of tokens, who are not local either.
		{holderOf("ci"), rightCall, "Echo.Say", true, byToken},
		{holderOf("ci"), rightCall, "Secret.Tell", true, byToken},
		{holderOf("ci"), rightCall, "Never.Do", false, byRule},
		{holderOf("ci"), rightSubscribe, ">", true, byToken},
		{holderOf("ci"), rightPublish, "build.done", true, byRule},
		{holderOf("ci"), rightPublish, "deploy.done", false, byToken},
		{holderOf("ci"), rightAdmin, "", true, byRule},
		{holderOf("other"), rightAdmin, "", false, byToken},
		{holderOf("other"), rightRegister, "Greeter", false, byToken},
		// What a token is not for no rule allows.
		{holderOf("narrow", "Greeter.*", "Ipcd.Publish"), rightCall, "Greeter.Hello", true, byToken},
		{holderOf("narrow", "Greeter.*", "Ipcd.Publish"), rightCall, "Open.Door", false, byScope},
		{holderOf("narrow", "Greeter.*", "Ipcd.Publish"), rightPublish, "build.done", true, byRule},
		{holderOf("narrow", "Greeter.*", "Ipcd.Publish"), rightRegister, "Greeter", false, byScope},
		{holderOf("narrow", "Greeter.*", "Ipcd.Publish"), rightSubscribe, "build.done", false, byScope},
		{holderOf("narrow", "Greeter.*", "Ipcd.Publish"), rightAdmin, "", false, byScope},
		{holderOf("narrow", "Ipcd.*"), rightAdmin, "", true, byRule},
		{holderOf("narrow", "*"), rightAdmin, "", true, byRule},
	} {
		if got := pol.decide(&test.who, test.need, test.what); got.allowed != test.want || got.by != test.by {
			t.Errorf("%s %q for %+v: %v by %v; want %v by %v", rights[test.need].key, test.what, test.who, got.allowed, got.by, test.want, test.by)
		}
	}
}

func TestRulesDecideWhoMayConnect(t *testing.T) {
	t.Chdir(t.TempDir())
	own, err := ownPeer()
	must(t, err)
	pol := policyFrom(t, `
[[rule]]
deny = ["user:9001"]
[[rule]]
deny = ["user:9003"]
call = ["*"]
[[rule]]
allow = ["group:64317"]
call = ["Box.*"]
`)
	at := endpoint{Scheme: "unix", Path: "/run/ipcd.sock"}
	open, tokens := endpoint{Scheme: "tcp", Host: "127.0.0.1:1", NoAuth: true}, endpoint{Scheme: "tcp", Host: "127.0.0.1:1"}
	for _, test := range []struct {
		name string
		who  peer
		e    endpoint
		want string // what is wrong
	}{
		{"the owner", own, at, ""},
		{"one whom a rule denies all", peer{Known: true, UID: 9001, Groups: []string{"64317"}}, at, "may not call the daemon of"},
		{"one whom no rule is about", peer{Known: true, UID: 9002}, at, "and no rule lets them"},
		{"one whom a rule denies something", peer{Known: true, UID: 9003}, at, "may not call the daemon of"},
		{"one whom a rule allows something", peer{Known: true, UID: 9004, Groups: []string{"64317"}}, at, ""},
		{"one whom the system does not name", peer{}, at, "does not say who calls"},
		{"the same, where that is waived", peer{}, open, ""},
		{"the same, where a token can be shown", peer{proof: &proof{needed: errUnproven}}, tokens, ""},
		{"the same, where none is taken", peer{}, tokens, "does not say who calls"},
	} {
		who := test.who
		err := pol.enter(&who, test.e)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
		}
	}
}
