package main

// This file owns services that are made of a Go type by reflection: which of its methods can be called, and how their
// arguments, parts and results pass to and fro.

import (
	"context"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A receiver is a Go value whose methods are called by reflection.
type receiver struct {
	methods map[string]*method
	sorted  []string
}

func (r *receiver) names() []string            { return r.sorted }
func (r *receiver) method(name string) *method { return r.methods[name] }

// add adds a method that is not one of the Go value.
func (r *receiver) add(name string, m *method) {
	r.methods[name] = m
	r.sorted = append(r.sorted, name)
	slices.Sort(r.sorted)
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
	stringType  = reflect.TypeFor[string]()
	bytesType   = reflect.TypeFor[[]byte]()

	documentType = reflect.TypeFor[document]()
)

// methodForms are the forms of methods that can be called. Those with a context may take part behind the argument, which
// sends a part of the answer in advance: progress, or an element of a stream. It waits while the caller has no room for it, and
// does nothing for a caller who has asked for no parts (see wantsParts). After an error there is no point in sending more, and
// after the method has returned nothing more is sent. The last form is net/rpc's.
const methodForms = "func (t *T) Method(ctx context.Context, arg A) (R, error); " +
	"func (t *T) Method(ctx context.Context, arg A) error; " +
	"func (t *T) Method(ctx context.Context) (R, error); " +
	"func (t *T) Method(ctx context.Context) error; " +
	"func (t *T) Method(ctx context.Context, arg A, part func(P) error) (R, error); " +
	"func (t *T) Method(arg A, reply *R) error"

// newReceiver returns a service with the exported methods of v, and its name, which is that of v's type. Each of them has
// to have one of the forms above. docs has a line of documentation by the name of the method, for any of them.
//
// A method that is found by reflection is called by it, too. Where that is too slow, v has a method bound, which returns the
// method values by their names. In the same way computes returns the names of those that wait for nothing.
func newReceiver(v any, docs map[string]string) (name string, s *receiver, err error) {
	value := reflect.ValueOf(v)
	name = reflect.Indirect(value).Type().Name()
	s = &receiver{methods: map[string]*method{}}
	var bound map[string]any
	if b, ok := v.(interface{ bound() map[string]any }); ok {
		bound = b.bound()
	}
	var others []string
	for i := range value.NumMethod() {
		short, fn := value.Type().Method(i).Name, value.Method(i)
		if f := bound[short]; f != nil {
			fn = reflect.ValueOf(f)
		}
		m := newGoMethod(fn)
		if m == nil {
			others = append(others, fmt.Sprintf("%s.%s is a %s", name, short, fn.Type()))
			continue
		}
		m.name, m.doc = name+"."+short, docs[short]
		s.methods[short] = m
		s.sorted = append(s.sorted, short)
	}
	switch {
	case others != nil:
		return "", nil, fmt.Errorf("%s; give it another name, one that is not exported, or one of these forms: %s", strings.Join(others, ", "), methodForms)
	case s.sorted == nil:
		return "", nil, fmt.Errorf("%T has no exported method; one has to have one of these forms: %s", v, methodForms)
	}
	slices.Sort(s.sorted)
	if b, ok := v.(interface{ computes() []string }); ok {
		for _, short := range b.computes() {
			s.methods[short].computes = true
		}
	}
	return name, s, nil
}

// newGoMethod returns a method that calls fn, or nil if fn has none of the forms.
func newGoMethod(fn reflect.Value) *method {
	t := fn.Type()
	if t.IsVariadic() || t.NumOut() == 0 || t.Out(t.NumOut()-1) != errorType {
		return nil
	}
	in, out := t.NumIn(), t.NumOut()
	part := partOf(t)
	if part != nil {
		in--
	}
	switch {
	case (in == 1 || in == 2) && t.In(0) == contextType && (out == 1 || out == 2 && t.Out(0) != errorType):
		m := &method{part: part, invoke: invokeContext(fn)}
		if in == 2 {
			m.argument = t.In(1)
		}
		if out == 2 {
			m.result = t.Out(0)
		}
		return m
	case part == nil && in == 2 && out == 1 && t.In(1).Kind() == reflect.Pointer:
		m := &method{argument: t.In(0), result: t.In(1).Elem(), invoke: invokeReply(fn)}
		if m.argument.Kind() == reflect.Pointer { // as in net/rpc, it never is nil
			m.argument = m.argument.Elem()
		}
		return m
	}
	return nil
}

// partOf returns the type of the parts that a method sends by its last parameter, a func(P) error, or nil.
func partOf(t reflect.Type) reflect.Type {
	if t.NumIn() == 0 {
		return nil
	}
	f := t.In(t.NumIn() - 1)
	if f.Kind() != reflect.Func || f.NumIn() != 1 || f.IsVariadic() || f.NumOut() != 1 || f.Out(0) != errorType {
		return nil
	}
	return f.In(0)
}

// invokeContext calls a method of a form with a context. The commonest types avoid reflection, which would cost as
// much as the rest of a small call.
func invokeContext(fn reflect.Value) func(context.Context, any) (any, error) {
	switch f := fn.Interface().(type) {
	case func(context.Context, string) (string, error):
		return func(ctx context.Context, arg any) (any, error) { return f(ctx, *arg.(*string)) }
	case func(context.Context, []byte) ([]byte, error):
		return func(ctx context.Context, arg any) (any, error) { return f(ctx, *arg.(*[]byte)) }
	}
	t := fn.Type()
	sendsParts, returnsResult := partOf(t) != nil, t.NumOut() == 2
	return func(ctx context.Context, arg any) (any, error) {
		in := []reflect.Value{reflect.ValueOf(ctx)}
		if arg != nil {
			in = append(in, reflect.ValueOf(arg).Elem())
		}
		if sendsParts {
			in = append(in, partSender(ctx, t.In(t.NumIn()-1)))
		}
		out := fn.Call(in)
		if err, _ := out[len(out)-1].Interface().(error); err != nil || !returnsResult {
			return nil, err
		}
		result := reflect.New(out[0].Type())
		result.Elem().Set(out[0])
		return resultAt(result), nil
	}
}

// partSender returns the function of that type by which a method sends the parts of the answer to the call of ctx.
func partSender(ctx context.Context, t reflect.Type) reflect.Value {
	c, _ := ctx.Value(callKey).(*call)
	return reflect.MakeFunc(t, func(in []reflect.Value) []reflect.Value {
		err := reflect.New(errorType).Elem()
		if c != nil {
			if failed := c.sendPart(in[0].Interface()); failed != nil {
				err.Set(reflect.ValueOf(failed))
			}
		}
		return []reflect.Value{err}
	})
}

// wantsParts reports whether the caller of the call that ctx belongs to has asked for the answer in parts.
func wantsParts(ctx context.Context) bool {
	c, ok := ctx.Value(callKey).(*call)
	return ok && c.parts != ""
}

// invokeReply calls a method of net/rpc's form.
func invokeReply(fn reflect.Value) func(context.Context, any) (any, error) {
	replyType, takesPointer := fn.Type().In(1).Elem(), fn.Type().In(0).Kind() == reflect.Pointer
	return func(_ context.Context, arg any) (any, error) {
		reply := reflect.New(replyType)
		// As in net/rpc, a method may use its reply without making the map or slice first.
		switch replyType.Kind() {
		case reflect.Map:
			reply.Elem().Set(reflect.MakeMap(replyType))
		case reflect.Slice:
			reply.Elem().Set(reflect.MakeSlice(replyType, 0, 0))
		}
		argument := reflect.ValueOf(arg)
		if !takesPointer {
			argument = argument.Elem()
		}
		out := fn.Call([]reflect.Value{argument, reply})
		if err, _ := out[0].Interface().(error); err != nil {
			return nil, err
		}
		return resultAt(reply), nil
	}
}

// leaving returns a value as resultAt returns a result: the data of an error, a part of an answer.
func leaving(v any) any {
	if _, passed := v.(document); passed || v == nil {
		return v
	}
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	return resultAt(p)
}

// resultAt returns the result that p points to as it goes to the codec: by the pointer, so that an encoder that is a method
// of the pointer is found, and any is seen to be any. Not every caller survives null at the top (Go's own jsonrpc client
// does not), so a slice or a map that is nil is empty instead, and a pointer to a struct that is nil is no result.
func resultAt(p reflect.Value) any {
	for p.Elem().Kind() == reflect.Pointer && !p.Elem().IsNil() {
		p = p.Elem()
	}
	t := p.Type().Elem()
	if k := t.Kind(); (k == reflect.Pointer || k == reflect.Map || k == reflect.Slice) && p.Elem().IsNil() {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch k, own := t.Kind(), writesItself(t); {
		case k == reflect.Struct && !own:
			return nil
		case k == reflect.Map && !own:
			p = reflect.New(t)
			p.Elem().Set(reflect.MakeMap(t))
		case k == reflect.Slice && !own:
			p = reflect.New(t)
			p.Elem().Set(reflect.MakeSlice(t, 0, 0))
		case p.Elem().Kind() == reflect.Pointer:
			return p.Elem().Interface() // of a pointer to it, gob would send nothing at all
		}
	}
	switch v := p.Interface().(type) { // what codecs encode without reflection
	case *string:
		return *v
	case *[]byte:
		return *v
	case *document:
		return *v
	case *bool:
		return *v
	case *int:
		return *v
	}
	return p.Interface()
}

// ownEncoders are the interfaces by which some codec has a type encode itself.
var ownEncoders = []reflect.Type{jsonMarshalerType, textMarshalerType, reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[interface{ GobEncode() ([]byte, error) }]()}

// writesItself reports whether t or a pointer to it has a method that encodes it.
func writesItself(t reflect.Type) bool {
	return slices.ContainsFunc(ownEncoders, reflect.PointerTo(t).Implements)
}
