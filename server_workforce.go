package main

// This file owns all workers of a daemon: how they come and go with the settings, and their end. A worker is in
// server_worker.go.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// A workforce is the workers of a daemon.
type workforce struct {
	server *server
	forker *forker
	wg     sync.WaitGroup // keepers, and the sessions of processes
	forced chan struct{}  // closed when the daemon waits for nobody any more
	look   time.Duration  // memoryLook
	watch  time.Duration  // startWatch
	place  string         // a local endpoint of the daemon, which nobody else can serve at the same time; or empty

	mu      sync.Mutex
	workers map[string]*worker
	over    bool
}

func newWorkforce(s *server) *workforce {
	return &workforce{server: s, forker: newForker(), look: memoryLook, watch: startWatch, forced: make(chan struct{}), workers: map[string]*worker{}}
}

// list lists the workers in alphabetical order.
func (f *workforce) list() []*worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*worker
	for _, w := range f.workers {
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b *worker) int { return cmp.Compare(a.name, b.name) })
	return list
}

// find returns the worker with a name.
func (f *workforce) find(name string) (*worker, *fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.workers[name]; w != nil {
		return w, nil
	}
	var names []string
	for n := range f.workers {
		names = append(names, n)
	}
	wrong := faultf(codeApplication, "there is no worker %s", shorten(name, 100))
	if near := nearest(name, names); near != "" {
		wrong.Data = faultData{Near: near}.json()
	}
	return nil, wrong
}

// ending is how long the daemon takes to stop at most.
func (f *workforce) ending() time.Duration {
	var specs []workerSettings
	for _, w := range f.list() {
		w.mu.Lock()
		specs = append(specs, *w.spec)
		w.mu.Unlock()
	}
	return f.server.limits().ending(specs)
}

// checkWorkers returns what this system lacks for the workers: a program, a directory or a user that is not there, or what
// others could change.
func checkWorkers(set settings) error {
	var wrongs []error
	for i := range set.Workers {
		w := &set.Workers[i]
		for key, err := range workerFaults(w, distrusted) {
			wrongs = append(wrongs, w.refuse(key, err))
		}
		if _, _, err := runningAs(w.RunAs); err != nil {
			wrongs = append(wrongs, w.refuse("run_as", err))
		}
	}
	return gather(wrongs...)
}

// workerFaults yields why the program of a worker is not started, each with the key at fault. A command that is missing is
// none of them: whoever reads the file says so. distrust says why a path is not relied on.
func workerFaults(spec *workerSettings, distrust func(path string) error) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if len(spec.Command) > 0 {
			program, err := exec.LookPath(spec.Command[0])
			if err != nil {
				err = notStarted(spec.Command[0], err)
			} else {
				err = distrust(program)
			}
			if err != nil && !yield("command", err) {
				return
			}
		}
		if spec.MaxMemory > 0 && usageOf == nil && !yield("max_memory", usagef("this system does not say how much memory a process has").withHint("leave it out")) {
			return
		}
		var err error
		dir := cmp.Or(spec.Directory, ".")
		switch info, wrong := os.Stat(dir); {
		case errors.Is(wrong, fs.ErrNotExist):
			err = faultf(codeApplication, "there is no directory %s", dir).withHint("look at the spelling, or make it: mkdir %s", dir)
		case wrong == nil && !info.IsDir():
			err = faultf(codeApplication, "%s is not a directory", dir)
		default:
			err = distrust(dir)
		}
		if err != nil {
			yield("directory", err)
		}
	}
}

// distrusted says who can change a path: as with the daemon's own program, whoever can change that of a worker, or the
// directory that it runs in, could do what the daemon may.
func distrusted(path string) error {
	if f := distrustFile(path); f != nil {
		return f
	}
	return nil
}

// prepare implements reloader.
func (f *workforce) prepare(_, now settings) (commit func(), err error) {
	return func() { f.employ(now.Workers) }, checkWorkers(now)
}

// marks is the environment by which endLeft knows what workers start.
func (f *workforce) marks() []string {
	if f.place == "" {
		return nil
	}
	list := []string{markEndpoint + "=" + f.place}
	if lifeOf != nil {
		list = append(list, markProcess+"="+lifeOf(os.Getpid()))
	}
	return list
}

