package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func init() {
	testPrograms["hand"] = hand
	testPrograms["clumsy"] = clumsy
}

// hand is a worker of the tests. Its arguments are the methods that it registers; without any it registers none.
func hand() {
	conn, err := handChannel()
	if err != nil {
		complain(os.Stderr, err)
		os.Exit(exitFailed)
	}
	h := &Hand{}
	r := newRouter()
	if err := addReceiver(r, h, nil); err != nil {
		panic(err)
	}
	h.session = newJSONSession(conn, r, "hand")
	h.session.ended = func(error) { h.session.cut(nil) }
	over := make(chan error, 1)
	go func() { over <- h.session.serve() }()
	if len(os.Args) > 1 {
		argument := map[string]any{"extensions": []string{"timeout", "parts"}}
		if err := json.Unmarshal([]byte(os.Args[1]), &argument); err != nil {
			panic(err)
		}
		var got Registered
		if err := h.session.ask(context.Background(), "Ipcd.Register", argument, &got, nil); err != nil {
			fmt.Println("refused:", err)
		}
	}
	<-over
}

// A Hand is what such a worker does.
type Hand struct{ session *session }

func (h *Hand) Echo(ctx context.Context, arg json.RawMessage) (document, error) {
	return document(arg), nil
}
func (h *Hand) Pid(ctx context.Context) (int, error)          { return os.Getpid(), nil }
func (h *Hand) Environ(ctx context.Context) ([]string, error) { return os.Environ(), nil }

func (h *Hand) Dir(ctx context.Context) (string, error) { return os.Getwd() }

func (h *Hand) Die(ctx context.Context, code int) (bool, error) {
	os.Exit(code)
	return false, nil
}

// Once dies if the file is not there yet, which it makes: in the middle of its answer, to callers that want parts.
func (h *Hand) Once(ctx context.Context, file string, part func(string) error) (int, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		f.Close()
		part("first")
		h.session.ask(ctx, "Ipcd.Ping", nil, nil, nil) // its answer comes once the part has
		os.Exit(1)
	}
	return os.Getpid(), nil
}

func (h *Hand) Print(ctx context.Context, text string) (bool, error) {
	fmt.Println(text)
	fmt.Fprintln(os.Stderr, text+" on stderr")
	return true, nil
}

// Block says when it begins and how it ends.
func (h *Hand) Block(ctx context.Context, file string) (bool, error) {
	fmt.Println("blocked")
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for ctx.Err() == nil {
		if _, err := os.Stat(file); err == nil {
			return true, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
		}
	}
	fmt.Println("left:", ctx.Err())
	return false, ctx.Err()
}

// Ask asks the daemon.
func (h *Hand) Ask(ctx context.Context, q struct {
	Method string          `json:"method"`
	Arg    json.RawMessage `json:"arg"`
}) (answer document, err error) {
	err = h.session.ask(ctx, q.Method, document(q.Arg), &answer, nil)
	return answer, err
}

// clumsy is a worker that does its first argument: what workers had better not do.
func clumsy() {
	say := func(conn net.Conn, lines ...string) {
		for _, l := range lines {
			fmt.Fprintln(conn, l)
		}
	}
	conn, err := handChannel()
	if err != nil {
		os.Exit(exitFailed)
	}
	const offer = `{"jsonrpc":"2.0","method":"Ipcd.Register","params":[{"methods":["Clumsy.Do","Clumsy.Well"]}]}`
	switch os.Args[1] {
	case "early":
		os.Exit(7)
	case "heir": // has a child that does not leave with it
		heir := exec.Command("be-heir")
		if err := heir.Start(); err != nil {
			complain(os.Stderr, err)
		}
		say(conn, offer)
	case "once": // at a second time it ends at once
		if os.Mkdir("there", 0o700) != nil {
			os.Exit(7)
		}
		say(conn, offer)
	case "scorned": // ends once it has been answered
		say(conn, strings.Replace(offer, `"method"`, `"id":1,"method"`, 1))
		bufio.NewReader(conn).ReadString('\n')
		os.Exit(7)
	case "late": // is ready once the file is there
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for range look.C {
			if _, err := os.Stat(os.Args[2]); err == nil {
				break
			}
		}
		say(conn, offer)
	case "pour":
		say(conn, strings.Replace(offer, `"methods"`, `"extensions":["parts"],"methods"`, 1))
	case "mute":
	default:
		say(conn, offer)
	}
	if os.Args[1] == "deaf" {
		select {}
	}
	in := json.NewDecoder(conn)
	for {
		var m struct {
			ID, Parts json.Number
			Method    string
		}
		if in.Decode(&m) != nil {
			return
		}
		answer := `{"jsonrpc":"2.0","id":` + m.ID.String() + `,"result":"well"}`
		if m.Method == "Clumsy.Well" {
			say(conn, answer)
		}
		if m.Method != "Clumsy.Do" {
			continue
		}
		switch os.Args[1] {
		case "garbage":
			say(conn, "Starting up...", "{", `]"`, answer)
		case "twice":
			say(conn, answer, answer, answer)
		case "unasked":
			say(conn, `{"jsonrpc":"2.0","id":99999,"result":1}`, `{"jsonrpc":"2.0","id":"x","result":1}`, answer)
		case "flood":
			for range 3_000 {
				say(conn, `{"jsonrpc":"2.0","method":"Nobody.Cares","params":["x"]}`)
			}
			say(conn, answer)
		case "pour": // and waits for no credit
			for range 10_000 {
				say(conn, `{"jsonrpc":"2.0","method":"$/progress","params":{"token":`+m.Parts.String()+`,"value":"`+strings.Repeat("x", 1000)+`"}}`)
			}
			say(conn, answer)
		case "both":
			say(conn, `{"jsonrpc":"2.0","id":`+m.ID.String()+`,"result":1,"error":{"code":1,"message":"x"}}`)
		case "neither":
			say(conn, `{"jsonrpc":"2.0","id":`+m.ID.String()+`}`)
		case "close":
			conn.Close()
			select {}
		case "exit":
			os.Exit(0)
		case "leave": // behind an heir outside of its group, which keeps the channel until the daemon closes that
			heir := exec.Command("probe", "cat")
			detach(heir)
			if c, ok := conn.(interface{ File() (*os.File, error) }); ok {
				heir.Stdin, _ = c.File()
			}
			complain(os.Stderr, heir.Start())
			os.Exit(0)
		case "stuck": // reads nothing any more
			<-time.After(testPatience)
		case "held": // until it is let go of at HELD_AT
			if hand, err := net.Dial("tcp", os.Getenv("HELD_AT")); err == nil {
				io.Copy(io.Discard, hand)
			}
			say(conn, answer)
		}
	}
}

