//go:build unix

package main

// This file owns the promise of the README: whatever it shows is run here, from its own text.

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readmeSection is the text between a heading of the README and the next of its level.
func readmeSection(t testing.TB, heading string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

// codeBlocks are the fenced blocks of one language.
func codeBlocks(t testing.TB, text, language string) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("README.md has no block of %s there", language)
	}
	return blocks
}

// writeProgram puts a program into a directory of its own.
func writeProgram(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadmeClients(t *testing.T) {
	section := readmeSection(t, "Call it from anything")
	s := startServer(t, localEndpoint(t).String())
	socket := s.endpoints[0].Path
	shell := codeBlocks(t, section, "sh")
	if len(shell) != 2 {
		t.Fatalf("README.md has %d blocks of sh there; want those of curl and of ipcd", len(shell))
	}
	tests := []struct {
		name, want string
		run        func(t *testing.T) *exec.Cmd
	}{
		{"Go", "hello from Go\n", func(t *testing.T) *exec.Cmd {
			program := "package main\n\nimport (\n\t\"fmt\"\n\t\"log\"\n\t\"net/rpc\"\n\t\"os\"\n)\n\nfunc main() {\n" +
				codeBlocks(t, section, "go")[0] + "if err != nil {\n\tlog.Fatal(err)\n}\nfmt.Println(answer)\n}\n"
			return exec.Command(needTool(t, "go"), "run", writeProgram(t, "client.go", program), socket)
		}},
		{"Node", "hello from Node\n", func(t *testing.T) *exec.Cmd {
			return exec.Command(needTool(t, "node"), writeProgram(t, "client.js", codeBlocks(t, section, "js")[0]), socket)
		}},
		{"Python", "hello from Python\n", func(t *testing.T) *exec.Cmd {
			return exec.Command(needTool(t, "python3"), writeProgram(t, "client.py", codeBlocks(t, section, "python")[0]), socket)
		}},
		{"curl", "\"hello from curl\"\n", func(t *testing.T) *exec.Cmd {
			needTool(t, "curl")
			cmd := exec.Command("sh", "-c", shell[0])
			cmd.Env = append(os.Environ(), "SOCK="+socket)
			return cmd
		}},
		{"shell", "hello from a shell\n", func(t *testing.T) *exec.Cmd {
			cmd := exec.Command("sh", "-c", shell[1])
			cmd.Env = append(os.Environ(), "IPCD_ENDPOINT="+s.endpoints[0].String())
			return cmd
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := printed(t, test.run(t)); got != test.want {
				t.Errorf("it printed %q; want %q", got, test.want)
			}
		})
	}
}

// TestReadmeClientsSurvive has the programs that people paste call with what does not come in one piece, and with what fails.
func TestReadmeClientsSurvive(t *testing.T) {
	section := readmeSection(t, "Call it from anything")
	s := startServer(t, localEndpoint(t).String())
	for _, test := range []struct{ tool, file, language, text, long string }{
		{"node", "client.js", "js", "'hello from Node'", "'ä'.repeat(100000)"},
		{"python3", "client.py", "python", `"hello from Python"`, `"ä" * 100000`},
	} {
		tool := needTool(t, test.tool)
		program := codeBlocks(t, section, test.language)[0]
		run := func(old, new string) *exec.Cmd {
			changed := strings.Replace(program, old, new, 1)
			if changed == program {
				t.Fatalf("the program in %s has no %s", test.language, old)
			}
			cmd := exec.Command(tool, writeProgram(t, test.file, changed), s.endpoints[0].Path)
			cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
			return cmd
		}
		if got, want := printed(t, run(test.text, test.long)), strings.Repeat("ä", 100000)+"\n"; got != want {
			t.Errorf("in %s a long text comes back as %d bytes %.40q; want %d", test.language, len(got), got, len(want))
		}
		out, err := run("Echo.Say", "Echo.Sai").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "there is no method Echo.Sai (code -32601)") {
			t.Errorf("in %s a call that fails ends with %v and %s", test.language, err, out)
		}
	}
}

