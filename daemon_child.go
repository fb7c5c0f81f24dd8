package main

// This file owns the daemon behind "ipcd child". Its only caller is the parent that forked it.

import (
	"context"
	"fmt"
)

// serveChannel serves the parent's calls until the parent disconnects or ctx ends. Calls of methods that are not built in
// go to the daemon that reach connects to.
func serveChannel(ctx context.Context, set settings, log *logger, ch *channel, reach func(ctx context.Context) (caller, error)) error {
	router, err := newBuiltins()
	if err != nil {
		return err
	}
	srv, err := newDaemonServer(router, set, log, nil)
	if err != nil {
		return err
	}
	up := newUplink(router, reach)
	defer up.close()
	srv.finder = up
	p, err := identifyChannel(ch)
	if err != nil {
		return err
	}
	done := srv.adopt(ch, p)
	select {
	case <-done:
	case <-ctx.Done():
	}
	if err := srv.stop(context.Background()); err != nil {
		return fmt.Errorf("calls were cut: %w", err)
	}
	return nil
}