// hire starts a server with the workers of a configuration, which may name $DIR, a directory of the test.
func hire(t *testing.T, config string) (s *testServer, dir string) {
	t.Helper()
	dir = t.TempDir()
	s = startServer(t, localEndpoint(t).String())
	s.force.employ(workersOf(t, dir, config))
	return s, dir
}

func workersOf(t *testing.T, dir, config string) []workerSettings {
	t.Helper()
	file := filepath.Join(dir, "config.toml")
	config = strings.ReplaceAll(config, "$DIR", filepath.ToSlash(dir))
	must(t, os.WriteFile(file, []byte(config), 0o600))
	set, _, err := loadSettings(file, true, noEnv, nil)
	must(t, err)
	return set.Workers
}

// Whoever subscribes to a worker hears each state that it comes into.
func TestWorkersTellTheirStates(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	dir := workplace(t, s)
	states := map[string]net.Conn{}
	for _, name := range []string{"hand", "early", "absent"} {
		states[name] = subscribeOver(t, s.endpoints[0], `{"topics":["ipcd.worker.`+name+`.*"]}`)
	}
	next := func(worker string, want ...string) {
		t.Helper()
		for _, want := range want {
			state, more, _ := strings.Cut(want, ",")
			want = regexp.QuoteMeta(`ipcd.worker.`+worker+`.`+state+` {"worker":"`+worker+`","state":"`+state+`",`) + more + `"restarts":\d+}$`
			if got := readEvent(t, states[worker]); !regexp.MustCompile("^" + want).MatchString(got) {
				t.Errorf("there comes %s; want %s", got, want)
			}
		}
	}
	s.force.employ(workersOf(t, dir, oneHand+`lazy = true
[[worker]]
name = "early"
command = ["clumsy", "early"]
services = ["Clumsy"]
restart = "never"
[[worker]]
name = "absent"
command = ["clumsy-is-not-there"]
`))
	next("hand", "waiting")
	answered[int](t, s, "Hand.Pid", nil)
	next("hand", "starting", "running")
	answered[WorkerStatus](t, s, "Ipcd.WorkerStop", "hand")
	next("hand", "stopping", "stopped")
	answered[WorkerStatus](t, s, "Ipcd.WorkerStart", "hand")
	next("hand", "starting", "running")
	next("early", "starting", `ended,"why":"it ended with exit code 7.*",`)
	next("absent", `parked,"why":".+",`)
}

// handMethods is the argument of a hand that offers all that it has.
const handMethods = `'{"methods":["Hand.Echo","Hand.Pid","Hand.Environ","Hand.Dir","Hand.Die",{"method":"Hand.Once","idempotent":true},"Hand.Print","Hand.Block","Hand.Ask"]}'`

const oneHand = `
[[worker]]
name = "hand"
command = ["hand", ` + handMethods + `]
services = ["Hand"]
`

// asked calls a method over a connection of its own.
func asked[R any](t *testing.T, s *testServer, method string, arg any) (result R, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	c, err := connect(ctx, s.endpoints[0], defaultLimits(), 0)
	must(t, err)
	defer c.close()
	err = c.call(ctx, method, arg, &result)
	return result, err
}

// answered is asked where that has to succeed.
func answered[R any](t *testing.T, s *testServer, method string, arg any) R {
	t.Helper()
	result, err := asked[R](t, s, method, arg)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return result
}

// workerStatus returns the status of a worker.
func workerStatus(t *testing.T, s *testServer, name string) WorkerStatus {
	t.Helper()
	w, f := s.force.find(name)
	if f != nil {
		t.Fatal(f)
	}
	return w.status()
}

// waitPrinted waits until a worker has printed a line.
func waitPrinted(t *testing.T, s *testServer, name, text string) {
	t.Helper()
	w, f := s.force.find(name)
	if f != nil {
		t.Fatal(f)
	}
	waitFor(t, func() error {
		lines, _, _ := w.said.since(0)
		if !slices.ContainsFunc(lines, func(l WorkerLine) bool { return l.Text == text }) {
			return fmt.Errorf("the worker has printed %v; want %q", lines, text)
		}
		return nil
	})
}

func TestWorkerAnswers(t *testing.T) {
	t.Setenv("SECRET", "of the daemon")
	t.Setenv("SHARED", "with workers")
	s, dir := hire(t, oneHand+"environment = [\"SHARED\", \"EXTRA=a=b\"]\nmax_calls = 4\nmax_message = \"4KiB\"\n")
	const exact = `{"b":1e400,"a":0.10,"c":18446744073709551615,"d":"\u0041"}`
	if got := answered[document](t, s, "Hand.Echo", document(exact)); string(got) != exact {
		t.Errorf("%s comes back as %s", exact, got)
	}
	real, err := filepath.EvalSymlinks(dir)
	must(t, err)
	if got := answered[string](t, s, "Hand.Dir", nil); got != real && got != dir {
		t.Errorf("it runs in %s; want %s", got, dir)
	}
	env := answered[[]string](t, s, "Hand.Environ", nil)
	for entry, want := range map[string]bool{"SHARED=with workers": true, "EXTRA=a=b": true, "IPCD_WORKER=hand": true, "IPCD_INSTANCE=1": true, "SECRET=of the daemon": false} {
		if slices.Contains(env, entry) != want {
			t.Errorf("%q is in the environment of the worker: %v; want %v", entry, !want, want)
		}
	}
	_, err = asked[document](t, s, "Hand.Echo", document(`"`+strings.Repeat("a", 5<<10)+`"`))
	checkCode(t, "too long an answer", err, codeApplication, "max_message = 4096")
	who := answered[peer](t, s, "Hand.Ask", map[string]any{"method": "Ipcd.Whoami"})
	if who.Name != "worker:hand" || who.Transport != "fork" || !who.Known {
		t.Errorf("the daemon knows the worker as %+v", who)
	}
	answered[bool](t, s, "Hand.Print", "something")
	waitPrinted(t, s, "hand", "something")
	waitPrinted(t, s, "hand", "something on stderr")
	waitFor(t, func() error {
		if text := s.log.String(); !strings.Contains(text, "something on stderr") {
			return errors.New("the daemon has not logged it")
		}
		return nil
	})
	if got := workerStatus(t, s, "hand"); got.State != "running" || got.Calls < 5 || got.Errors != 1 || len(got.Processes) != 1 || got.Processes[0].State != "ready" || usageOf != nil && got.Processes[0].Memory == 0 {
		t.Errorf("its status is %+v", got)
	}
	for _, row := range []struct{ question, want string }{
		{`{"method":"Hand.Nothing"}`, "there is no method Hand.Nothing"},
		{`{"method":"Ipcd.Stop"}`, "access denied: the worker hand may not control the daemon"},
		{`{"method":"Ipcd.Restart"}`, "access denied: the worker hand may not control the daemon"},
		{`{"method":"Ipcd.WorkerStop","arg":"hand"}`, "access denied: the worker hand may not control the daemon"},
	} {
		if _, err := asked[document](t, s, "Hand.Ask", document(row.question)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("the worker calls %s: %v; want %s", row.question, err, row.want)
		}
	}
}

