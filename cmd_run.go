package main

// This file owns "ipcd run".

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"
)

func newRunCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "serve in the foreground",
		Long: `Serve calls in the foreground until SIGTERM or Ctrl-C, or until the idle time is over.

Without --listen it serves the user's own endpoint, which only this user and ` + masters + ` can call;
--allow-group lets the members of a group call too.
Service managers run it with --service NAME: its endpoint and its configuration are then those of
the service. SIGHUP reloads the configuration, in a terminal, too, if there is a file of it.
The workers of that file, each a [[worker]], are started with it and looked after: docs/services.md.
TCP and HTTP are served on loopback addresses. Everybody on the machine can reach them, so a
caller has to show a token (ipcd token new NAME), unless the endpoint says ?auth=none.

Other machines are served with TLS, with the certificate that tls.cert and tls.key name. They call
with certificates of their own, for which "ipcd tls init" makes an authority, or with tokens.

With --insecure-network TCP and HTTP are served to other machines as well, where they need
?auth=none: nobody proves who they are, and whoever is on the way can read and change what is
said. Each start warns.

On the first signal it accepts no more connections, lets calls in flight finish within the
drain limit, removes its socket and exits with 0, or with 4 if calls had to be cut. A second
signal cuts them at once.`,
		Example: `  ipcd run
  ipcd run --listen unix:///tmp/mine/ipcd.sock
  ipcd run --listen 'tcp://127.0.0.1:8888?auth=none' --listen 'http://127.0.0.1:8080?auth=none'
  ipcd run --listen unix:///tmp/mine/ipcd.sock --listen tls://0.0.0.0:8443
  ipcd run --listen 'unix:///tmp/unix.sock?proto=echo&dir=shared'
  ipcd run --pprof & curl --unix-socket $XDG_RUNTIME_DIR/ipcd/ipcd.sock http://ipcd/debug/pprof/heap >heap`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			who, err := instanceFrom(cmd)
			if err != nil {
				return err
			}
			if check, err := cmd.Flags().GetBool("check"); err != nil || check {
				set, from, err := daemonSettings(cmd)
				if err := gather(err, checkTLS(set, from), tryAudit(set)); err != nil {
					return err
				}
				return printPreview(cmd.OutOrStdout(), set)
			}
			file, _, err := configFile(cmd, who)
			if err != nil {
				return err
			}
			info, err := os.Stat(file)
			rereads := who.name != "" || err == nil && info.Mode().IsRegular()
			return oversee(cmd.Context(), who, rereads, cmd.ErrOrStderr(), func(ctx context.Context, o overseer) error {
				return serveCommand(ctx, cmd, o)
			})
		},
	}
	addSettingFlags(cmd, "listen", "allow_group", "idle")
	addInstanceFlags(cmd)
	cmd.Flags().Bool("check", false, "print what would be served; see tryProgram")
	cobra.CheckErr(cmd.Flags().MarkHidden("check"))
	cmd.Flags().Bool("pprof", false, "serve profiles of the daemon over HTTP at /debug/pprof/, to its own user and at a local endpoint alone")
	cmd.Flags().Bool("insecure-network", false, "serve tcp:// and http:// to other machines, without TLS and without proof")
	for name, usage := range map[string]string{"build": "what started it: see launch", "log-file": "where its standard error goes"} {
		cmd.Flags().String(name, "", usage)
		cobra.CheckErr(cmd.Flags().MarkHidden(name))
	}
	return cmd
}

// serveCommand runs the daemon of "ipcd run".
func serveCommand(ctx context.Context, cmd *cobra.Command, o overseer) error {
	load := func() (settings, error) {
		set, from, err := daemonSettings(cmd)
		return set, gather(err, checkTLS(set, from))
	}
	profiles, err := cmd.Flags().GetBool("pprof")
	if err != nil {
		return err
	}
	if profiles {
		runtime.MemProfileRate = profileEvery
	}
	layHeapFloor()
	l := life{pprof: profiles, build: cmd.Flag("build").Value.String(), log: cmd.Flag("log-file").Value.String(), program: programPath()}
	for before, failed := (*succession)(nil), error(nil); ; {
		router, err := newBuiltins()
		if err != nil {
			return err
		}
		err = (&daemon{overseer: o, load: load, router: router, life: l, before: before, failed: failed}).run(ctx)
		if !errors.As(err, &before) {
			return err
		}
		if failed = before.begin(o); failed == errAsked {
			return nil
		}
	}
}

// daemonSettings merges the settings of a daemon, as settingsFrom does, and refuses those with which none can run.
func daemonSettings(cmd *cobra.Command) (settings, origins, error) {
	set, from, err := settingsFrom(cmd)
	if f := cmd.Flag("insecure-network"); f != nil {
		set.insecure = f.Value.String() == "true"
	}
	_, unservable := servable(set, from)
	set.takeCredentials()
	return set, from, gather(err, set.resolve(from), checkServicePaths(cmd, set.instance), unservable, checkInstalled(set))
}

// checkInstalled refuses workers that the service could not run as it is installed.
func checkInstalled(set settings) error {
	if set.instance.name == "" || len(set.Workers) == 0 {
		return nil
	}
	sup, err := findSupervisor(set.instance.user)
	if err != nil {
		return nil // then nothing is installed that could keep anything from them
	}
	return checkSandbox(sup, &deployment{instance: set.instance}, set)
}

// checkServicePaths refuses relative paths in a service, whose manager chooses the working directory.
func checkServicePaths(cmd *cobra.Command, who instance) error {
	f := cmd.Flag("config")
	if who.name == "" || f == nil || !f.Changed || filepath.IsAbs(f.Value.String()) {
		return nil
	}
	return usagef("--config: %q is not an absolute path, which a service needs: its manager chooses the working directory", f.Value.String()).
		withHint("give the whole path")
}
