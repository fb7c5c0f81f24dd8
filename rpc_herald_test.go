package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A gateSink takes the place of a subscriber at which events are held up until it is opened.
type gateSink struct {
	come chan string // the topics that have come
	open chan bool
}

func newGateSink(h *hub, topic string) *gateSink {
	b := &gateSink{make(chan string, 100), make(chan bool)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sinks.add(topic, b)
	return b
}

func (b *gateSink) take(e *event) {
	b.come <- e.topic
	<-b.open
}

func tellOf(h *hub, topics ...string) {
	for _, topic := range topics {
		h.tell(topic, func() any { return 1 })
	}
}

// Whoever causes an event of the daemon's own does not wait until the subscribers have it, and whoever subscribes meanwhile gets
// what is told from then on; with an after, all that comes.
func TestTellingWaitsForNobody(t *testing.T) {
	h := newTestHub(nil)
	b, s := newGateSink(h, "ipcd.held"), subscribeTo(t, h, "", "ipcd.>")
	tellOf(h, "held")
	receive(t, b.come)
	tellOf(h, "a", "b")
	late := subscribeTo(t, h, "", "ipcd.>")
	back := subscribeTo(t, h, "k-1", "ipcd.>")
	told := 0
	h.tell("c", func() any { told++; return 1 })
	h.tell("nobody.asks", func() any { told++; return 1 })
	tellOf(h, "a")
	close(b.open)
	h.herald.rest()
	if got, want := waits(s), []string{"ipcd.held 1", "ipcd.a 2", "ipcd.b 3", "ipcd.c 4", "ipcd.nobody.asks 5", "ipcd.a 6"}; !slices.Equal(got, want) {
		t.Errorf("there come %q; want %q", got, want)
	}
	if got, want := waits(late), []string{"ipcd.c 4", "ipcd.nobody.asks 5", "ipcd.a 6"}; !slices.Equal(got, want) {
		t.Errorf("to one who has subscribed later come %q; want %q", got, want)
	}
	if got := waits(back); len(got) != 5 || got[0] != "ipcd.a 2" {
		t.Errorf("to one who has come again there come %q", got)
	}
	s.close()
	late.close()
	back.close()
	h.tell("c", func() any { told++; return 1 })
	if h.herald.rest(); told != 2 || h.published() != 7 {
		t.Errorf("of three events, of which one has nobody, %d were made, and the last has the number %d", told, h.published())
	}
}

// The daemon's own events that have no room are counted by their topics, and missing behind those that had. Then it goes on.
func TestOwnEventsWithoutRoomAreMissing(t *testing.T) {
	h := newTestHub(func(l *limits) { l.StreamWindow = 700 })
	h.keep([]topicSettings{{"ipcd.a", 100}})
	b := newGateSink(h, "ipcd.held")
	s, other, nobody := subscribeTo(t, h, "", "ipcd.>"), subscribeTo(t, h, "", "ipcd.b", "ipcd.held"), subscribeTo(t, h, "", "c")
	tellOf(h, "held")
	receive(t, b.come)
	for range 20 {
		tellOf(h, "a", "b")
	}
	waiting := len(h.herald.queue)
	if waiting < 2 || waiting > 6 || h.herald.held > 700 {
		t.Errorf("%d events wait, of %d bytes", waiting, h.herald.held)
	}
	close(b.open)
	h.herald.rest()
	got := waits(s)
	tellOf(h, "a")
	h.herald.rest()
	got = append(got, waits(s)...)
	if want := fmt.Sprintf(`{"missed":%d,"id":"k-41"}`, 40-waiting); len(got) != waiting+3 || got[waiting+1] != want || got[waiting+2] != "ipcd.a 42" {
		t.Errorf("there come %q; want %d, %s, and one more", got, waiting+1, want)
	}
	if got := waits(other); len(got) != waiting/2+2 || got[len(got)-1] != fmt.Sprintf(`{"missed":%d,"id":"k-41"}`, 20-waiting/2) {
		t.Errorf("of another topic come %q", got)
	}
	if got := waits(nobody); got != nil {
		t.Errorf("of a topic that is not the daemon's there comes %q", got)
	}
	got = waits(subscribeTo(t, h, "k-2", "ipcd.a"))
	if len(got) < 3 || !strings.HasPrefix(got[0], `{"missed":null,`) || got[len(got)-1] != "ipcd.a 42" {
		t.Errorf("to one who comes again there come %q", got)
	}
	if got := waits(subscribeTo(t, h, "k-41", "ipcd.a")); !slices.Equal(got, []string{"ipcd.a 42"}) {
		t.Errorf("to one who has heard of what is missing come %q", got)
	}
}

// Of more topics than can be counted it is said that something is missing, to whoever may miss it.
func TestOwnEventsOfManyTopicsAreMissing(t *testing.T) {
	h := newTestHub(func(l *limits) { l.StreamWindow = 1000 })
	h.keep([]topicSettings{{"*.a.*", 100}})
	b := newGateSink(h, "ipcd.held")
	var to []*subscription
	for _, pattern := range []string{">", "ipcd.>", "*.a.x", "ipcd.b"} {
		to = append(to, subscribeTo(t, h, "", pattern))
	}
	none := subscribeTo(t, h, "", "ipcd", "*", "a.b", "a.>")
	tellOf(h, "held")
	receive(t, b.come)
	for i := range 1000 {
		tellOf(h, fmt.Sprint("a.", i))
	}
	close(b.open)
	h.herald.rest()
	tellOf(h, "a.x")
	h.herald.rest()
	for _, s := range to {
		got := waits(s)
		if !slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, `{"missed":null,"id":"k-`) }) {
			t.Errorf("to %q come %q", s.where, got)
		}
	}
	if got := waits(none); got != nil {
		t.Errorf("to one who can miss nothing come %q", got)
	}
	last := waits(subscribeTo(t, h, "k-1", "ipcd.a.x"))
	if len(last) != 2 || !strings.HasPrefix(last[0], `{"missed":null,`) || !strings.HasPrefix(last[1], "ipcd.a.x ") {
		t.Errorf("to one who comes again there come %q", last)
	}
}