// What a worker is asked and answers has to fit its schemas, the call for which it is started too.
func TestWorkerIsChecked(t *testing.T) {
	s, _ := hire(t, `
[[worker]]
name = "hand"
command = ["hand", '{"methods":[{"method":"Hand.Echo","argument":{"items":{"type":["integer","string"]}},"result":{"items":{"type":"integer"}}}]}']
services = ["Hand"]
check = true
lazy = true

[[worker]]
name = "round"
command = ["hand", '{"methods":[{"method":"Round.Echo","result":{"$ref":"#"}}]}']
services = ["Round"]
check = true
start_timeout = "1h"
`)
	for range 2 {
		_, err := asked[document](t, s, "Hand.Echo", document(`[1,true]`))
		checkCode(t, "a wrong argument", err, codeBadArgument, "the argument of Hand.Echo does not fit its schema at /1: it is ")
		if pointer := asFault(err).data().Pointer; pointer != "/1" {
			t.Errorf("data.pointer is %q; want /1", pointer)
		}
		_, err = asked[document](t, s, "Hand.Echo", document(`["x"]`))
		checkCode(t, "a wrong result", err, codeInternal, "the result of Hand.Echo does not fit its schema at /0: it is ")
		if got := answered[document](t, s, "Hand.Echo", document(`[1.0]`)); string(got) != "[1.0]" {
			t.Errorf("[1.0] comes back as %s", got)
		}
	}
	checkLogged(t, s, "warn  a worker gave a wrong result", "method=Hand.Echo", "does not fit its schema at /0: it is", "worker=hand")
	waitPrinted(t, s, "round", "refused: the schema of the result of Round.Echo: "+errEndless.Error())
	if got := workerStatus(t, s, "round"); got.State != "starting" || !strings.HasPrefix(got.Why, "its registration was refused: the schema of the result of Round.Echo: ") {
		t.Errorf("a worker whose schema cannot be used is %+v", got)
	}
}

// A worker calls another one, and what is built in; one that offers what is not its own is refused.
func TestWorkersCallEachOther(t *testing.T) {
	s, _ := hire(t, oneHand+`
[[worker]]
name = "other"
command = ["clumsy", "well"]
services = ["Clumsy"]

[[worker]]
name = "greedy"
command = ["hand", '{"methods":["Hand.Echo"]}']
services = ["Greedy"]
start_timeout = "1h"
`)
	waitPrinted(t, s, "greedy", "refused: access denied: the worker greedy may not offer Hand.Echo: services of its [[worker]] lacks Hand")
	for method, want := range map[string]string{"Echo.Say": "hello", "Clumsy.Well": "well"} {
		if got := answered[string](t, s, "Hand.Ask", map[string]any{"method": method, "arg": "hello"}); got != want {
			t.Errorf("the worker hears %q from %s; want %s", got, method, want)
		}
	}
	conn := rawDial(t, s.endpoints[0])
	defer conn.Close()
	for _, name := range []string{"Hand.Echo", "Hand.Else", "Greedy.Any", "Clumsy.*"} {
		if answer := registration(t, conn, `{"methods":["`+name+`"],"share":true}`); !strings.Contains(answer, `"code":-32005`) {
			t.Errorf("a caller who offers %s, which a worker has, is answered with %s", name, answer)
		}
	}
}

