package main

// This file owns what the workers in the configuration of a service need, beyond what its sandbox leaves to a daemon that
// has none.

import (
	"fmt"
	"slices"
	"strings"
)

// needRunAs is what a worker with run_as needs: to become another user.
const needRunAs = "run_as"

// A workerNeed is something that workers need, and who they are.
type workerNeed struct {
	need    string
	workers []string
}

// workerNeeds lists what the workers need, in a fixed order.
func workerNeeds(set settings) (needs []workerNeed) {
	for _, need := range []string{needJIT, needNetwork, needHome, needRunAs} {
		n := workerNeed{need: need}
		for i := range set.Workers {
			if w := &set.Workers[i]; slices.Contains(w.Needs, need) || need == needRunAs && w.RunAs != "" {
				n.workers = append(n.workers, w.Name)
			}
		}
		if n.workers != nil {
			needs = append(needs, n)
		}
	}
	return needs
}

// needs reports whether a worker of the service needs that.
func (d *deployment) needs(need string) bool {
	return slices.ContainsFunc(workerNeeds(d.Settings), func(n workerNeed) bool { return n.need == need })
}

// who names the workers, for a comment or a message.
func (n *workerNeed) who() string {
	if len(n.workers) == 1 {
		return "the worker " + n.workers[0] + " needs " + n.need
	}
	return "the workers " + strings.Join(n.workers, ", ") + " need " + n.need
}

// A sandbox is a service manager that keeps from a service what its settings did not ask for when it was installed.
type sandbox interface {
	// withheld returns the lines of what is installed that keep it from a worker that has the need; none if it has it.
	withheld(d *deployment, need string) (lines []string)
}

// checkSandbox refuses workers that an installed service cannot run.
func checkSandbox(sup supervisor, d *deployment, set settings) error {
	s, ok := sup.(sandbox)
	if !ok {
		return nil
	}
	var wrongs []error
	for _, n := range workerNeeds(set) {
		if lines := s.withheld(d, n.need); len(lines) > 0 {
			wrongs = append(wrongs, usagef("%s, which the service %s as it is installed does not have (%s)", n.who(), d.name, strings.Join(lines, ", ")).
				withHint("ipcd install --force%s", d.flags()))
		}
	}
	return gather(wrongs...)
}

// checkWorkerPrograms refuses workers whose program or directory the service could not use, or others could change.
func checkWorkerPrograms(d *deployment) error {
	var wrongs []error
	for i := range d.Settings.Workers {
		w := &d.Settings.Workers[i]
		for key, err := range workerFaults(w, func(path string) error { return checkWorkerPath(d, path) }) {
			wrongs = append(wrongs, w.refuse(key, err))
		}
	}
	return gather(wrongs...)
}

// sandboxAdvice says what a service was given for its workers.
func sandboxAdvice(d *deployment, lines func(need string) []string) (advice []string) {
	for _, n := range workerNeeds(d.Settings) {
		if l := lines(n.need); len(l) > 0 {
			advice = append(advice, fmt.Sprintf("%s: the service has no %s", n.who(), strings.Join(l, ", ")))
		}
	}
	return advice
}