// TestReadmeTranscript types what the transcript at the top types, with the program that is there
// already in place of the one that it builds, and wants what it shows.
func TestReadmeTranscript(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(tempSocket(t))
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir, "IPCD_IDLE=1m")
	run := func(line string) string {
		cmd := exec.Command("sh", "-c", line)
		cmd.Env = env
		return printed(t, cmd)
	}
	want := codeBlocks(t, string(text), "console")[0]
	stand := strings.NewReplacer("go run . ", "ipcd ", "CGO_ENABLED=0 go build -o ipcd . && ", "", "./ipcd", "ipcd")
	var got strings.Builder
	for line := range strings.Lines(want) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		got.WriteString(line)
		got.WriteString(run(stand.Replace(command)))
	}
	var status Status
	if err := json.Unmarshal([]byte(run("ipcd status --json")), &status); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(status.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(stopSignals[0]); err != nil {
		t.Error(err)
	}
	p.Release() // a descriptor, on Linux
	// A fork lists its own methods, too, and its columns are as wide as their names.
	ours := func(text string) string {
		var b strings.Builder
		for line := range strings.Lines(regexp.MustCompile(` {2,}`).ReplaceAllString(text, "  ")) {
			name, _, _ := strings.Cut(line, " ")
			if service, _, ok := strings.Cut(name, "."); !ok || service == "Echo" || service == ownService {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	if ours(got.String()) != ours(want) {
		t.Errorf("the transcript is now\n%s\nand README.md has\n%s", &got, want)
	}
	waitFor(t, func() error { // the daemon is no child of ours
		if _, err := os.Stat(filepath.Join(dir, "ipcd", "ipcd.sock")); err == nil {
			return errors.New("the daemon that --start started is still there")
		}
		return nil
	})
}

// TestReadmeWorkers runs the worker that the README writes, and types the transcript of the others.
func TestReadmeWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts five interpreters, and builds a program")
	}
	for _, tool := range []string{"node", "python3", "perl", "go", "curl"} {
		needTool(t, tool)
	}
	section := readmeSection(t, "Workers")
	dir := filepath.Dir(tempSocket(t))
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir, "IPCD_TIMEOUT=5m", "SOCK="+filepath.Join(dir, "ipcd", "ipcd.sock"))
	shell := func(line string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", line)
		cmd.Env = env
		return cmd
	}
	daemon := func(line string) (stop func()) {
		cmd := shell("exec " + line)
		startExample(t, cmd)
		return func() { printed(t, shell("ipcd stop")); must(t, cmd.Wait()) }
	}

	file := filepath.Join(filepath.Dir(writeProgram(t, "hello.js", codeBlocks(t, section, "js")[0])), "config.toml")
	must(t, os.WriteFile(file, []byte(codeBlocks(t, section, "toml")[0]), 0o600))
	stop := daemon("ipcd run --config " + file)
	if got := printed(t, shell("ipcd call --wait 20s Hello.To name=Ada")); got != "hello, Ada\n" {
		t.Errorf("the worker says %q", got)
	}
	for call, want := range map[string]string{"Hello.To --arg null": "code\":7", "Hello.Who": "code\":-32601"} {
		if out, err := shell("ipcd call --json " + call).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: the worker says %s; want %s", call, out, want)
		}
	}
	stop()

	// Of a row of the table, the name and the state are always the same.
	row := regexp.MustCompile(`(?m)^([a-z-]+) +[\d,]+ .*?[\ds-] +([a-z].*)$`)
	want := codeBlocks(t, section, "console")[0]
	var got strings.Builder
	for line := range strings.Lines(want) {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		got.WriteString(line)
		if command, ok := strings.CutSuffix(command, " &\n"); ok {
			stop = daemon(command)
			continue
		}
		if strings.HasPrefix(command, "ipcd worker ls") {
			printed(t, shell("ipcd worker start greeter-py")) // which waits for both of its processes
		}
		got.WriteString(printed(t, shell(command)))
		if !strings.HasSuffix(got.String(), "\n") { // an answer of HTTP
			got.WriteString("\n")
		}
	}
	stop()
	plain := func(text string) string {
		return regexp.MustCompile(` {2,}`).ReplaceAllString(row.ReplaceAllString(text, "$1 $2"), "  ")
	}
	if plain(got.String()) != plain(want) {
		t.Errorf("the transcript is now\n%s\nand README.md has\n%s", &got, want)
	}
}