func TestWorkerThatDiesIsStartedAgain(t *testing.T) {
	s, dir := hire(t, oneHand)
	before := answered[int](t, s, "Hand.Pid", nil)
	_, err := asked[bool](t, s, "Hand.Die", 3)
	if f := asFault(err); f.Code != codeGone || f.data().Retry {
		t.Errorf("a call whose worker dies fails with %v; want %d without retry", err, codeGone)
	}
	if after := answered[int](t, s, "Hand.Pid", nil); after == before {
		t.Error("a process that has died answers")
	}
	if got := answered[int](t, s, "Hand.Once", filepath.Join(dir, "once")); got == 0 {
		t.Error("a method that may be repeated was not")
	}
	if got := workerStatus(t, s, "hand"); got.Restarts != 2 {
		t.Errorf("%d restarts are counted; want 2", got.Restarts)
	}
	conn := s.connect() // whoever has some of its parts does not get them twice
	send(t, conn, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"Hand.Once","params":[%q],"parts":1}`, filepath.Join(dir, "parted")))
	wantLines(t, conn, partLine("1", `"first"`), `"id":1,"error":{"code":-32006,"message":"the provider of Hand.Once has gone; it is not known whether it carried out the call"}`)
}

func TestInstancesShareCalls(t *testing.T) {
	s, dir := hire(t, oneHand+"instances = 3\nmax_calls = 1\n")
	answered[WorkerStatus](t, s, "Ipcd.WorkerStart", "hand") // which waits for all of them
	pids := map[int]bool{}
	for range 9 {
		pids[answered[int](t, s, "Hand.Pid", nil)] = true
	}
	if len(pids) != 3 {
		t.Errorf("one after another, calls go to the processes %v; want three", slices.Collect(maps.Keys(pids)))
	}
	file := filepath.Join(dir, "free")
	var calls sync.WaitGroup
	for range 5 { // two more than there is room for
		calls.Go(func() { answered[bool](t, s, "Hand.Block", file) })
	}
	waitFor(t, func() error {
		if got := workerStatus(t, s, "hand"); got.Waiting != 2 {
			return fmt.Errorf("%d calls wait; want 2", got.Waiting)
		}
		return nil
	})
	must(t, os.WriteFile(file, nil, 0o600))
	calls.Wait()
}

func TestLazyWorker(t *testing.T) {
	s, _ := hire(t, oneHand+"lazy = true\nidle = \"20ms\"\n")
	if got := workerStatus(t, s, "hand"); got.State != "waiting" || len(got.Processes) != 0 {
		t.Fatalf("before the first call it is %+v; want it to wait", got)
	}
	first := answered[int](t, s, "Hand.Pid", nil)
	waitFor(t, func() error {
		if got := workerStatus(t, s, "hand"); got.State != "waiting" || len(got.Processes) != 0 {
			return fmt.Errorf("without a call it is %+v; want it to wait", got)
		}
		return nil
	})
	if second := answered[int](t, s, "Hand.Pid", nil); second == first {
		t.Error("the process that has ended answers")
	}
	answered[WorkerStatus](t, s, "Ipcd.WorkerStart", "hand") // which is no call that it could be idle after
	waitFor(t, func() error {
		if got := workerStatus(t, s, "hand"); got.State != "waiting" {
			return fmt.Errorf("started by hand it is %+v; want it to wait", got)
		}
		return nil
	})
}

// A call that comes while a lazy worker is about to rest is answered, too.
func TestLazyWorkerIsWantedAgain(t *testing.T) {
	s, _ := hire(t, oneHand+"lazy = true\nidle = \"1ms\"\nmax_calls = 1\n")
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 10 {
				answered[int](t, s, "Hand.Pid", nil)
			}
		})
	}
	callers.Wait()
}

// A caller that waits for a service waits for a worker that was stopped, too.
func TestWaitForAWorkerThatWasStopped(t *testing.T) {
	s, _ := hire(t, oneHand)
	answered[WorkerStatus](t, s, "Ipcd.WorkerStop", "hand")
	got := make(chan string, 1)
	go func() {
		got <- printed(t, exec.Command("ipcd", "call", "--wait", "1m", "-e", s.endpoints[0].String(), "Hand.Pid"))
	}()
	waitFor(t, func() error {
		if s.meter.errors.Load() == 0 {
			return errors.New("nobody has been refused")
		}
		return nil
	})
	started := answered[WorkerStatus](t, s, "Ipcd.WorkerStart", "hand")
	if pid := strings.TrimSpace(receive(t, got)); pid != strconv.Itoa(started.Processes[0].PID) {
		t.Errorf("the call that waited prints %s; want the pid of the process %+v", pid, started.Processes)
	}
}

// A call that comes before its worker is ready waits for that: for --timeout, or, once that is over, for --wait.
func TestCallWaitsForItsWorker(t *testing.T) {
	s, dir := hire(t, `[[worker]]
name = "clumsy"
command = ["clumsy", "late", "$DIR/ready"]
services = ["Clumsy"]
start_timeout = "1h"
`)
	e := s.endpoints[0].String()
	got := make(chan string, 1)
	go func() {
		got <- printed(t, exec.Command("ipcd", "call", "-e", e, "--wait", "1h", "--timeout", "10ms", "Clumsy.Well"))
	}()
	waitFor(t, func() error {
		if w := workerStatus(t, s, "clumsy"); w.Waiting != 1 {
			return fmt.Errorf("it is %+v", w)
		}
		return nil
	})
	said := failing(t, exec.Command("ipcd", "call", "-e", e, "--timeout", "50ms", "Clumsy.Well"))
	if !strings.Contains(said, "the worker clumsy is starting") {
		t.Errorf("a call without --wait says %q; want that the worker is starting", said)
	}
	said = failing(t, exec.Command("ipcd", "call", "-e", e, "--wait", "50ms", "Clumsy.Well"))
	if !strings.Contains(said, "the call was not begun within 50ms (--wait): the worker clumsy is starting") {
		t.Errorf("a call with a short --wait says %q; want that it was not begun", said)
	}
	must(t, os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600))
	if got := receive(t, got); got != "well\n" {
		t.Errorf("the call that waited prints %q; want its answer", got)
	}
}

// What the commands say of a worker that does not answer names what to type next, for the same daemon.
func TestHintsAboutWorkers(t *testing.T) {
	s, _ := hire(t, oneHand+`
[[worker]]
name = "absent"
command = ["./absent"]
services = ["Absent"]

[[worker]]
name = "early"
command = ["clumsy", "early"]
services = ["Early"]
restart = "never"

[[worker]]
name = "round"
command = ["hand", '{"methods":["Hand.Echo"]}']
services = ["Round"]
start_timeout = "1h"
`)
	answered[WorkerStatus](t, s, "Ipcd.WorkerStop", "hand")
	const why = "its registration was refused: access denied"
	waitFor(t, func() error {
		if early, round := workerStatus(t, s, "early"), workerStatus(t, s, "round"); early.State != "ended" || !strings.HasPrefix(round.Why, why) {
			return fmt.Errorf("they are %+v and %+v", early, round)
		}
		return nil
	})
	const late = "the deadline of the call has passed; the worker round is starting: " + why
	at := "-e " + joinWords([]string{s.endpoints[0].String()})
	for command, want := range map[string][]string{
		"call --timeout 1s Round.Echo": {late, "see its output: ipcd worker logs " + at + " round"},
		"call Hand.Pid":                {"the worker hand of Hand.Pid was stopped", "start it: ipcd worker start " + at + " hand"},
		"call Absent.Any":              {"the worker absent of Absent.Any is parked: ", "see its output: ipcd worker logs " + at + " absent"},
		"call Early.Any":               {"the worker early of Early.Any has ended: it ended with exit code 7", "see its output: ipcd worker logs " + at + " early"},
		"worker start absent":          {"the worker absent is parked: ", "see its output: ipcd worker logs " + at + " absent; all workers: ipcd worker ls " + at},
		"worker start hans":            {"there is no worker hans", "did you mean hand?"},
		"worker start other":           {"there is no worker other", "see which there are: ipcd worker ls " + at},
		"worker logs":                  {"has 0 arguments", "see which there are: ipcd worker ls " + at},
	} {
		said := failing(t, exec.Command("ipcd", append(strings.Fields(command), "-e", s.endpoints[0].String())...))
		for _, line := range want {
			if !strings.Contains(said, line) {
				t.Errorf("ipcd %s says %q; want %q", command, said, line)
			}
		}
	}
}

// A call whose deadline passes while it waits says what for.
func TestDeadlineOfACallThatWaits(t *testing.T) {
	s, dir := hire(t, oneHand+`max_calls = 1

[[worker]]
name = "round"
command = ["hand", '{"methods":["Hand.Echo"]}']
services = ["Round"]
start_timeout = "1h"
`)
	waitFor(t, func() error {
		if got := workerStatus(t, s, "round"); got.Why == "" {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
	go asked[bool](t, s, "Hand.Block", filepath.Join(dir, "free"))
	waitPrinted(t, s, "hand", "blocked")
	conn := rawDial(t, s.endpoints[0])
	defer conn.Close()
	for method, want := range map[string]string{
		"Round.Echo": `"message":"the deadline of the call has passed; the worker round is starting: its registration was refused: access denied: the worker round may not offer Hand.Echo: services of its [[worker]] lacks Hand","data":{"worker":"round","state":"starting"}`,
		"Hand.Pid":   `"message":"the deadline of the call has passed; every provider of Hand.Pid had as many calls as it takes"}`,
	} {
		send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"`+method+`","timeout":20}`)
		if answer := readLine(t, conn); !strings.Contains(answer, `"code":-32004`) || !strings.Contains(answer, want) {
			t.Errorf("%s is answered with %s; want %s", method, answer, want)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "free"), nil, 0o600))
}

