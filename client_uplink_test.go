package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// startFront serves what is built in, as "ipcd child" does, and passes other calls on to e.
func startFront(t *testing.T, e endpoint) (front endpoint) {
	t.Helper()
	router, err := newBuiltins()
	must(t, err)
	log := newLogger(&logBuffer{}, formatText, levelDebug)
	s := newServer(router, defaultLimits(), log)
	must(t, s.addOwnService())
	up := newUplink(router, func(ctx context.Context) (caller, error) {
		return dial(ctx, e, dialOptions{limits: defaultLimits(), log: log})
	})
	s.finder = up
	l, err := s.listen(localEndpoint(t))
	must(t, err)
	first, err := settle(l.endpoint)
	must(t, err)
	s.start(l)
	t.Cleanup(func() {
		first.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.stop(ctx)
		s.wg.Wait()
		up.close()
		log.close()
	})
	return l.endpoint
}

// Whoever calls, in whichever protocol, does not see that somebody else answers.
func TestUplinkAnswersAsTheDaemonDoes(t *testing.T) {
	back := startServer(t, localEndpoint(t).String())
	front := startFront(t, back.endpoints[0])
	for _, k := range clientKinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.dial(t, front)
			defer c.close()
			checkSay(t, c, "answered here")
			var label string
			if err := ask(c, "Trial.Label", "answered there", &label); err != nil || label != "<answered there>" {
				t.Errorf("Trial.Label = %q, %v", label, err)
			}
			checkCode(t, "an error of a method", ask(c, "Trial.Fail", "no luck", nil), codeApplication, "no luck")
			checkCode(t, "a method that is not there", ask(c, "Trial.Quite", "a", nil), codeNoMethod, "there is no method Trial.Quite")
			checkCode(t, "a method that is not here", ask(c, "Ipcd.Pingg", "a", nil), codeNoMethod, "there is no method Ipcd.Pingg")
			checkCode(t, "no name of a method", ask(c, "Trial", "a", nil), codeNoMethod, "there is no method Trial")
			if k.data {
				checkCode(t, "a wrong argument", ask(c, "Trial.Quiet", 5, nil), codeBadArgument, "")
				f := checkCode(t, "an error with a code of its own", ask(c, "Trial.Refuse", 7, nil), 7, "no such ticket")
				if string(f.Data) != `{"ticket":12}` {
					t.Errorf("the data of the error is %s", f.Data)
				}
				f = checkCode(t, "a code of the daemon's own", ask(c, "Trial.Big", 17<<20, nil), codeTooLarge, "")
				if f.data().Limit != "max_message" {
					t.Errorf("the data of the limit is %s", f.Data)
				}
			}
		})
	}
}

