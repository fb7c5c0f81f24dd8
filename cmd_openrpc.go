package main

// This file owns the OpenRPC document (spec.open-rpc.org) of what a daemon answers: for generators of clients and
// documentation. What OpenRPC has no place for stands under x-.

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// An OpenRPC is the document.
type OpenRPC struct {
	Version    string          `json:"openrpc"`
	Info       OpenRPCInfo     `json:"info"`
	Servers    []OpenRPCServer `json:"servers,omitempty"`
	Methods    []OpenRPCMethod `json:"methods"`
	Components struct {
		Schemas map[string]any `json:"schemas,omitempty"` // the definitions of all schemas
	} `json:"components,omitzero"`
	AnyMethods []string `json:"x-any-methods,omitempty"` // Service.*: whatever that service is asked for
}

type OpenRPCInfo struct {
	Title   string `json:"title"`
	Version string `json:"version"` // of the daemon
}

type OpenRPCServer struct {
	URL string `json:"url"`
}

type OpenRPCMethod struct {
	Name           string         `json:"name"`
	Summary        string         `json:"summary,omitempty"`
	ParamStructure string         `json:"paramStructure"`
	Params         []OpenRPCValue `json:"params"` // one, or none
	Result         OpenRPCValue   `json:"result"`
	Errors         []OpenRPCError `json:"errors,omitempty"`
	Since          string         `json:"x-since,omitempty"`
	Idempotent     bool           `json:"x-idempotent,omitempty"`
	ReadOnly       bool           `json:"x-readOnly,omitempty"`
	Destructive    bool           `json:"x-destructive,omitempty"`
	Part           any            `json:"x-part,omitempty"` // JSON Schema
}

// An OpenRPCValue is an argument or a result: a Content Descriptor.
type OpenRPCValue struct {
	Name     string `json:"name"`
	Schema   any    `json:"schema"`
	Required bool   `json:"required,omitempty"`
}

type OpenRPCError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// openRPC returns the document of a method, a service, or with no name of everything.
func (f *clientFlags) openRPC(ctx context.Context, c caller, name string) (*OpenRPC, error) {
	var status Status
	if err := f.ask(ctx, c, "Ipcd.Status", nil, &status); err != nil {
		return nil, err
	}
	doc := &OpenRPC{Version: "1.3.2", Info: OpenRPCInfo{Title: "ipcd at " + f.at.String(), Version: status.Version}, Methods: []OpenRPCMethod{}}
	for _, e := range status.Endpoints {
		doc.Servers = append(doc.Servers, OpenRPCServer{URL: e})
	}
	names := []string{name}
	if name == "" {
		var list []Listing
		if err := f.ask(ctx, c, "Ipcd.List", nil, &list); err != nil {
			return nil, err
		}
		names = nil
		for _, l := range list {
			if service, _, _ := strings.Cut(l.Method, "."); !slices.Contains(names, service) {
				names = append(names, service)
			}
		}
	}
	for _, n := range names {
		var list []Description
		err := f.ask(ctx, c, "Ipcd.Describe", n, &list)
		if name == "" && errors.Is(err, &fault{Code: codeNoMethod}) {
			continue // it has just left
		}
		if err != nil {
			return nil, err
		}
		for i := range list {
			if d := &list[i]; d.Cut {
				var whole []Description
				if err := f.ask(ctx, c, "Ipcd.Describe", d.Method, &whole); err == nil && len(whole) == 1 { // otherwise it has just left
					*d = whole[0]
				}
			}
			doc.add(&list[i])
		}
	}
	return doc, nil
}

// add adds a method to the document.
func (doc *OpenRPC) add(d *Description) {
	if strings.HasSuffix(d.Method, "."+anyMethod) {
		doc.AnyMethods = append(doc.AnyMethods, d.Method)
		return
	}
	at := "/methods/" + strconv.Itoa(len(doc.Methods))
	m := OpenRPCMethod{
		Name: d.Method, Summary: d.Doc, ParamStructure: "by-position", Params: []OpenRPCValue{},
		Result: OpenRPCValue{Name: "result", Schema: doc.place(d.Result, at+"/result/schema", d.Method+".result")},
		Since:  d.Since, Idempotent: d.Idempotent, ReadOnly: d.ReadOnly, Destructive: d.Destructive,
	}
	if d.Argument != nil { // one that may be anything may be missing, too
		m.Params = append(m.Params, OpenRPCValue{Name: "argument", Schema: doc.place(d.Argument, at+"/params/0/schema", d.Method+".argument"), Required: len(d.Argument) > 0})
	}
	if d.Part != nil {
		m.Part = doc.place(d.Part, at+"/x-part", d.Method+".part")
	}
	for _, e := range d.Errors {
		m.Errors = append(m.Errors, OpenRPCError{Code: e.Code, Message: e.Doc})
	}
	doc.Methods = append(doc.Methods, m)
}

// place returns a schema as it stands at a place of the document, from whose top its references lead. Its definitions
// go to the components, under names that do not depend on what else there is: beside a $ref they would be ignored (JSON Schema draft 7), and validators do
// not find them there. The schema is no document of its own any more, and loses the $id of one.
func (doc *OpenRPC) place(s schema, at, name string) any {
	if s == nil { // what has no result
		return map[string]any{"type": "null"}
	}
	id, _ := s["$id"].(string)
	placed := rebased(map[string]any(s), func(ref string) string {
		if rest, ok := strings.CutPrefix(ref, id); ok && (rest == "" || rest[0] == '#') {
			ref = cmp.Or(rest, "#")
		}
		for _, key := range definitions {
			if rest, ok := strings.CutPrefix(ref, "#/"+key+"/"); ok {
				return "#/components/schemas/" + name + "." + rest
			}
		}
		if ref == "#" || strings.HasPrefix(ref, "#/") {
			return "#" + at + ref[1:]
		}
		return ref
	}).(map[string]any)
	for _, key := range definitions {
		defs, _ := placed[key].(map[string]any)
		for def, s := range defs {
			if doc.Components.Schemas == nil {
				doc.Components.Schemas = map[string]any{}
			}
			doc.Components.Schemas[name+"."+def] = s
		}
		delete(placed, key)
	}
	delete(placed, "$id")
	delete(placed, "$schema")
	return placed
}

// definitions are the members of a schema that hold what others refer to: since draft 2019-09, and before.
var definitions = []string{"$defs", "definitions"}

// namedSchemas are the members of a schema that hold schemas by name, and plainValues those that hold values.
var (
	namedSchemas = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
	plainValues  = []string{"const", "default", "enum", "examples"}
)

// rebased returns a copy of v, a part of a schema, with other references.
func rebased(v any, refer func(ref string) string) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = rebased(e, refer)
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for key, e := range v {
			ref, isText := e.(string)
			named, isObject := e.(map[string]any)
			switch {
			case key == "$ref" && isText:
				e = refer(ref)
			case slices.Contains(plainValues, key):
			case isObject && slices.Contains(namedSchemas, key):
				schemas := map[string]any{}
				for name, s := range named {
					schemas[name] = rebased(s, refer)
				}
				e = schemas
			default:
				e = rebased(e, refer)
			}
			object[key] = e
		}
		return object
	}
	return v
}