// failing returns what a command that has to fail says on standard error.
func failing(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil {
		t.Errorf("%q succeeds", cmd.Args)
	}
	return stderr.String()
}

// While settings and processes are replaced, no call fails.
func TestWorkersAreReplacedWithoutAGap(t *testing.T) {
	for _, overlap := range []string{"true", "false"} {
		t.Run("overlap="+overlap, func(t *testing.T) {
			s, dir := hire(t, oneHand+"instances = 2\noverlap = "+overlap+"\n")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var callers sync.WaitGroup
			pids := make(chan int, 1000)
			for range 4 {
				callers.Go(func() {
					c, err := connect(t.Context(), s.endpoints[0], defaultLimits(), 0)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.close()
					for ctx.Err() == nil {
						var pid int
						if err := c.call(t.Context(), "Hand.Pid", nil, &pid); err != nil {
							t.Errorf("a call while the worker is replaced: %v", err)
							return
						}
						select {
						case pids <- pid:
						default:
						}
					}
				})
			}
			receive(t, pids)
			answered[WorkerStatus](t, s, "Ipcd.WorkerReload", "hand")
			s.force.employ(workersOf(t, dir, oneHand+"instances = 3\noverlap = "+overlap+"\nenvironment = [\"NEW=1\"]\n"))
			got := answered[WorkerStatus](t, s, "Ipcd.WorkerReload", "hand")
			if len(got.Processes) < 3 {
				t.Errorf("after the reload there are %+v; want three processes", got.Processes)
			}
			cancel()
			callers.Wait()
			if env := answered[[]string](t, s, "Hand.Environ", nil); !slices.Contains(env, "NEW=1") {
				t.Errorf("the new processes have the environment %v", env)
			}
		})
	}
}

// A worker that takes more memory than it may is replaced, and its calls are answered; one that takes twice as much is ended.
func TestWorkerThatTakesTooMuchMemory(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	s.force.look = time.Millisecond
	dir := workplace(t, s)
	limited := func(most uint64) []workerSettings {
		return workersOf(t, dir, oneHand+fmt.Sprintf("max_memory = %d\n", most))
	}
	if usageOf == nil {
		for key, err := range workerFaults(&limited(1 << 20)[0], func(string) error { return nil }) {
			checkRefused(t, key, err, "does not say how much memory", "leave it out")
		}
		return
	}
	s.force.employ(workersOf(t, dir, oneHand))
	first := answered[int](t, s, "Hand.Pid", nil)
	taken := workerStatus(t, s, "hand").Processes[0].Memory
	s.force.employ(limited(taken * 3 / 4))
	other := func(than int) (pid int) {
		waitFor(t, func() error {
			if pid = answered[int](t, s, "Hand.Pid", nil); pid == than {
				return errors.New("it is not replaced")
			}
			return nil
		})
		return pid
	}
	other(other(first)) // the first time for its new settings
	wantLog := func(text string) {
		t.Helper()
		waitFor(t, func() error {
			if !strings.Contains(s.log.String(), text) {
				return fmt.Errorf("the log has no %q", text)
			}
			return nil
		})
	}
	wantLog("a worker takes too much memory, and is replaced")
	s.force.employ(limited(taken / 4))
	wantLog("a worker takes far too much memory, and is ended")
	waitFor(t, func() error {
		if workerStatus(t, s, "hand").Restarts == 0 {
			return errors.New("it is not started again")
		}
		return nil
	})
}

// Settings without a worker end it, and give its services back.
func TestWorkerGoesWithItsSettings(t *testing.T) {
	s, dir := hire(t, oneHand)
	answered[int](t, s, "Hand.Pid", nil)
	s.force.employ(workersOf(t, dir, "[[worker]]\nname = \"next\"\ncommand = [\"hand\", "+handMethods+"]\nservices = [\"Hand\"]\n"))
	if who := answered[peer](t, s, "Hand.Ask", map[string]any{"method": "Ipcd.Whoami"}); who.Name != "worker:next" {
		t.Errorf("%s answers; want worker:next", who.Name)
	}
	s.force.employ(nil)
	if _, err := asked[int](t, s, "Hand.Pid", nil); asFault(err).Code != codeNoMethod {
		t.Errorf("a service whose worker is gone: %v; want %d", err, codeNoMethod)
	}
}