// TestReadmeParts types the transcripts of parts and of events, on files of its own.
func TestReadmeParts(t *testing.T) {
	needTool(t, "node")
	blocks := codeBlocks(t, readmeSection(t, "Answers in parts, and events"), "console")
	dir, etc := filepath.Dir(tempSocket(t)), t.TempDir()
	must(t, os.WriteFile(filepath.Join(etc, "a"), nil, 0o600))
	env := append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	shell := func(line string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "dir=/etc", "dir="+etc))
		cmd.Env = env
		return cmd
	}
	plain := regexp.MustCompile(`"[^"]*"[,}]|\d+|k[a-z0-9]{8}-|unix:\S+`)
	for _, want := range blocks {
		var got strings.Builder
		var background *bufio.Reader
		for line := range strings.Lines(want) {
			command, ok := strings.CutPrefix(line, "$ ")
			if !ok {
				continue
			}
			got.WriteString(line)
			inBackground, ok := strings.CutSuffix(command, " &\n")
			switch {
			case !ok:
				got.WriteString(printed(t, shell(command)))
			case strings.HasPrefix(command, "ipcd run "):
				startExample(t, shell("exec "+inBackground))
			default:
				cmd := shell("exec " + inBackground + " 2>&1")
				out, err := cmd.StdoutPipe()
				must(t, err)
				must(t, cmd.Start())
				defer cmd.Wait()
				background = bufio.NewReader(out)
				line, err := background.ReadString('\n')
				must(t, err)
				got.WriteString(line)
			}
		}
		if background != nil {
			rest, err := io.ReadAll(background)
			must(t, err)
			got.Write(rest)
		}
		if plain.ReplaceAllString(got.String(), "x") != plain.ReplaceAllString(want, "x") {
			t.Errorf("the transcript is now\n%s\nand README.md has\n%s", &got, want)
		}
	}
	printed(t, shell("ipcd stop"))
}

// TestReadmeNames wants every command, endpoint and limit that the README names to be there.
func TestReadmeNames(t *testing.T) {
	root := newRootCmd(nil)
	root.InitDefaultCompletionCmd()
	commands := codeBlocks(t, readmeSection(t, "Commands"), "")[0]
	var named []string
	for line := range strings.Lines(commands) {
		line, _, _ = strings.Cut(strings.TrimPrefix(line, "ipcd "), "  ")
		for name := range strings.SplitSeq(line, ", ") {
			named = append(named, strings.Fields(name)[0])
		}
	}
	for _, cmd := range root.Commands() {
		if cmd.Name() != "help" && !slices.Contains(named, cmd.Name()) {
			t.Errorf("README.md does not name the command %s", cmd.Name())
		}
	}
	for _, name := range named {
		if cmd, _, err := root.Find([]string{name}); err == nil && cmd != root {
			continue
		}
		if !slices.ContainsFunc([]string{"config", "access", "tls"}, func(above string) bool {
			cmd, _, err := root.Find([]string{above, name})
			return err == nil && cmd.Name() == name
		}) {
			t.Errorf("README.md names the command %s, which is not there", name)
		}
	}
	endpoints := regexp.MustCompile("`((?:unix|npipe|tcp|tls|https?|fork):[^`]+)`").FindAllStringSubmatch(readmeSection(t, "Endpoints"), -1)
	if len(endpoints) < 5 {
		t.Errorf("README.md names %d endpoints; want one of each scheme", len(endpoints))
	}
	for _, m := range endpoints {
		if _, err := parseEndpoint(m[1]); err != nil {
			t.Errorf("README.md names the endpoint %s: %v", m[1], err)
		}
	}
	options := regexp.MustCompile("(?m)^\\| `\\?(proto=[^|]+|dir=[^|]+)\\|").FindAllStringSubmatch(readmeSection(t, "Endpoints"), -1)
	if len(options) != 2 {
		t.Errorf("README.md explains %d options of an endpoint; want proto and dir", len(options))
	}
	for _, m := range options {
		name, values, _ := strings.Cut(strings.ReplaceAll(m[1], "`", ""), "=")
		for value := range strings.SplitSeq(values, ",") {
			e := "unix:///run/x?" + name + "=" + strings.TrimSpace(value)
			if _, err := parseEndpoint(e); err != nil {
				t.Errorf("README.md names %s: %v", e, err)
			}
		}
	}
}

