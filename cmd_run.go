package main

// This file owns "ipcd run".

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newRunCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "serve in the foreground",
		Long: `Serve calls in the foreground until SIGTERM, Ctrl-C or the end of the idle time.

Without --listen it serves the user's own endpoint, which only this user and ` + masters + ` can call, and with
--allow-group the members of that group too.
With --service NAME, which is how a service manager runs it, that is the endpoint of the service
of this name, its configuration is that service's, and SIGHUP has it read again.
TCP and HTTP are served on loopback addresses alone, and only where the endpoint says
?auth=none, because everybody on the machine can reach them.

On the first signal it takes no more connections, lets the calls in flight finish within the
drain limit, removes its socket and exits 0; it exits 4 if calls had to be cut. A second
signal cuts them at once.`,
		Example: `  ipcd run
  ipcd run --listen unix:///tmp/mine/ipcd.sock
  ipcd run --listen 'tcp://127.0.0.1:8888?auth=none' --listen 'http://127.0.0.1:8080?auth=none'
  ipcd run --listen 'unix:///tmp/unix.sock?proto=echo&dir=shared'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			who, err := instanceFrom(cmd)
			if err != nil {
				return err
			}
			return oversee(cmd.Context(), who, cmd.ErrOrStderr(), func(ctx context.Context, o overseer) error {
				return serveCommand(ctx, cmd, o)
			})
		},
	}
	addSettingFlags(cmd, "listen", "allow_group", "idle")
	addInstanceFlags(cmd)
	return cmd
}

// serveCommand is "ipcd run", once it is known who oversees it.
func serveCommand(ctx context.Context, cmd *cobra.Command, o overseer) error {
	load := func() (settings, error) {
		set, from, err := settingsFrom(cmd)
		if err == nil {
			err = set.resolve(from)
		}
		if err == nil {
			err = checkServicePaths(cmd, set.instance)
		}
		return set, err
	}
	router, err := newBuiltins()
	if err != nil {
		return err
	}
	return (&daemon{overseer: o, load: load, router: router}).run(ctx)
}

// checkServicePaths: a service begins in a directory that its manager chooses.
func checkServicePaths(cmd *cobra.Command, who instance) error {
	f := cmd.Flag("config")
	if who.name == "" || f == nil || !f.Changed || filepath.IsAbs(f.Value.String()) {
		return nil
	}
	return usagef("--config: %q is no absolute path, and a service has no directory from which it could be looked for", f.Value.String()).
		withHint("name the file from the root on")
}