func TestWorkerOrders(t *testing.T) {
	s, _ := hire(t, oneHand)
	first := answered[int](t, s, "Hand.Pid", nil)
	if got := answered[WorkerStatus](t, s, "Ipcd.WorkerStop", "hand"); got.State != "stopped" || len(got.Processes) != 0 {
		t.Errorf("stopped, it is %+v", got)
	}
	_, err := asked[int](t, s, "Hand.Pid", nil)
	if f := asFault(err); f.Code != codeGone || !f.data().Retry || !strings.Contains(f.Text, "was stopped") {
		t.Errorf("a call to a worker that was stopped: %v", err)
	}
	if got := answered[WorkerStatus](t, s, "Ipcd.WorkerStart", "hand"); got.State != "running" {
		t.Errorf("started, it is %+v", got)
	}
	second := answered[int](t, s, "Hand.Pid", nil)
	answered[WorkerStatus](t, s, "Ipcd.WorkerRestart", "hand")
	third := answered[int](t, s, "Hand.Pid", nil)
	if first == second || second == third {
		t.Errorf("the processes are %d, %d, %d; want three", first, second, third)
	}
	command := func(args ...string) *exec.Cmd {
		return exec.Command("ipcd", append([]string{"worker", "-e", s.endpoints[0].String()}, args...)...)
	}
	for _, row := range [][2]string{{"restart", "running"}, {"reload", "running"}, {"stop", "stopped"}, {"start", "running"}} {
		if got, want := printed(t, command(row[0], "hand")), "hand: "+row[1]+"\n"; got != want {
			t.Errorf("ipcd worker %s says %q; want %q", row[0], got, want)
		}
		if row[1] == "running" {
			if now := answered[int](t, s, "Hand.Pid", nil); now == third {
				t.Errorf("after ipcd worker %s the process is that of before", row[0])
			} else {
				third = now
			}
		}
	}
	answered[bool](t, s, "Hand.Print", "a line")
	waitPrinted(t, s, "hand", "a line")
	waitPrinted(t, s, "hand", "a line on stderr")
	log := answered[WorkerLogAnswer](t, s, "Ipcd.WorkerLog", WorkerLogQuery{Name: "hand"})
	more := make(chan WorkerLogAnswer, 1)
	go func() {
		more <- answered[WorkerLogAnswer](t, s, "Ipcd.WorkerLog", WorkerLogQuery{Name: "hand", After: log.Next})
	}()
	follow := command("logs", "-f", "hand")
	out, err := follow.StdoutPipe()
	must(t, err)
	_, ended := startProgram(t, follow)
	lines := bufio.NewScanner(out)
	for want := range strings.Lines(printed(t, command("logs", "hand"))) { // the same begins what follows
		if lines.Scan(); lines.Text()+"\n" != want {
			t.Errorf("ipcd worker logs -f says %q; want %q", lines.Text(), want)
		}
	}
	answered[bool](t, s, "Hand.Print", "another")
	defer time.AfterFunc(testPatience, func() { follow.Process.Kill() }).Stop()
	const another = " 1 stdout another"
	for lines.Scan() && !strings.HasSuffix(lines.Text(), another) {
	}
	if !strings.HasSuffix(lines.Text(), another) {
		t.Errorf("ipcd worker logs -f ends without %q", another)
	}
	if err := follow.Process.Signal(os.Interrupt); err == nil { // which Windows has not
		if receive(t, ended); follow.ProcessState.ExitCode() != exitDone {
			t.Errorf("at Ctrl-C ipcd worker logs -f ends with %v", follow.ProcessState)
		}
	}
	if got := receive(t, more); len(log.Lines) < 2 || len(got.Lines) == 0 || !strings.HasPrefix(got.Lines[0].Text, "another") {
		t.Errorf("its lines are %v, and then %v", log, got)
	}
	_, err = asked[WorkerStatus](t, s, "Ipcd.WorkerStop", "hands")
	if f := asFault(err); f.data().Near != "hand" {
		t.Errorf("a worker that is not there: %v; want hand as the nearest", err)
	}
}

// checkLogged wants a line in the log of s with all these texts.
func checkLogged(t *testing.T, s *testServer, texts ...string) {
	t.Helper()
	waitFor(t, func() error {
		for line := range strings.Lines(s.log.String()) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				return nil
			}
		}
		return fmt.Errorf("no line of the log has %q", texts)
	})
}

// What is wrong with a worker is its callers' error, and nobody else's.
func TestClumsyWorkers(t *testing.T) {
	for _, row := range []struct {
		does    string
		want    string // the answer, or the code of the error
		well    bool   // the process goes on
		log     string // has a warning that begins with this
		members string // of the request
	}{
		{"garbage", `"well"`, true, "what came is no message", ""}, {"twice", `"well"`, true, "", ""}, {"unasked", `"well"`, true, "", ""}, {"flood", `"well"`, true, "", ""},
		{"both", "", true, "", ""}, {"neither", "-32603", true, "an answer could not be passed on", ""},
		{"close", "-32006", false, "a worker has ended", ""}, {"exit", "-32006", false, "a worker has ended", ""}, {"leave", "-32006", false, "a worker has ended", ""},
		{"never", "-32004", true, "", `,"timeout":20`}, {"stuck", "-32004", true, "", `,"timeout":20`},
		{"pour", `-32002,"message":"the provider of Clumsy.Do sends parts faster than they are read; it has to wait for $/credit (limit stream_window`, true, "", `,"parts":1,"window":1`},
	} {
		t.Run(row.does, func(t *testing.T) {
			t.Parallel()
			s, _ := hire(t, "[[worker]]\nname = \"clumsy\"\ncommand = [\"clumsy\", \""+row.does+"\"]\nservices = [\"Clumsy\"]\nstop_timeout = \"10ms\"\n"+oneHand)
			before := answered[string](t, s, "Clumsy.Well", nil)
			c, err := connect(t.Context(), s.endpoints[0], defaultLimits(), 0)
			must(t, err)
			defer c.close()
			conn := rawDial(t, s.endpoints[0])
			defer conn.Close()
			send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Clumsy.Do"`+row.members+`}`)
			if answer := readLineWith(t, conn, `"id":1`); !strings.Contains(answer, row.want) {
				t.Errorf("it is answered with %s; want %s", answer, row.want)
			}
			if row.does == "stuck" {
				answered[WorkerStatus](t, s, "Ipcd.WorkerRestart", "clumsy")
			}
			if after := answered[string](t, s, "Clumsy.Well", nil); before != "well" || after != "well" {
				t.Errorf("before it answers %q, after it %q", before, after)
			}
			if row.log != "" {
				checkLogged(t, s, "warn  "+row.log, "worker=clumsy")
			}
			answered[int](t, s, "Hand.Pid", nil)
			if got := workerStatus(t, s, "clumsy").Restarts; (got == 0) != row.well {
				t.Errorf("%d restarts", got)
			}
		})
	}
}

