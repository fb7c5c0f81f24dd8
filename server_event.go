package main

// This file owns Ipcd.Publish and Ipcd.Subscribe, by which callers send each other events. A subscription is a call whose
// parts are the events, and which goes on until it is cancelled.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
)

// A Publication is the argument of Ipcd.Publish.
type Publication struct {
	Topic string          `json:"topic"`
	Data  json.RawMessage `json:"data"` // null if it is missing
}

// A Published is the answer of Ipcd.Publish.
type Published struct {
	ID string `json:"id"` // "k3-17"
}

// A Subscription is the argument of Ipcd.Subscribe.
type Subscription struct {
	Topics []string `json:"topics"` // * stands for one token, > for all that follow
	After  string   `json:"after"`  // the id behind which it begins; empty for what is published from now on
}

// A Subscribed is the first part of the answer of Ipcd.Subscribe.
type Subscribed struct {
	Subscribed []string `json:"subscribed"`
	ID         string   `json:"id"` // what follows was published behind that event
}

// subscriptionPart describes the parts of the answer of Ipcd.Subscribe. As a variable it would be made at each start of a client.
func subscriptionPart() schema {
	return schema{"anyOf": []any{
		schema{"type": "object", "required": []any{"subscribed", "id"}, "properties": schema{
			"subscribed": schema{"type": "array", "items": schema{"type": "string"}}, "id": schema{"type": "string"}}},
		schema{"type": "object", "required": []any{"topic", "id", "time", "data"}, "properties": schema{
			"topic": schema{"type": "string"}, "id": schema{"type": "string"}, "time": schema{"type": "string", "format": "date-time"}, "data": schema{}}},
		schema{"type": "object", "required": []any{"missed", "id"}, "properties": schema{
			"missed": schema{"type": []any{"integer", "null"}, "minimum": 1}, "id": schema{"type": "string"}}},
	}}
}

// addEvents adds the two methods to the service Ipcd. They are not methods of a Go type, since they pass JSON on as it is.
func (s *server) addEvents(to *receiver) {
	publish, subscribe := describes[Publication, Published](), describes[Subscription, struct{}]()
	subscribe.Result, subscribe.Part = resultSchema(nil), subscriptionPart()
	for _, d := range []*Description{publish, subscribe} {
		d.forms = newGobForms(d.Argument.read(), d.Result.read())
	}
	to.add("Publish", &method{
		name: publishMethod, doc: "sends an event to all subscribers of a topic", argument: documentType, result: documentType, described: publish,
		invoke: func(ctx context.Context, arg any) (any, error) { return s.publish(ctx, *arg.(*document)) },
	})
	to.add("Subscribe", &method{
		name: subscribeMethod, doc: "sends the events of topics as parts of its answer, until it is cancelled", argument: documentType, part: documentType, described: subscribe, endless: true,
		invoke: func(ctx context.Context, arg any) (any, error) { return nil, s.subscribe(ctx, *arg.(*document)) },
	})
}

// publish publishes an event for the caller.
func (s *server) publish(ctx context.Context, arg document) (any, error) {
	p, _ := callerOf(ctx) // nobody, without a call
	c, _ := ctx.Value(callKey).(*call)
	what, plain := plainPublication(arg)
	if !plain {
		if err := decodeBody(arg, &what); err != nil {
			return nil, err
		}
	}
	if isOwnTopic(what.Topic) {
		return nil, faultf(codeDenied, "access denied: %s is a topic of the daemon's own", shorten(what.Topic, 100))
	}
	if f := s.check(s.policy(), c, &p, rightPublish, what.Topic); f != nil {
		return nil, f
	}
	if what.Data == nil {
		what.Data = json.RawMessage(nullID)
	}
	id, f := s.router.events.publish(what.Topic, document(what.Data))
	if f != nil {
		return nil, f
	}
	return document(`{"id":"` + id + `"}`), nil // Published
}

// plainPublication reads an argument that is as nearly all are: its members have their exact names, and the topic is a string
// without escapes. By decodeBody, which reads all others, one event takes a third longer.
func plainPublication(arg document) (what Publication, ok bool) {
	if len(arg) == 0 || arg[0] != '{' {
		return what, false
	}
	var topic []byte
	for w := enter(arg); ; {
		name, value, more := w.member()
		switch {
		case !more:
			what.Topic = string(topic)
			return what, topic != nil
		case string(name) == "topic" && value[0] == '"' && bytes.IndexByte(value, '\\') < 0:
			topic = value[1 : len(value)-1]
		case string(name) == "data":
			what.Data = json.RawMessage(value)
		default:
			return Publication{}, false
		}
	}
}

// maxSubscription is how long the argument of Ipcd.Subscribe may be: long enough for all topics that one may have, with an escape for
// each letter. To decode a longer one could take a hundred times as much memory.
const maxSubscription = 256 << 10

// subscribe sends the caller the events of topics.
func (s *server) subscribe(ctx context.Context, arg document) error {
	c, isCall := ctx.Value(callKey).(*call)
	if !isCall || c.parts == "" {
		return faultf(codeInvalid, `the events come as parts of the answer, and this call asks for none; call it by JSON-RPC 2.0 with a token in "parts", or over HTTP with Accept: text/event-stream`)
	}
	if len(arg) > maxSubscription {
		return faultf(codeBadArgument, "the topics take %d bytes; expected at most %d topics of at most %d", len(arg), maxPatterns, maxTopic)
	}
	var what Subscription
	if err := decodeBody(arg, &what); err != nil {
		return err
	}
	topics := what.Topics[:min(len(what.Topics), maxPatterns)]
	defer s.note(c, topics)() // before the rules are asked: others may be put into force meanwhile
	for _, pattern := range topics {
		if f := s.check(s.policy(), c, c.peer, rightSubscribe, pattern); f != nil {
			return f
		}
	}
	events, f := s.router.events.subscribe(*c.peer, s.accountOf(c.peer), s.limitsOf(c.peer).MaxSubscriptions, what.Topics, what.After)
	if f != nil {
		return f
	}
	defer events.close()
	first, err := json.Marshal(Subscribed{what.Topics, events.place})
	for value, last := document(first), events.start; err == nil && value != nil; {
		if err = c.deliver(value, false); errors.Is(err, &fault{Code: codeTooLarge}) { // by a limit of before a reload
			err = c.deliver(events.hub.missed("1", last), false)
		}
		if err == nil { // otherwise the caller would hear of it with the next event alone
			value, last = events.next(ctx)
		}
	}
	return cmp.Or(err, ctx.Err())
}

// note notes a call of Ipcd.Subscribe, until the function that it returns is called.
func (s *server) note(c *call, topics []string) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers[c] = topics
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, c)
	}
}

// endSubscriptions ends those of whoever may do nothing any more by the policy. Of others they go on: they were allowed when they began.
func (s *server) endSubscriptions(pol *policy) {
	s.mu.Lock()
	calls := maps.Clone(s.subscribers)
	s.mu.Unlock()
	for c, topics := range calls {
		from, ok := c.from.(*session)
		if !ok || len(topics) == 0 || pol.mayEnter(c.peer) {
			continue
		}
		f := pol.decide(c.peer, rightSubscribe, topics[0]).refusal(c.peer, rightSubscribe, topics[0])
		from.background(func() { from.giveUp(c, context.Canceled, f) })
	}
}