// A deadline, a cancellation and parts go through, in the direction of each.
func TestUplinkPassesEverythingOn(t *testing.T) {
	back := startServer(t, localEndpoint(t).String())
	provider, c := rawDial(t, back.endpoints[0]), rawDial(t, startFront(t, back.endpoints[0]))
	defer provider.Close()
	defer c.Close()
	registration(t, provider, `{"methods":["Far.Say"],"extensions":["parts","timeout"]}`)
	next := func(conn net.Conn, want string) {
		t.Helper()
		if got := readLine(t, conn); !strings.Contains(got, want) {
			t.Fatalf("there comes %s; want %s in it", got, want)
		}
	}
	send(t, c, `{"jsonrpc":"2.0","id":"a","method":"Far.Say","params":[{"b":1.10,"a":"\u00e4"}],"parts":"t","timeout":3600000}`)
	next(provider, `"id":1,"method":"Far.Say","params":[{"b":1.10,"a":"\u00e4"}],"timeout":3`) // and further down "parts":1,"window":1048576
	send(t, provider, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":1,"value":0.50}}`)
	next(c, `"method":"$/progress","params":{"token":"t","value":0.50}`)
	next(provider, `"method":"$/credit","params":{"token":1,"parts":1}`)
	send(t, provider, `{"jsonrpc":"2.0","id":1,"result":{"z":1e400}}`)
	next(c, `{"jsonrpc":"2.0","id":"a","result":{"z":1e400}}`)
	send(t, c, `{"jsonrpc":"2.0","id":"l","method":"Far.Say","params":{"partialResultToken":1,"workDoneToken":"w"}}`)
	next(provider, `"id":2,"method":"Far.Say","params":[{"partialResultToken":1,"workDoneToken":"w"}],`)
	send(t, provider, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":2,"value":{"progress":1}}}{"jsonrpc":"2.0","method":"$/progress","params":{"token":2,"value":0}}`)
	next(c, `"method":"$/progress","params":{"token":"w","value":{"progress":1}}`)
	next(c, `"method":"$/progress","params":{"token":1,"value":0}`)
	readLineWith(t, provider, `"$/credit","params":{"token":2,"parts":2}`)
	send(t, provider, `{"jsonrpc":"2.0","id":2,"result":0}`)
	next(c, `"id":"l","result":0`)
	send(t, c, `{"jsonrpc":"2.0","id":"b","method":"Far.Say"}`)
	next(provider, `"id":3,"method":"Far.Say"}`)
	send(t, c, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"b"}}`)
	next(c, `"id":"b","error":{"code":-32800`)
	next(provider, `"method":"$/cancelRequest","params":{"id":3}`)
	send(t, c, `{"jsonrpc":"2.0","id":"c","method":"Far.Say","timeout":1}`)
	next(c, `"id":"c","error":{"code":-32004`) // which may come before the provider has heard of the call, or after
	send(t, c, `{"jsonrpc":"2.0","id":"d","method":"Far.Say"}`)
	for !strings.Contains(readLine(t, provider), `"method":"Far.Say"}`) {
	}
	provider.Close()
	next(c, `"id":"d","error":{"code":-32006,"message":"the provider of Far.Say has gone; it is not known whether it carried out the call"}`)
}

// It connects when it has to, says when nobody is there, and connects again.
func TestUplinkConnectsAgain(t *testing.T) {
	e := localEndpoint(t)
	c := dialOurs(protoJSON)(t, startFront(t, e))
	defer c.close()
	f := checkCode(t, "without a daemon", ask(c, "Echo.Sai", "a", nil), codeNoMethod, "there is no method Echo.Sai here, and the call could not be passed on: no daemon at ")
	if f.data().Near != "Echo.Say" || !strings.Contains(f.Text, "ipcd run") {
		t.Errorf("it says %s, and %s", f.Text, f.Data)
	}
	for range 2 {
		back := startServer(t, e.String())
		waitFor(t, func() error { return ask(c, "Trial.Quiet", "a", nil) })
		running := inBackground(t.Context(), c, "Trial.Deaf", "a")
		receive(t, back.trial.entered)
		back.beginToStop()
		checkCode(t, "as the daemon stops", ask(c, "Trial.Quiet", "a", nil), codeShuttingDown, "may be retried")
		back.stopped.Do(func() { // as halt does, but the call goes on
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			back.stop(ctx)
			back.freeAll()
			back.wg.Wait()
		})
		checkCode(t, "what ran then", receive(t, running), codeShuttingDown, "whether it was done is not known")
		waitFor(t, func() error {
			if err := ask(c, "Trial.Quiet", "a", nil); !errors.Is(err, &fault{Code: codeNoMethod}) {
				return fmt.Errorf("after the daemon has gone: %w", err)
			}
			return nil
		})
	}
}

// A daemon that goes without a word leaves its calls with an error that says so. Calls that wait for a connection end
// with their callers.
func TestUplinkLosesTheDaemon(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	e := mustParse(t, "tcp://"+l.Addr().String()+"?auth=none")
	c := dialOurs(protoJSON)(t, startFront(t, e))
	defer c.close()
	for range 2 {
		done := inBackground(t.Context(), c, "Far.Say", "a")
		conn, err := l.Accept()
		must(t, err)
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, `"method":"Far.Say"`) {
			t.Errorf("the daemon reads %q, %v", line, err)
		}
		conn.Close()
		f := checkCode(t, "the call that it had", receive(t, done), codeGone, "the daemon that answers Far.Say has gone; it is not known")
		if f.data().Retry {
			t.Errorf("it may be retried: %s", f.Data)
		}
	}
	web := dialOurs(protoJSON)(t, startFront(t, e.withProto(protoHTTP)))
	defer web.close()
	checkCode(t, "over HTTP", ask(web, "Far.Say", "a", nil), codeApplication, "over JSON-RPC alone; name a unix, npipe, tcp or tls endpoint")
}