// Workers that never get ready, are not there, or cannot be trusted.
func TestWorkersThatDoNotStart(t *testing.T) {
	s, _ := hire(t, `
[[worker]]
name = "early"
command = ["clumsy", "early"]
services = ["Early"]

[[worker]]
name = "mute"
command = ["clumsy", "mute"]
services = ["Mute"]
start_timeout = "20ms"
stop_timeout = "10ms"

[[worker]]
name = "scorned"
command = ["clumsy", "scorned"]
services = ["Scorned"]

[[worker]]
name = "deaf"
command = ["clumsy", "deaf"]
services = ["Clumsy"]
health = "20ms"
stop_timeout = "10ms"

[[worker]]
name = "caller"
command = ["hand"]

[[worker]]
name = "absent"
command = ["./absent"]
services = ["Absent"]
`)
	for name, why := range map[string]string{"early": "exit code 7 before it was ready", "mute": "not ready within 20ms (start_timeout)",
		"scorned": "its registration was refused: access denied: the worker scorned may not offer Clumsy.Do: "} {
		waitFor(t, func() error {
			if got := workerStatus(t, s, name); got.State != "starting" || got.Restarts == 0 || !strings.Contains(got.Why, why) {
				return fmt.Errorf("%s is %+v; want %s", name, got, why)
			}
			return nil
		})
	}
	waitFor(t, func() error {
		if got := workerStatus(t, s, "deaf"); got.Restarts == 0 || !strings.Contains(s.log.String(), "a worker does not answer, and is ended") {
			return fmt.Errorf("one that does not answer is %+v", got)
		}
		return nil
	})
	waitFor(t, func() error {
		if got := workerStatus(t, s, "caller"); got.State != "running" {
			return fmt.Errorf("one that offers nothing is %+v; want it to run", got)
		}
		return nil
	})
	if got := workerStatus(t, s, "absent"); got.State != "parked" || !strings.Contains(got.Why, "absent") {
		t.Errorf("a worker without a program is %+v; want it to be parked", got)
	}
	_, err := asked[int](t, s, "Absent.Any", nil)
	if f := asFault(err); f.Code != codeGone || !f.data().Retry || !strings.Contains(f.Text, "is parked") {
		t.Errorf("a call to it: %v", err)
	}
}

// The pauses between starts double, and the tenth start within a minute is the last one.
func TestKeeperBacksOffAndParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLogger(&logBuffer{}, formatText, levelDebug)
		defer log.close()
		s := newServer(newRouter(), defaultLimits(), log)
		spec := defaultWorker()
		spec.Name = "ending"
		w, err := newWorker(s.force, &spec)
		must(t, err)
		k := &keeper{w: w, number: 1}
		w.keepers = []*keeper{k}
		began := time.Now()
		var starts []time.Duration
		for k.await() && w.parked == "" {
			starts = append(starts, time.Since(began))
			k.failed("it ended with exit code 1", true)
			if w.parked != "" {
				w.change(func() { w.over = true })
			}
		}
		want := []time.Duration{0, 100, 300, 700, 1500, 3100, 6300, 12700, 25500, 51100}
		for i := range want {
			want[i] *= time.Millisecond
		}
		if !slices.Equal(starts, want) {
			t.Errorf("it is started at %v; want %v", starts, want)
		}
		if !strings.Contains(w.parked, "started 10 times within 1m") {
			t.Errorf("it is parked: %q", w.parked)
		}
		must(t, s.stop(t.Context()))
	})
}

// A worker that takes long to fail is parked by the number of starts, unless it was ready meanwhile, or is given another chance.
func TestKeeperParksWhatIsNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLogger(&logBuffer{}, formatText, levelDebug)
		defer log.close()
		s := newServer(newRouter(), defaultLimits(), log)
		spec := defaultWorker()
		w, err := newWorker(s.force, &spec)
		must(t, err)
		k := &keeper{w: w, number: 1}
		w.keepers = []*keeper{k}
		fail := func(times int, ready bool) {
			t.Helper()
			for range times {
				if !k.await() || w.parked != "" {
					t.Fatalf("it is parked too early: %q", w.parked)
				}
				<-time.After(spec.StartTimeout) // the bubble's clock
				k.failed("it was late", ready)
			}
		}
		fail(2*startsMost, true)
		fail(startsMost-1, false)
		w.change(w.forgiveLocked)
		fail(startsMost, false)
		if want := "started 10 times in a row, and it was never ready; the last time it was late"; w.parked != want {
			t.Errorf("it is parked: %q; want %q", w.parked, want)
		}
		must(t, s.stop(t.Context()))
	})
}

// A daemon that stops answers what its workers have begun, and ends them.
func TestStopWaitsForWorkers(t *testing.T) {
	s, dir := hire(t, oneHand)
	file := filepath.Join(dir, "free")
	answer := make(chan error, 1)
	go func() {
		_, err := asked[bool](t, s, "Hand.Block", file)
		answer <- err
	}()
	waitPrinted(t, s, "hand", "blocked")
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(t.Context()) }()
	waitFor(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopping {
			return errors.New("it does not stop")
		}
		return nil
	})
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, receive(t, answer))
	must(t, receive(t, stopped))
	if got := s.force.status(); len(got[0].Processes) != 0 {
		t.Errorf("after the stop there is %+v", got)
	}
}

// A call that is cancelled is withdrawn from its worker, and one whose caller has a deadline ends with that.
func TestCancelReachesWorkers(t *testing.T) {
	s, dir := hire(t, oneHand)
	conn := rawDial(t, s.endpoints[0])
	defer conn.Close()
	send(t, conn, `{"jsonrpc":"2.0","id":1,"method":"Hand.Block","params":["`+filepath.ToSlash(filepath.Join(dir, "never"))+`"]}`)
	waitPrinted(t, s, "hand", "blocked")
	send(t, conn, `{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}`)
	if answer := readLine(t, conn); !strings.Contains(answer, `"code":-32800`) {
		t.Errorf("a call that was cancelled is answered with %s", answer)
	}
	waitPrinted(t, s, "hand", "left: context canceled")
}

// Calls that come while a worker is restarted wait.
func TestCallsWaitForARestart(t *testing.T) {
	s, dir := hire(t, oneHand)
	file := filepath.Join(dir, "free")
	go asked[bool](t, s, "Hand.Block", file)
	waitPrinted(t, s, "hand", "blocked")
	restarted := make(chan error, 1)
	go func() { _, err := asked[WorkerStatus](t, s, "Ipcd.WorkerRestart", "hand"); restarted <- err }()
	waitFor(t, func() error {
		if got := workerStatus(t, s, "hand").Processes; len(got) == 0 || got[0].State != "leaving" {
			return fmt.Errorf("it has %+v", got)
		}
		return nil
	})
	meanwhile := make(chan error, 1)
	go func() { _, err := asked[int](t, s, "Hand.Pid", nil); meanwhile <- err }()
	waitFor(t, func() error {
		if got := workerStatus(t, s, "hand"); got.Waiting == 0 && got.Errors == 0 {
			return fmt.Errorf("no call has come: %+v", got)
		}
		return nil
	})
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, receive(t, meanwhile))
	must(t, receive(t, restarted))
}

