package main

// This file owns "ipcd bench --claim", which looks at what people say of the ways for two programs to talk: that a pipe is twice
// as fast as TCP. It measures four ways, each raw and with calls, by turns.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	claimRounds = 5  // of each side, in turns, so that what else the machine does meets all alike
	claimSize   = 16 // bytes of a text
	claimIdle   = 30 * time.Second
	claimWait   = 20 * time.Second // for the daemon to come up, and to go
)

// A Claim is the output of "bench --claim --json".
type Claim struct {
	Size int        `json:"size"` // bytes of a text
	Ways []ClaimWay `json:"ways"`
	Says string     `json:"says"` // what holds on this machine
}

// A ClaimWay is one way to talk.
type ClaimWay struct {
	Way   string    `json:"way"`
	Raw   ClaimSide `json:"raw"`   // texts that come back as they are
	Calls ClaimSide `json:"calls"` // of Echo.Say
}

// A ClaimSide is how fast it is.
type ClaimSide struct {
	PerSec float64 `json:"per_sec"` // round trips a second, one after the other: the median of the rounds
	P50    float64 `json:"p50"`     // seconds for one: the same
	ToTCP  float64 `json:"to_tcp"`  // how many times as many as over TCP: the median of what the rounds say
}

// A claimSide is measured.
type claimSide struct {
	name   string
	dial   func(ctx context.Context) (caller, error)
	rounds []*benchRun
}

// runClaim measures and shows the ways.
func (p *benchPlan) runClaim(cmd *cobra.Command, args []string) error {
	for _, name := range []string{"endpoint", "clients", "inflight", "size", "rate", "arg", "text"} {
		if cmd.Flag(name).Changed {
			return usagef("--%s has no meaning with --claim, which has a daemon of its own and measures one round trip after the other", name).withHint("ipcd bench --claim --time 2s")
		}
	}
	if len(args) > 0 {
		return usagef("--claim calls Echo.Say, and nothing else").withHint("ipcd bench --claim")
	}
	p.load.clients, p.load.inflight = 1, 1
	if err := p.check(); err != nil {
		return err
	}
	set, _, err := settingsFrom(cmd)
	if err != nil {
		return err
	}
	ctx, end := attend(cmd.Context(), nil)
	defer end()
	claim, err := p.claimFrom(ctx, cmd, set)
	if err != nil {
		return reasonFor(ctx, err)
	}
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), claim)
	}
	return claim.show(cmd.OutOrStdout())
}

// claimFrom starts a daemon, measures, and ends the daemon.
func (p *benchPlan) claimFrom(ctx context.Context, cmd *cobra.Command, set settings) (claim *Claim, err error) {
	dir, err := os.MkdirTemp("", "ipcd-claim-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the daemon: %w", err)
	}
	defer os.RemoveAll(dir)
	log := newLogger(os.Stderr, set.LogFormat, set.LogLevel)
	defer log.close()
	d := claimDaemon{local: privateEndpoint(dir, "calls"), options: dialOptions{limits: set.Limits, log: log}}
	echo, err := parseEndpoint(privateEndpoint(dir, "echo").String() + "?proto=" + string(protoEcho))
	if err != nil {
		return nil, err
	}
	if err := d.begin(ctx, dir, echo); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	sides, names, err := d.sides(ctx, echo)
	if err != nil {
		return nil, err
	}
	live := newLiveLine(cmd.ErrOrStderr())
	defer live.clear()
	text := strings.Repeat("x", claimSize)
	for round := range claimRounds {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			if live != nil {
				live.show(fmt.Sprintf("round %d of %d: %s", round+1, claimRounds, s.name))
			}
			load := benchLoad{clients: 1, inflight: 1, time: p.load.time / claimRounds, timeout: set.Timeout, dial: s.dial}
			load.call = func(ctx context.Context, c caller) error {
				var got string
				if err := c.call(ctx, "Echo.Say", text, &got); err != nil || strings.HasSuffix(got, text) { // an HTTP server of the article returns the URL
					return err
				}
				return faultf(codeWrongProtocol, "the answer is %q; expected the text that was sent", shorten(got, 100))
			}
			came, err := load.run(ctx)
			switch {
			case err != nil:
				return nil, fmt.Errorf("%s: %w", s.name, err)
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case came.err != nil:
				return nil, fmt.Errorf("%s: %w", s.name, came.err)
			}
			s.rounds = append(s.rounds, came)
		}
	}
	return claimOf(names, sides), nil
}

// claimOf sums up the rounds. Of each way there are two sides, raw and calls; the second way is TCP.
func claimOf(names []string, sides []*claimSide) *Claim {
	c := &Claim{Size: claimSize}
	of := func(s, tcp *claimSide) (sum ClaimSide) {
		var speeds, halves, ratios []float64
		for i, r := range s.rounds {
			speeds = append(speeds, r.speed())
			halves = append(halves, float64(r.durations.ValueAtQuantile(50))/1e9)
			ratios = append(ratios, r.speed()/tcp.rounds[i].speed())
		}
		return ClaimSide{median(speeds), median(halves), median(ratios)}
	}
	for i, name := range names {
		c.Ways = append(c.Ways, ClaimWay{name, of(sides[2*i], sides[2]), of(sides[2*i+1], sides[3])})
	}
	pipe := c.Ways[0]
	c.Says = fmt.Sprintf("On this machine a %s is %.2f times as fast as TCP for bare texts of %d bytes, and %.2f times for calls; a call costs %.0f %% more time there than a bare text.",
		pipe.Way, pipe.Raw.ToTCP, claimSize, pipe.Calls.ToTCP, 100*(pipe.Raw.PerSec/pipe.Calls.PerSec-1))
	return c
}

func (r *benchRun) speed() float64 { return float64(r.calls) / r.took.Seconds() }

