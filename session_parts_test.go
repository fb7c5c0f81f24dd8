package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

// Tree is a service whose parts tell how far it is, and what it has found.
type Tree struct{}

// Walk sends one part of each kind to callers that want them.
func (Tree) Walk(ctx context.Context, arg struct{ Dir string }, part func(any) error) (bool, error) {
	if err := part(map[string]any{"progress": 0.5}); err != nil {
		return false, err
	}
	return wantsParts(ctx), part(arg.Dir)
}

// wantLines wants lines of JSON-RPC 2.0, each without what all begin and end with.
func wantLines(t *testing.T, conn net.Conn, want ...string) {
	t.Helper()
	for _, line := range want {
		if got := strings.TrimSpace(readLine(t, conn)); got != `{"jsonrpc":"2.0",`+line+`}` {
			t.Fatalf("there comes %s; want %s", got, line)
		}
	}
}

// partLine is a part as a line of wantLines.
func partLine(token, value string) string {
	return `"method":"$/progress","params":{"token":` + token + `,"value":` + value + `}`
}

// What a caller that was written for editors puts into its argument is a token, if the method has parts.
func TestTokensInAnArgument(t *testing.T) {
	s := startServer(t, localEndpoint(t).String(), "http://127.0.0.1:0?auth=none")
	must(t, addReceiver(s.router, Tree{}, nil))
	c := s.connect()
	for _, row := range []struct {
		members, beside string
		want            []string // without the answer
	}{
		{``, ``, nil},
		{`,"partialResultToken":"p"`, ``, []string{partLine(`"p"`, `{"progress":0.5}`), partLine(`"p"`, `"d"`)}},
		{`,"workDoneToken":0`, ``, []string{partLine(`0`, `{"progress":0.5}`), partLine(`0`, `"d"`)}},
		{`,"workDoneToken":"w","partial\u0052esultToken":1.50`, ``, []string{partLine(`"w"`, `{"progress":0.5}`), partLine(`1.50`, `"d"`)}},
		{`,"workDoneToken":1.5,"partialResultToken":15e-1`, ``, []string{partLine(`15e-1`, `{"progress":0.5}`), partLine(`15e-1`, `"d"`)}},
		{`,"workDoneToken":"w","partialResultToken":"p"`, `,"parts":-1`, []string{partLine(`-1`, `{"progress":0.5}`), partLine(`-1`, `"d"`)}},
		{`,"workDoneToken":null,"partialResultToken":{"a":"b"}`, ``, nil},
		{`,"in":{"workDoneToken":1}`, ``, nil},
	} {
		for _, params := range []string{`{"Dir":"d"` + row.members + `}`, `[ {"Dir":"d"` + row.members + `} ]`} {
			send(t, c, `{"jsonrpc":"2.0","id":1,"method":"Tree.Walk","params":`+params+row.beside+`}`)
			wantLines(t, c, append(row.want, fmt.Sprintf(`"id":1,"result":%t`, row.want != nil))...)
		}
	}
	const both = `"params":{"Dir":"d","workDoneToken":"w","partialResultToken":"p"}`
	for request, want := range map[string]string{
		`{"id":2,"method":"Tree.Walk",` + both + `}`:                   `{"id":2,"result":false,"error":null}`,
		`[{"jsonrpc":"2.0","id":2,"method":"Tree.Walk",` + both + `}]`: `[{"jsonrpc":"2.0","id":2,"result":false}]`,
	} {
		if send(t, c, request); strings.TrimSpace(readLine(t, c)) != want {
			t.Errorf("%s is not answered with %s", request, want)
		}
	}
	answer := `{"jsonrpc":"2.0","id":1,"result":%t}`
	body := `{"jsonrpc":"2.0","id":1,"method":"Tree.Walk",` + both + `}`
	if got, want := post(t, s.endpoints[1], "/rpc", "", body), fmt.Sprintf(answer, false)+"\n"; got != want {
		t.Errorf("a body is answered with %s; want %s", got, want)
	}
	events := ""
	for _, line := range []string{`{"jsonrpc":"2.0",` + partLine(`"w"`, `{"progress":0.5}`) + `}`, `{"jsonrpc":"2.0",` + partLine(`"p"`, `"d"`) + `}`, fmt.Sprintf(answer, true)} {
		events += "event: message\ndata: " + line + "\n\n"
	}
	if got := post(t, s.endpoints[1], "/rpc", eventType, body); got != events {
		t.Errorf("a stream is\n%s; want\n%s", got, events)
	}
}

