package main

// This file owns the daemon's look at itself: a call such as its clients make, whose answer tells the
// overseer that the daemon lives.

import (
	"context"
	"net"
	"time"
)

// watchItself calls the daemon as often as the overseer expects, until ctx ends, and tells the overseer of each
// answer that came in time. Once none comes any more, the overseer replaces the daemon.
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
				d.log.error("the daemon does not answer itself in time; the service manager is not told that it is well", "error", err, "max", every)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// callItself calls Ipcd.Ping by a connection in memory: through detection, codec, session and router,
// and the locks on the way. It counts neither as a connection, which would keep the daemon from being
// idle, nor as a call.
func (s *server) callItself(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ours, theirs := net.Pipe()
	s.wg.Go(func() {
		defer theirs.Close()
		s.attend(theirs)
	})
	in := newInput(ours, *s.limits())
	c := newClient(endpoint{Scheme: "fork", Proto: protoAuto, Command: []string{"itself"}}, ours, newJSONCodec(in, *s.limits(), framingValue), in, *s.limits())
	defer c.close()
	return c.call(ctx, "Ipcd.Ping", nil, nil)
}
