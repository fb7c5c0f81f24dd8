package main

// This file owns "ipcd tls": the commands that make certificates, and what they say about their use.

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newTLSCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tls",
		Short: "make certificates for tls:// and https://",
		Long: `Make certificates, for people who have no authority that does: "ipcd tls init" makes a private
one with a certificate for a server and one for a client, "ipcd tls issue" one more. Certificates
from elsewhere do as well: the keys tls.cert, tls.key, tls.client_ca, tls.ca, tls.client_cert and
tls.client_key of the configuration name files in PEM.`,
		Example: `  ipcd tls init --name laptop.example.com
  ipcd tls issue ada`,
	}
	cmd.AddCommand(newTLSInitCmd(), newTLSIssueCmd())
	return cmd
}

// A Making is what "tls init --json" and "tls issue --json" print.
type Making struct {
	Dir   string   `json:"dir"`
	Files []string `json:"files"` // of the certificates, each followed by that of its key
}

// tlsFlags are the flags of both commands.
type tlsFlags struct {
	dir   string
	hosts []string
}

func (f *tlsFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "dir", "", "the `directory` of the files (default: tls, beside the configuration)")
	cmd.Flags().StringArrayVar(&f.hosts, "name", nil, "a `host` that the certificate of the server is for, by name or address (repeatable)")
	cobra.CheckErr(cmd.MarkFlagDirname("dir"))
}

// place returns the directory, and the configuration to which the files belong.
func (f *tlsFlags) place(cmd *cobra.Command) (dir, config string, err error) {
	if config, _, err = configFile(cmd, instance{}); err != nil {
		return "", "", err
	}
	if config == "" {
		f := faultf(codeApplication, "there is no place for a configuration of yours, nor for what belongs to it: $HOME is not set")
		return "", "", f.withHint("set HOME, or name the configuration: ipcd tls init --config ./config.toml")
	}
	if config, err = filepath.Abs(config); err != nil {
		return "", "", fmt.Errorf("find the configuration: %w", err)
	}
	if dir = f.dir; dir == "" {
		if cmd.Flag("dir").Changed {
			return "", "", usagef("--dir: is empty; expected a directory")
		}
		dir = filepath.Join(filepath.Dir(config), "tls")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", fmt.Errorf("find the directory: %w", err)
	}
	if strings.ContainsFunc(dir, isControl) {
		return "", "", usagef("--dir: %q has a control character, which no configuration can have", dir)
	}
	return dir, config, nil
}

func newTLSInitCmd() *cobra.Command {
	var f tlsFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "make a private authority, and a certificate for a server and for a client",
		Long: `Make a private authority, and with it a certificate for this machine as a server and one for a client,
who is then cert:client to the rules of the configuration. Nobody else can read the files, and none is
ever replaced: ca.pem and ca-key.pem, server.pem and server-key.pem, client.pem and client-key.pem.
The certificate of the server is for each --name, or for the name that this machine has itself, and for
localhost, 127.0.0.1 and ::1.

What the configuration of the daemon needs goes to standard output, and what to do next to standard error.
Keys are ECDSA P-256, which every client takes. The authority is valid for ten years, the others for 825 days.
Whoever has ca-key.pem can make more of them: keep it where nobody calls from.

The JSON is {"dir", "files"}, with the names of the files.`,
		Example: `  ipcd tls init
  ipcd tls init --dir ./tls --name laptop.example.com --name 192.0.2.7`,
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return f.init(cmd) },
	}
	f.add(cmd)
	return cmd
}

// init makes everything, or nothing.
func (f *tlsFlags) init(cmd *cobra.Command) (err error) {
	path, config, err := f.place(cmd)
	if err != nil {
		return err
	}
	hosts, err := hostsOf(f.hosts)
	if err != nil {
		return err
	}
	dir, err := openSecretDir(path)
	if err != nil {
		return err
	}
	names := []string{authorityName, "server", "client"}
	if err := dir.refuse(names...); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			dir.takeBack()
		}
	}()
	now := time.Now()
	by, made, err := newAuthority(ownAuthority(), now)
	if err != nil {
		return err
	}
	server, err := by.issue(commonName(hosts[0]), hosts, now)
	if err != nil {
		return err
	}
	client, err := by.issue("client", nil, now)
	if err != nil {
		return err
	}
	for i, pair := range []madePair{made, server, client} {
		if err := dir.add(names[i], pair); err != nil {
			return err
		}
	}
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), making(path, names...))
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "# In the configuration of the daemon, %s:\n", config)
	printServerLines(&text, path, "server", true)
	printRule(&text, "client")
	if _, err := cmd.OutOrStdout().Write(text.Bytes()); err != nil {
		return err
	}
	note := noteTo(cmd)
	note("made in %s: %s", path, strings.Join(making(path, names...).names(), ", "))
	note("whoever has %s can make more of them; no daemon and no client needs it", authorityName+"-key.pem")
	at := "tls://" + net.JoinHostPort(hosts[0], "8443")
	if own, err := defaultEndpoint(); err == nil {
		note("once the lines above are in the configuration, serve other machines, too: ipcd run --listen %s --listen tls://0.0.0.0:8443", joinWords([]string{own.String()}))
	}
	note("copy ca.pem, client.pem and client-key.pem to whoever calls, who calls so: ipcd call -e %s %s hello", at, clientWords(path, "client"))
	return nil
}

