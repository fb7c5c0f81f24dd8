package main

// This file owns the watchdog: the daemon calls itself as a client would, and an answer in time is what it
// reports to the overseer as a sign of life.

import (
	"context"
	"net"
	"time"
)

// watchItself starts the watchdog, which runs until ctx ends. A daemon that stops answering is replaced by the
// service manager.
func (d *daemon) watchItself(ctx context.Context) {
	every := d.overseer.watchdog()
	if every <= 0 {
		return
	}
	d.server.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			err := d.server.callItself(ctx, every)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil:
				d.overseer.alive()
			default:
				d.log.error("the watchdog call failed; the service manager is not notified", "error", err, "max", every)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// callItself calls Ipcd.Ping over a connection in memory. The call passes through detection, codec, session and
// router, and takes the same locks as any other. It is not counted, neither as a call nor as a
// connection: a connection would keep the daemon from becoming idle.
func (s *server) callItself(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ours, theirs := net.Pipe()
	s.wg.Go(func() {
		defer theirs.Close()
		s.attend(theirs)
	})
	in := newInput(ours, *s.limits())
	c := newClient(endpoint{Scheme: "fork", Proto: protoAuto, Command: []string{"itself"}}, ours, nil, newJSONCodec(in, *s.limits(), framingValue), in, dialOptions{limits: *s.limits()})
	defer c.close()
	return c.call(ctx, "Ipcd.Ping", nil, nil)
}
