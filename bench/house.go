package main

// This file owns what all stages share: the programs that are built once for all, and what has to be installed.

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// A house has what all stages share.
type house struct {
	ctx  context.Context
	dir  string
	self string // this program
	ipcd string // with the turns of a caller in it; see _own/turns.go

	modules func() (string, error) // builds this program with the modules of others in it, once
	ping    func() (string, error) // these build what is in C, once
	sdbus   func() (string, error)
}

// newHouse builds ipcd from the folder above.
func newHouse(ctx context.Context) (*house, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	h := &house{ctx: ctx, dir: dir, self: self, ipcd: filepath.Join(dir, "ipcd")}
	h.modules = h.once("modules", func(to string) error { return h.buildGo(to, ".", "-tags", "modules") })
	h.ping = h.once("ping", func(to string) error { return h.buildC(to, pingC, "-pthread") })
	h.sdbus = h.once("sdbus", func(to string) error { return h.buildC(to, sdBusC, "-pthread", "-lsystemd") })
	if err := h.buildIpcd(); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *house) close() { os.RemoveAll(h.dir) }

func (h *house) once(name string, build func(to string) error) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		to := filepath.Join(h.dir, name)
		return to, build(to)
	})
}

// buildIpcd builds ipcd with two files more. Their names are such that the init of _own is the last one: it uses what others have set up.
func (h *house) buildIpcd() error {
	above, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	more := map[string]string{}
	for as, file := range map[string]string{"zz_turns.go": "turns.go", "zz_own.go": filepath.Join("_own", "turns.go")} {
		if more[filepath.Join(above, as)], err = filepath.Abs(file); err != nil {
			return err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": more})
	if err != nil {
		return err
	}
	file := filepath.Join(h.dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	return h.buildGo(h.ipcd, "..", "-overlay", file)
}

// buildGo builds the program in a folder.
func (h *house) buildGo(to, folder string, flags ...string) error {
	return h.build(folder, append(append([]string{"go", "build", "-trimpath", "-o", to}, flags...), "."))
}

func (h *house) buildC(to, source string, flags ...string) error {
	return h.build(".", append([]string{"cc", "-O2", "-Wall", "-Wextra", "-o", to, filepath.Join("c", source)}, flags...))
}

func (h *house) build(folder string, command []string) error {
	build := exec.CommandContext(h.ctx, command[0], command[1:]...)
	build.Dir = folder
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%q in %s, which works in the folder bench alone: %w\n%s", command, folder, err, out)
	}
	return nil
}

// isThere reports whether what is needed to measure something is installed. In CI it must be.
func isThere(name string, needs []string) (bool, error) {
	for _, need := range needs {
		err := lacking(need)
		if err != nil && os.Getenv("IPCD_CI") != "" {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out: %v\n", name, err)
			return false, nil
		}
	}
	return true, nil
}

// What may be needed, beside programs: what is in C has to compile, with the headers and libraries that it names.
const (
	nodeIPC = "node-ipc" // a module of npm, of testdata/npm
	pingC   = "ping.c"   // Linux
	sdBusC  = "sdbus.c"  // libsystemd with its header
)

// lacking returns why something cannot be used, or nil.
func lacking(need string) error {
	switch need {
	case nodeIPC:
		_, err := os.Stat(filepath.Join(nodeModules(), nodeIPC))
		return err
	case pingC, sdBusC:
		if out, err := exec.Command("cc", "-fsyntax-only", filepath.Join("c", need)).CombinedOutput(); err != nil {
			return fmt.Errorf("cc %s: %w: %.200s", need, err, out)
		}
		return nil
	}
	_, err := exec.LookPath(need)
	return err
}

// nodeModules returns the folder of what .ci/run's step npm has installed: IPCD_NPM_DIR says where, as for the tests.
func nodeModules() string {
	dir := os.Getenv("IPCD_NPM_DIR")
	if dir == "" {
		cache, _ := os.UserCacheDir()
		dir = filepath.Join(cache, "ipcd-ci", "npm")
	}
	return filepath.Join(dir, "node_modules")
}