// median returns the value in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// show prints the claim.
func (c *Claim) show(out io.Writer) error {
	if err := table(out, func(t io.Writer) {
		fmt.Fprintln(t, "way\traw/s\tp50\tto TCP\tcalls/s\tp50\tto TCP")
		for _, w := range c.Ways {
			fmt.Fprintf(t, "%s\t%.0f\t%s\t%.2f\t%.0f\t%s\t%.2f\n", w.Way, w.Raw.PerSec, inMicros(&w.Raw.P50), w.Raw.ToTCP, w.Calls.PerSec, inMicros(&w.Calls.P50), w.Calls.ToTCP)
		}
	}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s\n", c.Says)
	return err
}

// A claimDaemon is a daemon that is there for a claim alone.
type claimDaemon struct {
	local   endpoint
	options dialOptions
	program string
	cmd     *exec.Cmd
	ended   chan struct{}
}

// begin starts the daemon. It has a socket or pipe, and ports that are free, for calls, and the same for echoes.
func (d *claimDaemon) begin(ctx context.Context, dir string, echo endpoint) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own program: %w", err)
	}
	args := []string{"run", "--config", os.DevNull, "--log-level", "error", "--idle", claimIdle.String()} // it may lose us
	for _, at := range []string{d.local.String(), echo.String(), "tcp://127.0.0.1:0?auth=none", "tcp://127.0.0.1:0?proto=echo&auth=none",
		"http://127.0.0.1:0?auth=none", "http://127.0.0.1:0?proto=echo&auth=none"} {
		args = append(args, "--listen", at)
	}
	d.program, d.cmd, d.ended = self, exec.Command(self, args...), make(chan struct{})
	d.cmd.Env, d.cmd.Dir, d.cmd.Stderr = childEnviron("JOURNAL_STREAM"), dir, os.Stderr
	detach(d.cmd) // Ctrl-C is ours
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start a daemon: %w", err)
	}
	go func() {
		d.cmd.Wait()
		close(d.ended)
	}()
	return nil
}

// end stops the daemon.
func (d *claimDaemon) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), claimWait)
	defer cancel()
	if c, err := dial(ctx, d.local, d.options); err == nil {
		err = c.call(ctx, "Ipcd.Stop", nil, nil)
		c.close()
		if err == nil {
			select {
			case <-d.ended:
				return nil
			case <-ctx.Done():
			}
		}
	}
	d.cmd.Process.Kill()
	<-d.ended
	return nil
}

// sides connects once, to learn the ports, and returns the sides: raw and calls of each way, TCP being the second.
func (d *claimDaemon) sides(ctx context.Context, echo endpoint) (sides []*claimSide, names []string, err error) {
	c, err := persist(ctx, claimWait, func() (caller, error) {
		select {
		case <-d.ended:
			return nil, errors.New("the daemon for the claim has ended; what it wrote is above")
		default:
			return dial(ctx, d.local, d.options)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	var status Status
	if err := c.call(ctx, "Ipcd.Status", nil, &status); err != nil {
		return nil, nil, err
	}
	at := map[string]endpoint{}
	for _, text := range status.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, nil, err
		}
		at[e.Scheme+string(e.Proto)] = e
	}
	ours := func(e endpoint) func(context.Context) (caller, error) {
		return func(ctx context.Context) (caller, error) { return dial(ctx, e, d.options) }
	}
	fork := func(words ...string) endpoint {
		return endpoint{Scheme: "fork", Command: append([]string{d.program, "child"}, words...)}
	}
	add := func(way string, raw, calls func(context.Context) (caller, error)) {
		names = append(names, way)
		sides = append(sides, &claimSide{name: way + ", raw", dial: raw}, &claimSide{name: way + ", calls", dial: calls})
	}
	add(wayOf(d.local), d.raw(echo, "", ""), ours(d.local))
	add("TCP", d.raw(at["tcp"+string(protoEcho)], "", ""), ours(at["tcp"+string(protoAuto)]))
	add("HTTP", ours(at["http"+string(protoEcho)]), ours(at["http"+string(protoAuto)]))
	quoted := `"` + strings.Repeat("x", claimSize) + `"`
	add("fork channel", d.raw(fork("--quiet", "--reply", quoted), `"`, "\"\n"), ours(fork()))
	return sides, names, nil
}

// wayOf names a local endpoint.
func wayOf(e endpoint) string {
	if e.Scheme == "npipe" {
		return "named pipe"
	}
	return "Unix socket"
}

// raw returns what connects to e and speaks nothing.
func (d *claimDaemon) raw(e endpoint, before, behind string) func(ctx context.Context) (caller, error) {
	return func(ctx context.Context) (caller, error) {
		conn, err := transports[e.Scheme].dial(ctx, e, d.options)
		return &rawCaller{conn, before, behind, nil}, err
	}
}

// A rawCaller sends texts over a connection, which come back as they are.
type rawCaller struct {
	net.Conn
	before, behind string // of a text on the wire
	buf            []byte
}

// call implements caller.
func (c *rawCaller) call(ctx context.Context, name string, arg, result any) error {
	text := arg.(string)
	c.buf = append(append(append(c.buf[:0], c.before...), text...), c.behind...)
	if until, has := ctx.Deadline(); has {
		c.SetDeadline(until)
	}
	if _, err := c.Write(c.buf); err != nil {
		return err
	}
	if _, err := io.ReadFull(c.Conn, c.buf); err != nil {
		return err
	}
	*result.(*string) = string(c.buf[len(c.before) : len(c.buf)-len(c.behind)])
	return nil
}

func (c *rawCaller) askParts(context.Context, string, any, any, func(document) error) error {
	return usagef("a text that comes back has no parts")
}

func (c *rawCaller) close() error { return c.Close() }
