package main

// This file owns attacks by whoever may call, at every kind of endpoint: answers to what one was not asked, and calls of others. Those by
// another user of the machine are in e2e_attacks_linux_test.go, and docs/reliability.md lists all.

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A provider answers a call under the eyes of two who would like to do it: another provider and another caller, who use the same ids
// and tokens, and the provider itself, which answers more than once. The caller gets the one answer of the one who was asked.
func TestForgedAnswersReachNobody(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	asked, jealous, caller, other := s.connect(), s.connect(), s.connect(), s.connect()
	register(t, asked, `["Far.Say"]`)
	register(t, jealous, `["Near.Say"]`)
	begin := func(id string) (given json.RawMessage) {
		t.Helper()
		send(t, caller, `{"jsonrpc":"2.0","id":`+id+`,"method":"Far.Say","params":["x"],"parts":"p"}`+"\n")
		var request struct {
			ID     json.RawMessage
			Method string
		}
		line := readLineWith(t, asked, `"id"`)
		if must(t, json.Unmarshal([]byte(line), &request)); request.Method != "Far.Say" {
			t.Fatalf("the provider is told %s; want the call", line)
		}
		return request.ID
	}
	forge := func(ids ...string) string {
		var all strings.Builder
		for _, id := range ids {
			fmt.Fprintf(&all, `{"jsonrpc":"2.0","id":%s,"result":"forged"}{"jsonrpc":"2.0","id":%[1]s,"error":{"code":-5,"message":"forged"}}`+
				`{"jsonrpc":"2.0","method":"$/progress","params":{"token":%[1]s,"value":["forged",%[1]s]}}`+
				`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%[1]s}}`+"\n", id)
		}
		return all.String()
	}
	fence := func(who string, conn interface {
		Write([]byte) (int, error)
	}, read func() string) {
		t.Helper()
		fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":"fence","method":"Echo.Say","params":["%s"]}`+"\n", who)
		if got := read(); !strings.Contains(got, `"id":"fence","result":"`+who+`"`) {
			t.Errorf("%s is told %s; want the answer to its own call", who, got)
		}
	}
	ids := []string{`1`, `2`, `3`, `1.0`, `"1"`, `"p"`, `"mine"`, `0`, `-1`, `null`}
	first := string(begin(`"mine"`))
	everything := forge(append(ids, first, `"`+first+`"`)...)
	send(t, jealous, everything)
	fence("the other provider", jealous, func() string { return readLineWith(t, jealous, "fence") })
	send(t, other, everything)
	fence("the other caller", other, func() string { return readLineWith(t, other, "fence") })
	send(t, asked, forge(`"`+first+`"`, `null`, `1e9`)) // not what it was given; -1 is the token for the progress of its first call
	send(t, asked, `{"jsonrpc":"2.0","id":`+first+`,"result":"right"}`+"\n"+forge(first))
	if got, want := readLine(t, caller), `{"jsonrpc":"2.0","id":"mine","result":"right"}`; strings.TrimSpace(got) != want {
		t.Errorf("the caller is told %s; want %s", got, want)
	}
	second := string(begin(`"mine"`)) // the same id again
	if second == first {
		t.Errorf("two calls have the id %s at the provider", first)
	}
	send(t, asked, forge(first)+`{"jsonrpc":"2.0","id":`+second+`,"result":"right again"}`+"\n")
	if got, want := readLine(t, caller), `{"jsonrpc":"2.0","id":"mine","result":"right again"}`; strings.TrimSpace(got) != want {
		t.Errorf("the caller is told %s; want %s", got, want)
	}
	fence("the caller", caller, func() string { return readLine(t, caller) })
}
