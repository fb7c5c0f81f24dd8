// Bench measures what a call through ipcd costs, beside its like: stock net/rpc, a raw socket, gRPC, NATS, D-Bus, Node.js and more; and
// what an event costs, beside NATS.
//
//	cd bench && go run .            40 minutes at most, on an idle machine
//	cd bench && go run . --write    the same, and the tables and plots of docs/performance.md are those of this run
//	cd bench && go run . --quick    a minute: is every answer right?
//
// It fails on a wrong answer, never on speed. docs/performance.md says how to read what it prints.
//
//	main.go      what is measured: sides, loads, memory
//	measure.go   rounds and turns, and what follows from them
//	memory.go    what processes hold
//	growth.go    what grows: calls beside more and more of something, starts, the daemon after many calls
//	report.go    what is printed
//	document.go  what is written into docs/: the tables, and plot.go the plots
//	machine.go   what has to be known of the machine and the run
//
//	house.go     what is built once for all, and what has to be installed
//	stage.go     the processes of one side in one round
//	serve.go     how those are started: servers, and callers
//	proc.go      what the kernel says of a process
//
//	turns.go     the turns of a caller in Go, turns.js of one in Node.js
//	programs.go  the programs that this one plays itself, with the standard library: servers, callers, providers, workers
//	parts.go     those that send and read the parts of answers
//	events.go    those that publish events and get them
//	_own         what makes ipcd a caller
//
//	http.go, grpc.go, ttrpc.go, protobuf.go, nats.go, varlink.go, godbus.go, plot.go   programs with net/http, or modules of others
//	c/, fork.js, net.js, http.js, node-ipc.js, worker.js                               programs in other languages
//
// The last but one are this program, built with the tag modules: it plays providers and workers whose memory is measured, and what is linked
// into them counts, whether it is used or not.
//
// One more thing to compare is one more row of sides.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"time"
)

// A side is one way to make a call, or to have parts of its answer, or events. Its programs are started afresh for each round.
type side struct {
	name  string
	kind  kind
	base  string   // the side that its ratio is to, if that can be put under the same load
	needs []string // what has to be installed
	does  ability
	serve func(*stage) error
	call  func(*stage) (*exec.Cmd, error) // the program that takes turns; see takeTurns
}

// An ability is a kind of load that a side can be put under, beside one caller with a text.
type ability int

const (
	share ability = 1 << iota // 64 callers on one connection
	crowd                     // 1,000 connections
	tens                      // structs of ten fields
	bulk                      // 64 texts of 1 MiB on their way. The JSON of encoding/json takes seconds for them
	apart                     // a connection has one call at a time: 64 callers have 64
	huge                      // more than --quick has time for
)

var (
	inNode  = []string{"node"}
	inC     = []string{"cc", pingC}
	overBus = []string{"dbus-daemon"}
)