// TestReadmeWays wants the endpoints of the table of four ways to be served and called as it says.
func TestReadmeWays(t *testing.T) {
	section := readmeSection(t, "Four ways for two Node.js processes to talk")
	served := regexp.MustCompile(`--listen '([^']+)'`).FindAllStringSubmatch(section, -1)
	called := regexp.MustCompile(`call -e '([^']+proto=echo)' (\w+)`).FindAllStringSubmatch(section, -1)
	if len(served) != 3 || len(called) != 3 {
		t.Fatalf("README.md serves %d and calls %d of the ways; want 3 and 3", len(served), len(called))
	}
	for i := range served {
		// The port and the path of the table may be in use here.
		elsewhere := strings.NewReplacer(":8888", ":0", "/tmp/unix.sock", tempSocket(t))
		s := startServer(t, elsewhere.Replace(served[i][1]))
		e := mustParse(t, called[i][1])
		e = e.withHost(s.endpoints[0].Host).withPath(s.endpoints[0].Path)
		want := called[i][2] + "\n"
		if e.isHTTP() {
			want = "/" + want
		}
		if got := printed(t, exec.Command("ipcd", "call", "-e", e.String(), called[i][2])); got != want {
			t.Errorf("%s printed %q; want %q", called[i][0], got, want)
		}
	}
}

// TestReadmeForks runs what the README shows of the channel that Node's fork makes.
func TestReadmeForks(t *testing.T) {
	node := needTool(t, "node")
	section := readmeSection(t, "Four ways for two Node.js processes to talk")
	find := func(pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(section)
		if m == nil {
			t.Fatalf("README.md has nothing like %s there", pattern)
		}
		return m[1]
	}
	parent := "const { fork } = require('child_process')\nconst child = " + find("`(fork\\([^`]+\\))` in Node") + `
child.on('message', ({ result }) => { console.log(result); child.disconnect() })
child.send({ jsonrpc: '2.0', id: 1, method: 'Echo.Say', params: ['hello'] })`
	if got := printed(t, exec.Command(node, "-e", parent)); got != "hello\n" {
		t.Errorf("a Node parent of ipcd printed %q; want hello", got)
	}
	if got := printed(t, exec.Command("sh", "-c", find("`(ipcd call -e 'fork:[^`]+)`"))); got != "hello, Ada\n" {
		t.Errorf("a Node child as a service printed %q; want hello, Ada", got)
	}

	cmd := exec.Command("sh", "-c", "exec "+find("`(ipcd fork [^`]+)`"))
	cmd.Dir = "examples"
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got []string
	lines := bufio.NewScanner(out)
	for len(got) < 2 && lines.Scan() { // both write, in any order
		got = append(got, lines.Text())
	}
	cmd.Process.Signal(stopSignals[0])
	err = cmd.Wait()
	slices.Sort(got)
	if want := []string{`child got {"hello":"child"}`, `message {"hello":"parent"}`}; !slices.Equal(got, want) || err != nil {
		t.Errorf("ipcd as the parent printed %q and ended with %v; want %q and nil", got, err, want)
	}
}

// TestReadmeExample wants the type that the README says to copy to be the one that is there.
func TestReadmeExample(t *testing.T) {
	example := codeBlocks(t, readmeSection(t, "Say something of your own"), "go")[0]
	source, err := os.ReadFile("rpc_services.go")
	if err != nil {
		t.Fatal(err)
	}
	bare := regexp.MustCompile(`(?m)^//.*\n`).ReplaceAllString(string(source), "")
	if !strings.Contains(bare, example) {
		t.Errorf("rpc_services.go does not have\n%s", example)
	}
}