// A program that was written for editors finds a token in its argument, but never that of the caller: two callers may have chosen
// the same. Everything else of the argument stays as it is.
func TestProviderThatTakesTokensFromItsArgument(t *testing.T) {
	s := startServer(t, localEndpoint(t).String(), "http://127.0.0.1:0?auth=none")
	provider, c, other := s.connect(), s.connect(), s.connect()
	registration(t, provider, `{"methods":[{"method":"Code.Find","part":{}},"Code.Plain"],"params":"object"}`)
	const argument = `{ "q" :1.0, "partialResultToken" :"t","é":"\u00e4","workDoneToken":7 }`
	ours := func(partial, workDone string) string {
		return `"params":{ "q" :1.0, "partialResultToken" :` + partial + `,"é":"\u00e4","workDoneToken":` + workDone + ` }`
	}
	find := `"method":"Code.Find","params":` + argument
	send(t, c, `{"jsonrpc":"2.0","id":1,`+find+`}`)
	wantLines(t, provider, `"id":1,"method":"Code.Find",`+ours(`1`, `-1`))
	send(t, other, `{"jsonrpc":"2.0","id":1,`+find+`}`)
	wantLines(t, provider, `"id":2,"method":"Code.Find",`+ours(`2`, `-2`))
	for _, taken := range []string{`"params":{"workDoneToken":"t"}`, `"params":[{"partialResultToken":7.0}]`, `"parts":70e-1`, `"parts":"\u0074"`} {
		send(t, c, `{"jsonrpc":"2.0","id":2,"method":"Code.Find",`+taken+`}`)
		if got := readLine(t, c); !strings.Contains(got, `"id":2,"error":{"code":-32600,"message":"the token `) {
			t.Errorf("%s is answered with %s; want its token to be taken", taken, got)
		}
	}
	// Which of the two is meant, the provider says, by names or as StreamJsonRpc does without.
	for _, params := range []string{`{"token":-1,"value":{"kind":"begin"}}`, `[2,"found"]`, `{"token":1,"value":{"progress":1}}`, `[1,null]`, `[-2,0]`, `[3,"nobody's"]`} {
		send(t, provider, `{"jsonrpc":"2.0","method":"$/progress","params":`+params+`}`)
	}
	wantLines(t, c, partLine(`7`, `{"kind":"begin"}`), partLine(`"t"`, `{"progress":1}`), partLine(`"t"`, `null`))
	wantLines(t, other, partLine(`"t"`, `"found"`), partLine(`7`, `0`))
	for id, to := range []net.Conn{c, other} {
		send(t, provider, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":true}{"jsonrpc":"2.0","method":"$/progress","params":[%d,"late"]}`, id+1, id+1))
		wantLines(t, to, `"id":1,"result":true`)
	}
	// Whoever can be sent no parts has asked for none: the result is to be all of it. Of another method they are members.
	for i, row := range [][2]string{
		{`{"id":3,` + find + `}`, ours(`null`, `null`)},
		{`[{"jsonrpc":"2.0","id":3,` + find + `}]`, ours(`null`, `null`)},
		{`{"jsonrpc":"2.0",` + find + `}`, ours(`null`, `null`)},
		{`{"jsonrpc":"2.0","id":3,"method":"Code.Plain","params":` + argument + `}`, ours(`"t"`, `7`)},
		{`{"jsonrpc":"2.0","id":3,"method":"Code.Plain","params":` + argument + `,"parts":"x"}`, ours(`"t"`, `7`)},
		{`{"jsonrpc":"2.0","id":3,` + find + `,"parts":"x"}`, ours(fmt.Sprint(8), `-8`)},
		{`{"jsonrpc":"2.0","id":3,"method":"Code.Find","params":["t"]}`, `"params":["t"]`},
	} {
		send(t, other, row[0])
		method := "Code.Find"
		if strings.Contains(row[0], "Plain") {
			method = "Code.Plain"
		}
		wantLines(t, provider, fmt.Sprintf(`"id":%d,"method":"%s",%s`, i+3, method, row[1]))
		send(t, provider, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":true}`, i+3))
		if !strings.Contains(row[0], `"id"`) {
			continue
		}
		if got := readLine(t, other); !strings.Contains(got, `"result":true`) {
			t.Errorf("%s is answered with %s", row[0], got)
		}
	}
}

// One token beside params is enough for a provider that knows of it; the argument is then left alone.
func TestTokensInAnArgumentForAProviderThatKnowsOfParts(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider, c := s.connect(), s.connect()
	registration(t, provider, `{"methods":[{"method":"Code.Find","part":{}}],"extensions":["parts"]}`)
	const argument = `{"workDoneToken":"w","partialResultToken":"p"}`
	send(t, c, `{"jsonrpc":"2.0","id":1,"method":"Code.Find","params":`+argument+`}`)
	wantLines(t, provider, `"id":1,"method":"Code.Find","params":[`+argument+`],"parts":1,"window":1048576`)
	for _, value := range []string{`{"message":"half","progress":0.5}`, `{"found":{"progress":1}}`, `5`} {
		send(t, provider, `{"jsonrpc":"2.0",`+partLine(`1`, value)+`}`)
	}
	send(t, provider, `{"jsonrpc":"2.0","id":1,"result":null}`)
	wantLines(t, c, partLine(`"w"`, `{"message":"half","progress":0.5}`), partLine(`"p"`, `{"found":{"progress":1}}`), partLine(`"p"`, `5`), `"id":1,"result":null`)
}

// A program that knows of no window has its stream ended when it sends too much, and hears nothing that it did not ask for.
func TestProviderThatKnowsOfNoWindow(t *testing.T) {
	s := startServerWith(t, func(l *limits) { l.StreamWindow = 10 << 10 }, localEndpoint(t))
	provider, c := s.connect(), s.connect()
	narrow(c)
	registration(t, provider, `{"methods":[{"method":"Code.Find","part":{}}]}`)
	send(t, c, `{"jsonrpc":"2.0","id":1,"method":"Code.Find","params":[{"workDoneToken":"w"}]}`)
	wantLines(t, provider, `"id":1,"method":"Code.Find","params":[{"workDoneToken":-1}]`)
	part := `{"jsonrpc":"2.0",` + partLine(`-1`, `"`+strings.Repeat("a", 5000)+`"`) + `}`
	flood := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-flood:
				return
			default:
				fmt.Fprint(provider, part)
			}
		}
	}()
	wantLines(t, provider, `"method":"$/cancelRequest","params":{"id":1}`) // and no $/credit before
	close(flood)
	receive(t, over)
	for lines := bufio.NewReader(c); ; {
		got, err := lines.ReadString('\n')
		if must(t, err); !strings.Contains(got, `"token":"w"`) {
			if !strings.Contains(got, `"id":1,"error":{"code":-32002,`) || !strings.Contains(got, `"limit":"stream_window"`) {
				t.Errorf("the stream ends with %s; want the error of the limit", got)
			}
			return
		}
	}
}