// Whoever publishes and tells at the same time, all get all in one order: that of the numbers, and what one goroutine has told in the
// order of its telling. What they have no room for is counted.
func TestOwnEventsAndOthersInOneOrder(t *testing.T) {
	const tellers, publishers, each = 3, 3, 300
	h := newTestHub(func(l *limits) { l.StreamWindow = 20 << 10 })
	var to []*subscription
	for i := range 3*heraldStep + 7 {
		to = append(to, subscribeAs(t, h, fmt.Sprint(i%5), nil, ">", "ipcd.>", "*.t0"))
	}
	var wg, readers sync.WaitGroup
	over := make(chan bool)
	for _, s := range to[:20] { // the others do not read
		readers.Go(func() { checkOrder(t, s, over, tellers+publishers, each) })
	}
	for i := range tellers {
		wg.Go(func() {
			for n := range each {
				h.tell(fmt.Sprint("t", i), func() any { return n })
			}
		})
	}
	for i := range publishers {
		wg.Go(func() {
			for n := range each {
				if _, f := h.publish(fmt.Sprint("p.p", i), document(fmt.Sprint(n))); f != nil {
					t.Error(f)
				}
			}
		})
	}
	wg.Wait()
	h.herald.rest()
	close(over)
	readers.Wait()
	for _, s := range to[20:] {
		checkOrder(t, s, over, tellers+publishers, each)
	}
	if held := h.held.Load(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

// checkOrder reads all that comes until over is closed and nothing waits.
func checkOrder(t *testing.T, s *subscription, over chan bool, sources, each int) {
	next, all, before := map[string]int{}, 0, uint64(0)
	for {
		ended := false
		select {
		case <-over:
			ended = true
		default:
		}
		value, last := s.poll(t.Context())
		if value == nil {
			if ended {
				break
			}
			select {
			case <-over:
			case <-s.ready:
			}
			continue
		}
		var e struct {
			Topic        string
			Data, Missed int
		}
		if err := json.Unmarshal(value, &e); err != nil {
			t.Error(err)
			return
		}
		if last <= before || e.Topic != "" && e.Data < next[e.Topic] {
			t.Errorf("behind %d comes %s; want the data %d or more", before, value, next[e.Topic])
		}
		if before = last; e.Topic != "" {
			next[e.Topic] = e.Data + 1
			e.Missed = 1
		}
		all += e.Missed
	}
	if all != sources*each {
		t.Errorf("%d events have come or are missing; want %d", all, sources*each)
	}
}

// has says of each topic what covers does of any of the patterns.
func TestTopicTreeHasWhatPatternsCover(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(tokens []string) string {
		var list []string
		for range 1 + r.IntN(4) {
			list = append(list, tokens[r.IntN(len(tokens))])
		}
		return strings.Join(list, ".")
	}
	for range 2000 {
		tree, patterns := topicTree{}, []string{}
		for range r.IntN(4) {
			p := text([]string{"a", "b", "*"})
			if r.IntN(3) == 0 {
				p += ".>"
			}
			patterns = append(patterns, p)
			tree.add(p, nil)
		}
		topic := text([]string{"a", "b", "c"})
		if got, want := tree.has(topic), slices.ContainsFunc(patterns, func(p string) bool { return covers(p, topic) }); got != want {
			t.Fatalf("a tree of %q has %s: %v; want %v", patterns, topic, got, want)
		}
	}
}
