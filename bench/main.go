// Bench measures what a call through ipcd costs, beside its like: stock net/rpc, a raw socket, Node.js's own fork channel; and what
// an event costs, beside NATS.
//
//	cd bench && go run .            40 minutes at most, on an idle machine
//	cd bench && go run . --quick    seconds: is every answer right?
//
// It fails on a wrong answer, never on speed. docs/performance.md says how to read what it prints.
//
//	main.go      what is measured: sides, loads, memory
//	measure.go   rounds and turns, and what follows from them
//	memory.go    what processes hold
//	stage.go     starting the programs of a side
//	programs.go  the programs that this one plays itself: servers, callers, a provider
//	parts.go     those of them that send and read the parts of answers
//	events.go    those that publish events and get them
//	nats.go      the server and the client of NATS, in a program of its own
//	report.go    what is printed
//
// One more thing to compare is one more row of sides.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"time"
)

// A side is one way to make a call, or to have parts of its answer. Its programs are started afresh for each round.
type side struct {
	name  string
	kind  kind
	base  string // the side that its ratio is to
	needs string // a program that has to be installed
	serve func(*stage) error
	call  func(*stage) *exec.Cmd // the program that takes turns; see caller
}

var sides = []side{
	{"stock-gob", calls, "", "", stock("gob"), caller("gob", "Echo.Say")},
	{"stock-json", calls, "", "", stock("json"), caller("json", "Echo.Say")},
	{"raw", calls, "stock-gob", "", stock("raw"), caller("raw", "")},
	{"node-fork", calls, "stock-json", "node", nobody, nodeCaller(forkJS)},
	{"ipcd-gob", calls, "stock-gob", "", daemon(), caller("gob", "Echo.Say")},
	{"ipcd-json", calls, "stock-json", "", daemon(), caller("json", "Echo.Say")},
	{"provider-gob", calls, "ipcd-gob", "", provider, caller("gob", "Far.Say")},
	{"provider-json", calls, "ipcd-json", "", provider, caller("json", "Far.Say")},
	{"worker-rpc-json", calls, "ipcd-json", "", worker(1, "work", ""), caller("json", "Far.Say")},
	{"worker-go-gob", calls, "ipcd-gob", "", worker(1, "loop", ""), caller("gob", "Far.Say")},
	{"worker-go-json", calls, "ipcd-json", "", worker(1, "loop", ""), caller("json", "Far.Say")},
	{"worker-go-4-json", calls, "worker-go-json", "", worker(4, "loop", ""), caller("json", "Far.Say")},
	{"worker-node-json", calls, "ipcd-json", "node", worker(1, "", workerJS), caller("json", "Far.Say")},
	{"raw-relay", parts, "", "", relay, caller("raw-parts", "")},
	{"worker-parts", parts, "raw-relay", "", worker(1, "stream", ""), caller("parts", "Far.Say")},
	{"nats-events", events, "", "", natsServer, caller("nats-events", "")},
	{"ipcd-events", events, "nats-events", "", daemon("--set", fmt.Sprintf("limits.max_calls=%d", 4*eventsAtOnce)), caller("events", "")},
}

// What a side is measured by: calls and their answers, or the parts of answers, or events, each of which counts as one.
type kind int

const (
	calls kind = iota
	parts
	events
)

// A load is how many call at once on one connection, or subscribe over one each, and what each sends and gets back, or gets in a part
// or an event.
type load struct {
	name    string
	kind    kind
	callers int // or subscribers
	bytes   int
}

var loads = []load{
	{"16 B, 1 caller", calls, 1, 16},
	{"16 B, 64 callers on one connection", calls, 64, 16},
	{"4 KiB, 1 caller", calls, 1, 4 << 10},
	{"1 MiB, 1 caller", calls, 1, 1 << 20},
	{"parts of 64 KiB", parts, 1, 64 << 10},
	{"events of 100 B, 1 subscriber", events, 1, 100},
	{"events of 100 B, 10 subscribers", events, 10, 100},
	{"events of 100 B, 100 subscribers", events, 100, 100},
}