// A token is free once its call has been answered. Who takes it then keeps it when the method of the first call returns.
func TestTokensOfCallsInFlight(t *testing.T) {
	var st sessionState
	begin := func(parts, workDone string) *call {
		c := &call{message: message{parts: parts}, workDone: workDone}
		if taken := st.takenToken(c); taken != "" {
			t.Fatalf("the token %s is taken", taken)
		}
		st.noteTokens(c)
		return c
	}
	wantTaken := func(want *call, tokens ...string) {
		t.Helper()
		for _, token := range tokens {
			if st.byToken(token) != want {
				t.Errorf("the token %s is not with the call that it is to be with", token)
			}
		}
	}
	begin("", "") // a call without parts has none
	first := begin(`"p"`, `1.50`)
	wantTaken(first, `"p"`, `"\u0070"`, `1.5`, `15e-1`)
	if taken := st.takenToken(&call{message: message{parts: `"q"`}, workDone: `150e-2`}); taken != `150e-2` {
		t.Errorf("of the tokens q and 150e-2, %q is taken; want the second", taken)
	}
	first.answered.Store(true)
	wantTaken(nil, `"p"`, `1.5`)
	second := begin(`15e-1`, "")
	st.dropTokens(first)
	wantTaken(second, `1.5`)
	wantTaken(nil, `"p"`)
	if st.dropTokens(second); len(st.tokens) != 0 {
		t.Errorf("of calls that are over %v is left", st.tokens)
	}
}
