package main

// This file owns the ceiling of memory: how much the daemon as a whole may take, and what happens when it nears that. Budgets bound
// what arrives and what waits to be read, see wire_account.go; the values that methods make of it, and everything else, count here.

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// The parts of the ceiling. The garbage collector works the harder the nearer the first one is; what is left beyond the second
// is for what runs already.
const (
	collectAt = 0.85
	refuseAt  = 0.95
)

// measureTicks is how often the foreman looks how much memory is taken.
const measureTicks = 64

// A ceiling is how much memory the daemon may take.
type ceiling struct {
	most  atomic.Int64 // bytes; 0 for no ceiling
	tight atomic.Bool  // nothing new is begun
}

// heapFloor is memory that is never touched, so that the system gives none for it. The collector runs when the heap has doubled, and
// counts it in: with the 2 to 4 MB that a daemon has, a fifth of its time went into collections. It costs as much garbage.
var heapFloor []byte

// layHeapFloor is for a process that is a daemon and nothing else. It has to be called before there is a ceiling.
func layHeapFloor() {
	heapFloor = make([]byte, 16<<20)
	if set := debug.SetMemoryLimit(-1); set < math.MaxInt64 { // by GOMEMLIMIT
		debug.SetMemoryLimit(set + int64(len(heapFloor)))
	}
}

// set puts a ceiling into force; 0 is none.
func (c *ceiling) set(most int64) {
	switch old := c.most.Swap(most); {
	case most > 0:
		debug.SetMemoryLimit(int64(collectAt*float64(most)) + int64(len(heapFloor)))
	case old > 0:
		debug.SetMemoryLimit(math.MaxInt64)
	} // else GOMEMLIMIT holds
	c.measure()
}

// isTight reports whether nothing new may be begun. As long as that is so it looks each time: the foreman may rest meanwhile.
func (c *ceiling) isTight() bool {
	if c.tight.Load() {
		c.measure()
	}
	return c.tight.Load()
}

// measure looks how much memory is taken.
func (c *ceiling) measure() {
	most := c.most.Load()
	c.tight.Store(most > 0 && memoryTaken() > int64(refuseAt*float64(most)))
}

// memoryTaken returns the bytes of memory that the Go runtime has of the system and uses.
func memoryTaken() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64()-samples[1].Value.Uint64()) - int64(len(heapFloor))
}

// ceilingOf returns what the daemon may take with these settings: what they say, or what the system leaves it.
func ceilingOf(l limits) int64 {
	if l.ProcessMemory > 0 || systemMemory == nil {
		return int64(l.ProcessMemory)
	}
	return systemMemory()
}