// endLeft ends what workers of a daemon that was here before us, and was killed, have left behind. One that still finishes
// calls keeps its workers.
func (f *workforce) endLeft() {
	if endLeft == nil || f.place == "" {
		return
	}
	if n := endLeft(f.place); n > 0 {
		f.server.log.warn("processes were ended that workers of an earlier daemon had left behind", "processes", n)
	}
}

// employ has the workers be those of the settings.
func (f *workforce) employ(specs []workerSettings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	left := map[string]bool{}
	for name := range f.workers {
		left[name] = true
	}
	for i := range specs {
		delete(left, specs[i].Name)
	}
	for name := range left { // first, since another one may take over its services
		f.workers[name].end()
		delete(f.workers, name)
	}
	for i := range specs {
		spec := &specs[i]
		if w := f.workers[spec.Name]; w != nil {
			w.follow(spec)
			continue
		}
		w, err := newWorker(f, spec)
		if err != nil {
			f.server.log.error("a worker cannot be started", "worker", spec.Name, "error", err)
			continue
		}
		f.workers[spec.Name] = w
		w.begin()
	}
}

// begin starts the keepers of a new worker.
func (w *worker) begin() {
	var err error
	for _, err = range workerFaults(w.spec, distrusted) {
		break
	}
	if wrong := w.offerMethods(w.spec, wholeServices(w.spec), ""); wrong != nil && err == nil {
		err = wrong
	}
	if err != nil {
		w.log.error("a worker is parked", "why", err, "hint", hintFor(err))
	}
	w.change(func() { // which also tells the state of one that waits for its first call
		if err != nil {
			w.parked = err.Error()
		}
	})
	w.hire()
}

// hire has a keeper for each instance.
func (w *worker) hire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keepers = slices.Clone(w.keepers[:min(len(w.keepers), w.spec.Instances)]) // those that are not among them end by themselves
	for len(w.keepers) < w.spec.Instances {
		k := &keeper{w: w, number: len(w.keepers) + 1}
		w.keepers = append(w.keepers, k)
		w.force.wg.Go(k.run)
	}
}

// follow puts new settings into force. Processes are replaced if they would be started in another way.
func (w *worker) follow(spec *workerSettings) {
	w.mu.Lock()
	old := w.spec
	w.mu.Unlock()
	if sameJSON(old, spec) {
		return
	}
	if !slices.Equal(old.Services, spec.Services) {
		if f := w.offerMethods(spec, wholeServices(spec), ""); f != nil {
			w.log.error("the settings of a worker were refused", "error", f)
			return
		}
	}
	w.change(func() {
		w.spec = spec
		if !sameJSON(started(*old), started(*spec)) {
			w.replaceLocked()
		}
		w.forgiveLocked()
	})
	w.hire()
}

// started is the part of the settings of a worker for which a process has to be started anew.
func started(spec workerSettings) workerSettings {
	spec.Instances, spec.Lazy, spec.Idle, spec.Restart, spec.Overlap, spec.StartTimeout = 0, false, 0, "", false, 0
	return spec
}

// replaceLocked has new processes take the place of those that run.
func (w *worker) replaceLocked() {
	w.version++
	w.unreplaced = ""
}

// forgiveLocked has a worker that was parked, or rests, be started again, and gives it as many chances as a new one has.
func (w *worker) forgiveLocked() {
	w.parked = ""
	for _, k := range w.keepers {
		k.resting, k.failures, k.unready = false, nil, 0
	}
}

// end ends the worker for good. Its keepers see to its processes.
func (w *worker) end() {
	w.change(func() { w.over = true })
	w.offerMethods(nil, nil, "")
}

// stop ends all workers, and returns when all their processes have ended. When forced is closed they are killed.
func (f *workforce) stop(forced <-chan struct{}) {
	f.mu.Lock()
	f.over = true
	for _, w := range f.workers {
		w.end()
	}
	f.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		f.wg.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-forced:
		f.mu.Lock()
		shut(f.forced)
		f.mu.Unlock()
		<-gone
	}
	f.forker.close()
}

// sameJSON reports whether two values of one type have the same JSON.
func sameJSON(a, b any) bool {
	first, err := json.Marshal(a)
	if err != nil {
		return false
	}
	second, err := json.Marshal(b)
	return err == nil && bytes.Equal(first, second)
}