func newTLSIssueCmd() *cobra.Command {
	var f tlsFlags
	var server, client bool
	cmd := &cobra.Command{
		Use:   "issue NAME",
		Short: "make one more certificate, for a client or a server",
		Long: `Make one more certificate with the authority that "ipcd tls init" has made: for the client cert:NAME or,
with --server, for the host NAME and each --name. The files are NAME.pem and NAME-key.pem, which nobody else
can read; none is ever replaced.

What the configuration needs goes to standard output: that of the daemon for a client, a [[rule]], and for
a server the names of the files.

The JSON is {"dir", "files"}, with the names of the files.`,
		Example: `  ipcd tls issue ada
  ipcd tls issue --server box.example.com --name 192.0.2.8`,
		Args:              oneArg,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case server && client:
				return usagef("--client and --server are for different certificates; expected one of them")
			case !server && len(f.hosts) > 0:
				return usagef("--name is for the certificate of a server").withHint("add --server, or leave out --name")
			}
			return f.issue(cmd, args[0], server)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&server, "server", false, "it is for a server, and NAME is its host")
	cmd.Flags().BoolVar(&client, "client", false, "it is for a client (the default)")
	return cmd
}

// issue makes one certificate.
func (f *tlsFlags) issue(cmd *cobra.Command, name string, server bool) (err error) {
	path, config, err := f.place(cmd)
	if err != nil {
		return err
	}
	if wrong := checkPairName(name); wrong != nil {
		return usagef("%w", wrong).withHint("%s", wrong.hint)
	}
	var hosts []string
	if server {
		for _, host := range append([]string{name}, f.hosts...) {
			if wrong := checkHost(host); wrong != nil {
				return usagef("%w", wrong).withHint("%s", wrong.hint)
			}
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	by, err := readAuthority(path)
	if err != nil {
		return err
	}
	dir := &secretDir{path: path}
	if err := dir.refuse(name); err != nil {
		return err
	}
	made, err := by.issue(name, hosts, time.Now())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // nobody would know that it is there, or what it is for
			dir.takeBack()
		}
	}()
	if err := dir.add(name, made); err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), making(path, name))
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "# In the configuration of the daemon, %s:\n", config)
	if server {
		printServerLines(&text, path, name, false)
	} else {
		printRule(&text, name)
	}
	if _, err := cmd.OutOrStdout().Write(text.Bytes()); err != nil {
		return err
	}
	note := noteTo(cmd)
	note("made in %s: %s", path, strings.Join(making(path, name).names(), ", "))
	if server {
		return nil
	}
	note("copy ca.pem, %s.pem and %s-key.pem to whoever calls, who calls so: ipcd call -e tls://HOST:8443 %s hello", name, name, clientWords(path, name))
	return nil
}

// making lists the files of pairs.
func making(dir string, names ...string) Making {
	m := Making{Dir: dir}
	for _, name := range names {
		cert, key := pairFiles(dir, name)
		m.Files = append(m.Files, cert, key)
	}
	return m
}

// names lists the files without their directory.
func (m Making) names() (names []string) {
	for _, file := range m.Files {
		names = append(names, filepath.Base(file))
	}
	return names
}

// printServerLines prints what a daemon needs to show a certificate, and to take those of callers.
func printServerLines(w io.Writer, dir, name string, callers bool) {
	cert, key := pairFiles(dir, name)
	fmt.Fprintf(w, "[tls]\ncert = %s\nkey = %s\n", quoteTOML(cert), quoteTOML(key))
	if callers {
		ca, _ := pairFiles(dir, authorityName)
		fmt.Fprintf(w, "client_ca = %s\n", quoteTOML(ca))
	}
}

// printRule prints what lets a client call.
func printRule(w io.Writer, name string) {
	fmt.Fprintf(w, "\n# Whoever has the key of that certificate may call every method, and hear of every event.\n[[rule]]\nallow = [%s]\ncall = [\"*\"]\nsubscribe = [\">\"]\n", quoteTOML("cert:"+name))
}

// clientWords are the words of a command line that show a certificate.
func clientWords(dir, name string) string {
	ca, _ := pairFiles(dir, authorityName)
	cert, key := pairFiles(dir, name)
	return joinWords([]string{"--set", "tls.ca=" + ca, "--set", "tls.client_cert=" + cert, "--set", "tls.client_key=" + key})
}

// noteTo returns what prints a line for people on standard error.
func noteTo(cmd *cobra.Command) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(linesOf(cmd, cmd.ErrOrStderr()), "ipcd: note: %s\n", oneLine(fmt.Sprintf(format, args...)))
	}
}
