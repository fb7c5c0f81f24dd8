package main

// This file owns the service Ipcd, in which a daemon describes itself and its methods. A fork adds its own services in
// rpc_services.go, not here.

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// protocolVersion is the version of docs/protocol.md that this program speaks. It grows whenever something is added. A
// daemon understands all clients of its own version and older.
const protocolVersion = 1

// Ipcd is the daemon's own service.
type Ipcd struct{ server *server }

var ipcdDocs = map[string]string{
	"Ping":     `answers "pong"`,
	"List":     "lists the methods that the caller may call, and who answers them",
	"Describe": "describes a method, or each method of a service, as JSON Schema",
	"Restart":  "starts the daemon anew in its own process; calls in flight may finish",
	"Stats":    "reports all figures that the daemon counts",
	"Status":   "reports the daemon's status",
	"Stop":     "stops the daemon; calls in flight may finish",
	"Whoami":   "reports the caller's identity as the kernel sees it",

	"WorkerLog":     "returns the last lines that a worker has printed",
	"WorkerReload":  "replaces the processes of a worker by new ones, without a gap",
	"WorkerRestart": "stops a worker and starts it again",
	"WorkerStart":   "starts a worker that was stopped, is parked or lazy",
	"WorkerStop":    "stops a worker; calls in flight may finish",
}

func (*Ipcd) computes() []string {
	return []string{"Describe", "List", "Ping", "Stats", "Status", "Whoami"}
}

// addOwnService adds the service Ipcd to the router.
func (s *server) addOwnService() error {
	name, own, err := newReceiver(&Ipcd{s}, ipcdDocs)
	if err != nil {
		return err
	}
	s.shortenStatus(own)
	s.addRegistration(own)
	s.addEvents(own)
	s.addAuthentication(own)
	return s.router.add(name, own)
}

// A Status is the answer of Status.
type Status struct {
	Version     string   `json:"version"`
	Protocol    int      `json:"protocol"`
	PID         int      `json:"pid"`
	Started     string   `json:"started"` // RFC 3339
	Uptime      float64  `json:"uptime"`  // seconds
	Endpoints   []string `json:"endpoints"`
	Connections int64    `json:"connections"` // open now
	Accepted    int64    `json:"accepted"`    // since the start
	Refused     int64    `json:"refused"`
	Calls       int64    `json:"calls"`    // begun
	Errors      int64    `json:"errors"`   // of these, answered with an error
	Rejected    int64    `json:"rejected"` // messages that began no call
	Memory      uint64   `json:"memory"`   // bytes of heap and stacks in use
	CPU         float64  `json:"cpu"`      // seconds of processor time
	Goroutines  int      `json:"goroutines"`
	Build       string   `json:"build,omitempty"`      // of the program, if "ipcd call --start" has started it
	Log         string   `json:"log,omitempty"`        // the file that it logs to, if whoever started it said so
	Config      string   `json:"config,omitempty"`     // the file of its settings
	Ending      float64  `json:"ending"`               // seconds that it takes at most to end, once it is told to stop
	Executable  string   `json:"executable,omitempty"` // that Restart executes; empty if it cannot
	Restarts    int      `json:"restarts"`             // by Restart, of this process

	Workers []WorkerStatus `json:"workers,omitempty"`
}

// A BriefStatus is the answer of Status to those who may not control the daemon.
type BriefStatus struct {
	Version  string  `json:"version"`
	Protocol int     `json:"protocol"`
	PID      int     `json:"pid"`
	Uptime   float64 `json:"uptime"` // seconds
}

// isBrief reports whether s was read from a BriefStatus.
func (s *Status) isBrief() bool { return s.Started == "" }

// shortenStatus has Status tell those who may not control the daemon no more than they need.
func (s *server) shortenStatus(own *receiver) {
	m := own.methods["Status"]
	whole := m.invoke
	m.invoke = func(ctx context.Context, arg any) (any, error) {
		p, _ := callerOf(ctx) // nobody, without a call
		if s.mayControl(&p) == nil {
			return whole(ctx, arg)
		}
		return BriefStatus{Version: version(), Protocol: protocolVersion, PID: os.Getpid(), Uptime: time.Since(s.began).Seconds()}, nil
	}
}

// A life is what the daemon says of its beginning, and how it can be ended.
type life struct {
	build   string // see Status
	log     string
	config  string
	service instance // that it is; the zero value is none
	program string   // what it was started from, as a path; what is there may be newer by now
	before  int      // how many programs this process was before
	pprof   bool     // profiles of it can be had; see server_pprof.go
	stop    func()   // nil if it ends with whoever started it

	// restart has it make way for the program, unless that could not serve. It is nil if it cannot.
	restart func(context.Context) error
}

// Ping answers "pong".
func (i *Ipcd) Ping(ctx context.Context) (string, error) { return "pong", nil }