// restart = "never" holds for a program that ends before it is ready, too.
func TestNeverIsNever(t *testing.T) {
	s, _ := hire(t, "[[worker]]\nname = \"early\"\ncommand = [\"clumsy\", \"early\"]\nservices = [\"Early\"]\nrestart = \"never\"\n")
	waitFor(t, func() error {
		got := workerStatus(t, s, "early")
		if got.Restarts > 1 {
			t.Fatalf("it was started again: %+v", got)
		}
		if got.State != "ended" {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
}

// restart = "on-failure" holds for what has failed, and exit code 0 is no failure.
func TestOnFailureIsOnFailure(t *testing.T) {
	s, _ := hire(t, oneHand+"restart = \"on-failure\"\n")
	before := answered[int](t, s, "Hand.Pid", nil)
	for _, code := range []int{3, 0} {
		_, err := asked[bool](t, s, "Hand.Die", code)
		checkCode(t, "a call whose worker ends", err, codeGone, "")
		if code != 0 && answered[int](t, s, "Hand.Pid", nil) == before {
			t.Error("a process that has failed answers")
		}
	}
	waitFor(t, func() error {
		if got := workerStatus(t, s, "hand"); got.State != "ended" || got.Restarts != 1 {
			return fmt.Errorf("it is %+v", got)
		}
		return nil
	})
}

// A reload after which the old process goes on has not succeeded.
func TestReloadThatFailsSaysSo(t *testing.T) {
	s, _ := hire(t, "[[worker]]\nname = \"once\"\ncommand = [\"clumsy\", \"once\"]\nservices = [\"Clumsy\"]\n")
	answered[string](t, s, "Clumsy.Well", nil)
	if got, err := asked[WorkerStatus](t, s, "Ipcd.WorkerReload", "once"); err == nil {
		t.Errorf("the reload that has failed says %+v", got)
	}
	if got := answered[WorkerStatus](t, s, "Ipcd.WorkerStart", "once"); got.State != "running" {
		t.Errorf("afterwards the worker is %+v; want it running as before", got)
	}
}

// A process that needs not say that it is ready, and ends at once, takes the place of none; where there was none, whoever has asked
// for it hears that it has ended.
func TestReloadByWhatEndsAtOnce(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	s.force.watch = time.Hour // until it has ended, however long that takes here
	dir := workplace(t, s)
	s.force.employ(workersOf(t, dir, oneHand))
	pid := answered[int](t, s, "Hand.Pid", nil)
	const ends = "[[worker]]\nname = \"hand\"\ncommand = [\"exit-early\"]\nservices = [\"Hand\"]\nready = \"start\"\n"
	s.force.employ(workersOf(t, dir, ends))
	_, err := asked[WorkerStatus](t, s, "Ipcd.WorkerReload", "hand")
	checkCode(t, "the reload", err, codeApplication, "was not replaced, and goes on as it was: it ended with exit code 3 within ")
	if now := answered[int](t, s, "Hand.Pid", nil); now != pid {
		t.Errorf("after the reload process %d answers; want %d, as before", now, pid)
	}
	for _, more := range []string{"overlap = false\n", "restart = \"never\"\n"} {
		s.force.employ(nil)
		s.force.employ(workersOf(t, dir, ends+more))
		for _, method := range []string{"Ipcd.WorkerReload", "Ipcd.WorkerRestart", "Ipcd.WorkerStart"} {
			_, err := asked[WorkerStatus](t, s, method, "hand")
			checkCode(t, method+" with "+more, err, codeApplication, "it ended with exit code 3")
		}
	}
}

// The ring keeps the last lines, and no more than its size.
func TestLineRing(t *testing.T) {
	r := newLineRing()
	text := strings.Repeat("a", 1000)
	for range 1000 {
		r.add(1, "stdout", text)
	}
	lines, next, _ := r.since(0)
	if len(lines) == 0 || len(lines) > ringSize/1000 || next != 1001 {
		t.Errorf("the ring has %d lines, the next has the number %d", len(lines), next)
	}
	if lines, _, _ := r.since(next - 2); len(lines) != 2 {
		t.Errorf("the last two lines are %d", len(lines))
	}
	if lines, _, _ := r.since(next); len(lines) != 0 {
		t.Errorf("after the last one there are %d lines", len(lines))
	}
}

// Of a worker that prints without an end the log has so many lines a second, and the number of the others.
func TestOutputOfAWorkerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLineRing()
		for span := range 3 {
			logged, missed := 0, 0
			for range 3 * linesMost {
				log, left := r.add(1, "stdout", "again")
				missed += left
				if log {
					logged++
				}
			}
			want := 2 * linesMost
			if span == 0 {
				want = 0
			}
			if logged != linesMost || missed != want {
				t.Errorf("in second %d, %d lines are logged, and %d said to be missing; want %d and %d", span, logged, missed, linesMost, want)
			}
			<-time.After(linesSpan)
		}
	})
}

// Rules that others are about leave a worker its services; it loses them by a rule that would have refused its registration.
func TestRulesTakeServicesFromWorkers(t *testing.T) {
	s, dir := hire(t, oneHand)
	answered[string](t, s, "Hand.Echo", "a")
	for _, rule := range []string{
		"[[rule]]\nallow = [\"cert:somebody\"]\nregister = [\"Hand\"]\n", "[[rule]]\ndeny = [\"local\"]\n", "[[rule]]\ndeny = [\"worker:other\"]\nregister = [\"*\"]\n",
		"[[rule]]\nallow = [\"worker:hand\"]\ncall = [\"Echo.Say\"]\n", "[[rule]]\ndeny = [\"worker:hand\"]\nregister = [\"Other\"]\n",
	} {
		s.obey(policyFrom(t, rule))
		if got := answered[string](t, s, "Hand.Echo", "b"); got != "b" {
			t.Errorf("with %q Hand.Echo answers %q; want b", rule, got)
		}
	}
	const taken = "[[rule]]\ndeny = [\"worker:hand\"]\nregister = [\"Hand\"]\n"
	c := dialOurs(protoJSON)(t, s.endpoints[0])
	defer c.close()
	held := inBackground(t.Context(), c, "Hand.Block", filepath.ToSlash(filepath.Join(dir, "never")))
	waitPrinted(t, s, "hand", "blocked")
	s.obey(policyFrom(t, taken))
	checkFault(t, "the call that it had", receive(t, held), codeGone, "the provider of Hand.Block may not offer it any more")
	waitPrinted(t, s, "hand", "left: context canceled")
	s.force.employ(workersOf(t, t.TempDir(), strings.Replace(oneHand, `name = "hand"`, `name = "hand"
start_timeout = "1h"`, 1)))
	waitPrinted(t, s, "hand", "refused: access denied: the worker hand may not offer Hand; a [[rule]] of the daemon denies it")
}
