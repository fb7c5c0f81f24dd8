package main

// This file owns the programs that publish events and get them. nats.go has what is NATS's of it.

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"time"
)

// eventsAtOnce is how many events are published without a look at what has arrived. Twice as many are on their way at most, so that
// none is lost: they have room in the queue of every subscriber, and limits.max_calls is set to more. What is beyond that is dropped
// after a second, without a word, as notifications have no answer.
const eventsAtOnce = 256

// A bus takes events and brings them to all who have subscribed.
type bus interface {
	// publish publishes events, each of which is a JSON string.
	publish(events [][]byte) error

	// subscribe returns once a subscription over a connection of its own is there. take gets the events that are published from then on,
	// or the error that ends it.
	subscribe(take func(event []byte, err error)) error
}

// An eventsTurner publishes events, and sees to it that each comes to every subscriber once. An order is not asked for: ipcd keeps
// none for whoever does not wait for the answer to one before the next.
type eventsTurner struct {
	bus
	events  [][]byte      // of two batches, which are published by turns
	arrived [2]chan error // of each subscriber, once it has the whole batch
	many    int           // subscribers
}

// turn returns the number of events, each of which all subscribers have.
func (c *eventsTurner) turn(w workload, end time.Time) (n int, err error) {
	if c.many == 0 {
		if err := c.gather(w.callers, w.bytes); err != nil {
			return 0, err
		}
	}
	batches := 0
	for ; batches == 0 || time.Now().Before(end); batches++ {
		if batches > 1 {
			if err := c.await(batches - 2); err != nil {
				return 0, err
			}
		}
		half := batches % 2 * eventsAtOnce
		if err := c.publish(c.events[half : half+eventsAtOnce]); err != nil {
			return 0, err
		}
	}
	for last := max(0, batches-2); last < batches; last++ {
		if err := c.await(last); err != nil {
			return 0, err
		}
	}
	return batches * eventsAtOnce, nil
}

// await waits until all subscribers have the batch.
func (c *eventsTurner) await(batch int) error {
	for range c.many {
		if err := <-c.arrived[batch%2]; err != nil {
			return err
		}
	}
	return nil
}

// gather subscribes so many times, to events of so many bytes.
func (c *eventsTurner) gather(many, size int) error {
	for i := range 2 * eventsAtOnce {
		c.events = append(c.events, fmt.Appendf(nil, "%q", partOf(nil, i, size-2)))
	}
	c.many = many
	for i := range c.arrived {
		c.arrived[i] = make(chan error, many)
	}
	for range many {
		s := &eventsTaker{turner: c, has: make([]bool, len(c.events)), lacks: [2]int{eventsAtOnce, eventsAtOnce}}
		if err := c.subscribe(s.take); err != nil {
			return err
		}
	}
	return nil
}

// An eventsTaker is one subscriber.
type eventsTaker struct {
	turner *eventsTurner
	has    []bool // of the events on their way
	lacks  [2]int // events of each batch
}

func (s *eventsTaker) take(event []byte, err error) {
	i := 0
	if err == nil {
		i, err = s.number(event)
	}
	half := i / eventsAtOnce
	if err != nil {
		s.turner.arrived[half] <- err
		return
	}
	s.has[i] = true
	if s.lacks[half]--; s.lacks[half] == 0 {
		s.lacks[half] = eventsAtOnce
		clear(s.has[half*eventsAtOnce:][:eventsAtOnce])
		s.turner.arrived[half] <- nil
	}
}

// number returns which event that is, of those that may come.
func (s *eventsTaker) number(event []byte) (n int, err error) {
	for _, c := range bytes.TrimPrefix(event, []byte{'"'}) {
		if c < '0' || c > '9' || n >= len(s.has) {
			break
		}
		n = 10*n + int(c-'0')
	}
	if n >= len(s.has) || !bytes.Equal(event, s.turner.events[n]) {
		return 0, fmt.Errorf("instead of an event there comes %.200q", event)
	}
	if s.has[n] {
		return 0, fmt.Errorf("an event has come twice: %.20q", event)
	}
	return n, nil
}

// buses connect to a server as publishers.
var buses = map[string]func(server string) (bus, error){
	"events": newIpcdBus,
}

const eventsTopic = "bench.event"

// An ipcdBus publishes by notifications, which are not answered.
type ipcdBus struct {
	socket string
	out    *bufio.Writer
}

func newIpcdBus(socket string) (bus, error) {
	conn, err := dial(socket)
	return &ipcdBus{socket, bufio.NewWriterSize(conn, socketRoom)}, err
}

func (b *ipcdBus) publish(events [][]byte) error {
	for _, e := range events {
		b.out.WriteString(`{"jsonrpc":"2.0","method":"Ipcd.Publish","params":[{"topic":"` + eventsTopic + `","data":`)
		b.out.Write(e)
		b.out.WriteString("}]}\n")
	}
	return b.out.Flush()
}

func (b *ipcdBus) subscribe(take func([]byte, error)) error {
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, socketRoom)
	if err := subscribe(conn, in, eventsTopic, 1); err != nil {
		return err
	}
	go func() {
		for {
			event, err := nextEvent(in)
			take(event, err)
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// subscribe subscribes to a topic by the call with that id.
func subscribe(conn io.Writer, in *bufio.Reader, topic string, id int) error {
	if _, err := fmt.Fprintf(conn, `{"jsonrpc":"2.0","id":%d,"method":"Ipcd.Subscribe","params":[{"topics":[%q]}],"parts":%d}`, id, topic, id); err != nil {
		return err
	}
	line, err := in.ReadSlice('\n')
	if err == nil && !bytes.Contains(line, []byte(`"value":{"subscribed":`)) {
		err = fmt.Errorf("the subscription is answered with %.200s", line)
	}
	return err
}

// nextEvent returns the data of the next event.
func nextEvent(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	_, data, begun := bytes.Cut(line, []byte(`","data":`))
	data, ended := bytes.CutSuffix(data, []byte("}}}\n"))
	if !begun || !ended {
		return nil, fmt.Errorf("instead of an event there comes %.200s", line)
	}
	return data, nil
}