// A holding is memory that is resident: a process, or what it has more of something than without.
type holding struct {
	name    string
	measure func(*stage) (bytes int, err error)
}

var holdings = []holding{
	{"the daemon, after one call", daemonMemory},
	{"the daemon, for each registered provider", registrationMemory},
	{"a provider in Go (net/rpc/jsonrpc), after one call", providerMemory},
	{"the daemon, for each process of a worker", workersMemory},
	{"a worker in Go, after a call or two", workerMemory("loop", "")},
	{"a worker in Node.js, after a call or two", workerMemory("", workerJS)},
	{"the daemon, for each open stream of a worker's", streamMemory},
	{"the daemon, for each connection with a subscription", subscriberMemory},
	{"the daemon, for each further subscription", subscriptionMemory},
}

// options are the flags.
type options struct {
	quick, json  bool
	minutes      float64
	within       float64 // percent
	sides, loads string
}

func main() {
	if len(os.Args) > 1 && programs[os.Args[1]] != nil {
		if err := programs[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %q: %v\n", os.Args[1:], err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.BoolVar(&o.quick, "quick", false, "make a few calls of each kind, and see to the answers alone")
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.Float64Var(&o.minutes, "minutes", 40, "measure no longer than this")
	flag.Float64Var(&o.within, "within", 3, "stop when each interval reaches no further than so many percent from its ratio")
	flag.StringVar(&o.sides, "sides", "", "only the sides that match this `pattern`, and those that their ratios are to")
	flag.StringVar(&o.loads, "loads", "", "only the loads that match this `pattern`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := bench(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is no flag; see -h", flag.Arg(0))
	}
	sides, err := chosenSides(o.sides)
	if err != nil {
		return err
	}
	pattern, err := regexp.Compile(o.loads)
	if err != nil {
		return err
	}
	loads := slices.DeleteFunc(slices.Clone(loads), func(l load) bool { return !pattern.MatchString(l.name) })
	if len(loads) == 0 {
		return errors.New("no load is left to measure")
	}
	h, err := newHouse(ctx)
	if err != nil {
		return err
	}
	defer h.close()

	r := newReport()
	end := time.Now().Add(time.Duration(o.minutes * float64(time.Minute)))
	for i, l := range loads {
		m := &match{house: h, load: l, sides: slices.DeleteFunc(slices.Clone(sides), func(s side) bool { return s.kind != l.kind })}
		if len(m.sides) == 0 {
			continue
		}
		until := time.Now().Add(time.Until(end) / time.Duration(len(loads)-i)) // what one leaves the others have
		if err := m.play(o, until); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		r.add(m)
	}
	times := 5
	if o.quick {
		times = 1
	}
	for _, m := range holdings {
		if err := r.hold(h, m, times); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "memory is left out: %v\n", err)
			break
		} else if err != nil {
			return fmt.Errorf("memory of %s: %w", m.name, err)
		}
	}
	if o.quick {
		fmt.Printf("%d sides, %d loads: every answer is right\n", len(sides), len(loads))
		return nil
	}
	return r.print(os.Stdout, o.json)
}

// chosenSides returns the sides that match, in their order, and before them those that their ratios are to.
func chosenSides(pattern string) ([]side, error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var chosen []side
	needed := map[string]bool{}
	for _, s := range slices.Backward(sides) { // a side stands behind the one that its ratio is to
		if !needed[s.name] && !match.MatchString(s.name) {
			continue
		}
		if ok, err := s.isThere(); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		needed[s.base] = true
		chosen = append(chosen, s)
	}
	slices.Reverse(chosen)
	if len(chosen) == 0 {
		return nil, errors.New("no side is left to measure")
	}
	return chosen, nil
}