// List lists the methods that the caller may call, in alphabetical order, and who answers them.
func (i *Ipcd) List(ctx context.Context) ([]Listing, error) {
	who, _ := callerOf(ctx) // nobody, without a call
	return i.server.router.list(&who), nil
}

// Describe describes one method, or all methods of a service.
func (i *Ipcd) Describe(ctx context.Context, name string) ([]Description, error) {
	who, _ := callerOf(ctx) // nobody, without a call
	var list []Description
	methods := i.server.router.callable(&who)
	for _, full := range methods {
		if full != name && !strings.HasPrefix(full, name+".") {
			continue
		}
		m, f := i.server.router.find(full, &who)
		if f != nil {
			continue // it has just been removed
		}
		list = append(list, m.describe(full))
	}
	if by := i.server.router.answering(name); list == nil && by != nil && i.server.router.mayCall(&who, name) == nil {
		return nil, faultf(codeApplication, "%s is answered by %s, and has not been described", name, strings.Join(by, ", "))
	}
	if list == nil {
		f := &fault{Code: codeNoMethod, Text: fmt.Sprintf("there is no service or method %s", shorten(name, 100))}
		if near := nearest(name, append(methods, servicesOf(methods)...)); near != "" {
			f.Data = faultData{Near: near}.json()
		}
		return nil, f
	}
	i.server.router.fitDescriptions(list)
	return list, nil
}

// Status reports the daemon's status.
func (i *Ipcd) Status(ctx context.Context) (Status, error) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	s := i.server
	endpoints := s.endpoints()
	slices.Sort(endpoints)
	executable := ""
	if s.life.restart != nil {
		executable = s.life.program
	}
	return Status{
		Version: version(), Protocol: protocolVersion, PID: os.Getpid(),
		Started: s.began.Format(time.RFC3339), Uptime: time.Since(s.began).Seconds(),
		Endpoints: endpoints, Connections: s.meter.connections.Load(), Accepted: s.meter.accepted.Load(),
		Refused: s.meter.refused.Load(), Calls: s.meter.calls.Load(), Errors: s.meter.errors.Load(), Rejected: s.meter.rejected.Load(),
		Memory: memory.HeapInuse - uint64(len(heapFloor)) + memory.StackInuse, CPU: processorTime().Seconds(), Goroutines: runtime.NumGoroutine(),
		Build: s.life.build, Log: s.life.log, Config: s.life.config, Ending: s.force.ending().Seconds(),
		Executable: executable, Restarts: s.life.before, Workers: s.force.status(),
	}, nil
}

// Stop stops the daemon. A service is stopped by its manager, which would start it again.
func (i *Ipcd) Stop(ctx context.Context) (bool, error) {
	l := i.server.life
	f := i.server.controlBy(ctx)
	switch {
	case f != nil:
		return false, f
	case l.service.name != "":
		return false, faultf(codeApplication, "the daemon is the service %s: ipcd stop --name %s%s", l.service.name, l.service.name, l.service.scope())
	case l.stop == nil:
		return false, faultf(codeApplication, "the daemon ends with the program that started it")
	}
	l.stop()
	return true, nil
}

// Restart has the daemon execute its program anew, in the same process and with the same sockets, where its file may be a newer one by
// now. If that could not serve, the error says why, and nothing has happened.
func (i *Ipcd) Restart(ctx context.Context) (bool, error) {
	l := i.server.life
	switch f := i.server.controlBy(ctx); {
	case f != nil:
		return false, f
	case l.stop == nil:
		return false, faultf(codeApplication, "the daemon ends with the program that started it")
	case l.restart == nil:
		return false, errNoRestart
	}
	if err := l.restart(ctx); err != nil {
		return false, err
	}
	return true, nil
}

var errNoRestart = faultf(codeApplication, "this system cannot execute another program in a process that runs; whoever started the daemon can stop it and start it again")

// controlBy returns nil if the caller may control the daemon. That it has asked for it is noted for the audit log.
func (s *server) controlBy(ctx context.Context) *fault {
	p, _ := callerOf(ctx) // nobody, without a call
	c, _ := ctx.Value(callKey).(*call)
	return s.check(s.policy(), c, &p, rightAdmin, "")
}

// mayControl returns nil if p may control the daemon.
func (s *server) mayControl(p *peer) *fault { return s.policy().check(p, rightAdmin, "") }

// Whoami reports the caller's identity as the kernel sees it.
func (i *Ipcd) Whoami(ctx context.Context) (peer, error) {
	p, ok := callerOf(ctx)
	if !ok {
		return peer{}, errInternal
	}
	return p.named(), nil
}

// version returns the version of the module, or else the commit, as recorded in the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	v := "devel"
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v += "-" + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			v += "+dirty"
		}
	}
	return v
}