var sides = slices.Concat([]side{
	{"stock-gob", calls, "", nil, share | crowd | tens | bulk, stock("gob"), caller("gob", "Echo.Say")},
	{"stock-json", calls, "", nil, share | crowd | tens, stock("json"), caller("json", "Echo.Say")},
	{"raw", calls, "stock-gob", nil, share | crowd | bulk, stock("raw"), caller("raw", "")},
	{"raw-c", calls, "stock-gob", inC, crowd, ping, programCaller(pingProgram)},
	{"node-fork", calls, "stock-json", inNode, share | tens, nobody, nodeCaller(forkJS)},
	{"ipcd-gob", calls, "stock-gob", nil, share | crowd | tens | bulk, daemon(), caller("gob", "Echo.Say")},
	{"ipcd-json", calls, "stock-json", nil, share | crowd | tens, daemon(), caller("json", "Echo.Say")},
	{"own-gob", calls, "stock-gob", nil, share | crowd | tens | bulk, daemon(), ownCaller("gob")},
	{"own-json", calls, "stock-json", nil, share | crowd | tens | bulk, daemon(), ownCaller("jsonrpc")},

	{"grpc", calls, "own-gob", nil, share | crowd | tens | bulk, module("grpc"), moduleCaller("grpc", "")},
	{"ttrpc", calls, "own-gob", nil, share | crowd | tens | bulk, module("ttrpc"), moduleCaller("ttrpc", "")},
	{"nats", calls, "own-gob", nil, share | crowd | tens, natsAnswerer, moduleCaller("nats", "")}, // its server cuts off who has 64 MiB waiting
	{"varlink", calls, "own-gob", nil, share | crowd | tens | bulk | apart, module("varlink"), moduleCaller("varlink", "")},
	{"godbus", calls, "own-gob", overBus, share | tens | bulk, godbusServer, moduleCaller("godbus", "")},
	{"sd-bus", calls, "own-gob", []string{"dbus-daemon", "cc", sdBusC}, share | bulk, sdBusServer, programCaller(sdBusProgram)},
	{"node-ipc", calls, "own-gob", []string{"node", nodeIPC}, share | tens, node(nodeIPCJS), nodeCaller(nodeIPCJS)},
	{"node-net", calls, "own-gob", inNode, share | crowd | tens, node(netJS), nodeCaller(netJS)},
	{"ipcd-node-net", calls, "node-net", inNode, share | crowd | tens, daemon(), nodeCaller(netJS)},
	{"node-http", calls, "own-gob", inNode, share | crowd | tens | apart, node(httpJS), nodeCaller(httpJS)},
	{"ipcd-node-http", calls, "node-http", inNode, share | crowd | tens | apart, daemon(), nodeCaller(httpJS)},
	{"http", calls, "own-gob", nil, share | crowd | tens | apart, module("http"), moduleCaller("http", "Echo.Say")},
	{"ipcd-http", calls, "http", nil, share | crowd | tens | apart, daemon(), moduleCaller("http", "Echo.Say")},

	{"tcp-raw", calls, "raw", nil, share | crowd, stockTCP("raw"), caller("raw", "")},
	{"tcp-stock-gob", calls, "stock-gob", nil, share | crowd, stockTCP("gob"), caller("gob", "Echo.Say")},
	{"tcp-own-gob", calls, "own-gob", nil, share | crowd, daemonTCP, ownCaller("gob")},
	{"tcp-grpc", calls, "grpc", nil, share | crowd, moduleTCP("grpc"), moduleCaller("grpc", "")},

	{"provider-gob", calls, "ipcd-gob", nil, share, provider, caller("gob", "Far.Say")},
	{"provider-json", calls, "ipcd-json", nil, share, provider, caller("json", "Far.Say")},
	{"worker-rpc-json", calls, "ipcd-json", nil, share, worker(1, "work", ""), caller("json", "Far.Say")},
	{"worker-go-gob", calls, "ipcd-gob", nil, share, worker(1, "loop", ""), caller("gob", "Far.Say")},
	{"worker-go-json", calls, "ipcd-json", nil, share, worker(1, "loop", ""), caller("json", "Far.Say")},
	{"worker-go-4-json", calls, "worker-go-json", nil, share, worker(4, "loop", ""), caller("json", "Far.Say")},
	{"worker-node-json", calls, "ipcd-json", inNode, share, worker(1, "", workerJS), caller("json", "Far.Say")},

	{"raw-relay", parts, "", nil, 0, relay, caller("raw-parts", "")},
	{"worker-parts", parts, "raw-relay", nil, 0, worker(1, "stream", ""), caller("parts", "Far.Say")},

	{"nats-events", events, "", nil, 0, natsServer, moduleCaller("nats-events", "")},
	{"ipcd-events", events, "nats-events", nil, 0, daemon("--set", fmt.Sprintf("limits.max_calls=%d", 4*eventsAtOnce)), caller("events", "")},

	{"a Go server that copies", starts, "", nil, 0, nobody, starter("raw", rawCommand)},
	{"a Go server with net/rpc", starts, "a Go server that copies", nil, 0, nobody, starter("gob", stockCommand)},
	{"ipcd run", starts, "a Go server that copies", nil, 0, nobody, starter("gob", ipcdCommand)},
},
	grown(idling, "idle connections", []int{1, 100, 1000, 10_000}, idleConnections),
	grown(routing, "methods", []int{10, 100, 1000, 10_000}, methods),
	grown(subscribing, "subscribers", []int{1, 10, 100, 1000}, otherSubscribers),
)

// What a side is measured by: calls and their answers, or the parts of answers, or events, each of which counts as one; starts of a
// server; or calls beside a daemon's connections, methods, or subscribers of other topics.
type kind int

const (
	calls kind = iota
	parts
	events
	starts
	idling
	routing
	subscribing
)

// A load is what sides of a kind are put under, if they can: callers with what each sends and gets back, or gets in a part; or
// subscribers, with a connection of each, and what they get in an event.
type load struct {
	name  string
	kind  kind
	needs ability
	workload
}

var loads = []load{
	{"16 B, 1 caller", calls, 0, workload{1, 1, 16}},
	{"16 B, 64 callers on one connection", calls, share, workload{64, 1, 16}},
	{"16 B, 1,000 connections", calls, crowd, workload{1000, 1000, 16}},
	{"4 KiB, 1 caller", calls, 0, workload{1, 1, 4 << 10}},
	{"4 KiB, 64 callers on one connection", calls, share, workload{64, 1, 4 << 10}},
	{"1 MiB, 1 caller", calls, 0, workload{1, 1, 1 << 20}},
	{"1 MiB, 64 callers on one connection", calls, share | bulk, workload{64, 1, 1 << 20}},
	{"ten fields, 1 caller", calls, tens, workload{1, 1, 0}},
	{"ten fields, 64 callers on one connection", calls, tens | share, workload{64, 1, 0}},
	{"parts of 64 KiB", parts, 0, workload{1, 1, 64 << 10}},
	{"events of 100 B, 1 subscriber", events, 0, workload{1, 1, 100}},
	{"events of 100 B, 10 subscribers", events, 0, workload{10, 10, 100}},
	{"events of 100 B, 100 subscribers", events, 0, workload{100, 100, 100}},
	{"growth: from start to first answer", starts, 0, workload{1, 1, 16}},
	{"growth: 16 B, 1 caller beside idle connections", idling, 0, workload{1, 1, 16}},
	{"growth: 16 B, 1 caller beside methods of a provider", routing, 0, workload{1, 1, 16}},
	{"growth: 16 B, 1 caller beside subscribers of other topics", subscribing, 0, workload{1, 1, 16}},
}

// takes reports whether a side can be put under a load.
func (s side) takes(l load) bool { return s.kind == l.kind && l.needs&^s.does == 0 }

// under returns what a side's caller is told.
func (s side) under(l load) workload {
	w := l.workload
	if s.does&apart != 0 {
		w.conns = w.callers
	}
	return w
}

// A holding is memory that is resident: a process, or what it has more of something than without.
type holding struct {
	name    string
	needs   []string // what has to be installed
	does    ability
	measure func(*stage) (bytes int, err error)
}

var holdings = []holding{
	{"the daemon, after one call", nil, 0, daemonMemory},
	{"the daemon, for each registered provider", nil, 0, registrationMemory},
	{"a provider in Go (net/rpc/jsonrpc), after one call", nil, 0, providerMemory},
	{"the daemon, for each process of a worker", nil, 0, workersMemory},
	{"a worker in Go, after a call or two", nil, 0, workerMemory("loop", "")},
	{"a worker in Node.js, after a call or two", inNode, 0, workerMemory("", workerJS)},
	{"the daemon, for each open stream of a worker's", nil, 0, streamMemory},
	{"the daemon, for each connection with a subscription", nil, 0, subscriberMemory},
	{"the daemon, for each further subscription", nil, 0, subscriptionMemory},
	{"the daemon, after 10,000 calls of 64 callers", nil, 0, afterCalls(10_000)},
	{"the daemon, after 1,000,000 of them", nil, huge, afterCalls(1_000_000)},
}

// options are the flags.
type options struct {
	quick, json  bool
	write        bool
	minutes      float64
	within       float64 // percent
	sides, loads string
	note, from   string
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
	flag.BoolVar(&o.write, "write", false, "write the tables and plots of what was measured into "+documents)
	flag.StringVar(&o.note, "note", "", "a `sentence` for those who read the figures: what ran beside")
	flag.StringVar(&o.from, "from", "", "measure nothing: the figures are those of this `file`, which --json has printed")
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
	h, err := newHouse(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	var r *report
	if o.from != "" {
		r, err = readReport(o.from)
	} else {
		r, err = h.measure(o)
	}
	if err != nil || o.quick {
		return err
	}
	if o.write {
		if o.note != "" {
			r.Note = o.note
		}
		if err := h.write(r); err != nil {
			return err
		}
	}
	return r.print(os.Stdout, o.json)
}

// measure puts sides under loads, and looks at memory.
func (h *house) measure(o options) (*report, error) {
	sides, err := chosenSides(o.sides)
	if err != nil {
		return nil, err
	}
	pattern, err := regexp.Compile(o.loads)
	if err != nil {
		return nil, err
	}
	loads := slices.DeleteFunc(slices.Clone(loads), func(l load) bool {
		return !pattern.MatchString(l.name) || !slices.ContainsFunc(sides, func(s side) bool { return s.takes(l) })
	})
	if len(loads) == 0 {
		return nil, errors.New("no load is left to measure")
	}
	if o.quick {
		return nil, h.quick(sides, loads)
	}
	r := &report{origin: newOrigin(o.note)}
	var matches []*match
	all := 0 // sides of all loads that are left
	for _, l := range loads {
		m := &match{house: h, load: l, sides: slices.DeleteFunc(slices.Clone(sides), func(s side) bool { return !s.takes(l) })}
		matches = append(matches, m)
		all += len(m.sides)
	}
	end := time.Now().Add(time.Duration(o.minutes * float64(time.Minute)))
	for _, m := range matches {
		until := time.Now().Add(time.Until(end) * time.Duration(len(m.sides)) / time.Duration(all)) // what one leaves the others have
		if err := m.play(o, until); err != nil {
			return nil, fmt.Errorf("%s: %w", m.load.name, err)
		}
		all -= len(m.sides)
		r.add(m)
	}
	if err := r.holdAll(h, false); err != nil {
		return nil, err
	}
	r.After = loadAverage()
	return r, nil
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
		if ok, err := isThere(s.name, s.needs); err != nil {
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
