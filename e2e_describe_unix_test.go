//go:build unix

package main

// This file owns the promise of "ipcd describe": its example can be pasted into a shell, and its document is OpenRPC.

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestExampleIsPasted gives each line that describe shows to a shell, and wants a provider to get the argument.
func TestExampleIsPasted(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	var methods []string
	for i, test := range exampleTests {
		methods = append(methods, fmt.Sprintf(`{"method":"T.M%d","argument":%s}`, i, test.schema))
	}
	register(t, provider, "["+strings.Join(methods, ",")+"]")
	for i, test := range exampleTests {
		if test.argument == "" {
			continue
		}
		described := printed(t, exec.Command("ipcd", "describe", "-e", s.endpoints[0].String(), fmt.Sprintf("T.M%d", i)))
		_, line, found := strings.Cut(described, "\n  example\n    ")
		if !found {
			t.Fatalf("there is no example of %s: %s", test.schema, described)
		}
		line, _, _ = strings.Cut(line, "\n") // others follow where anything is taken
		provider.SetDeadline(time.Now().Add(testPatience))
		answer := inTheBackground(exec.Command("sh", "-c", line))
		var asked struct {
			ID     int
			Params []json.RawMessage
		}
		must(t, json.Unmarshal([]byte(readLine(t, provider)), &asked))
		send(t, provider, fmt.Sprintf(`{"id":%d,"result":"well"}`, asked.ID))
		if got := receive(t, answer); got != "well\n" || len(asked.Params) != 1 || string(asked.Params[0]) != test.argument {
			t.Errorf("%s asks for %s, and prints %s; want %s", line, asked.Params, got, test.argument)
		}
	}
}

// openRPCMethods are what a registration can say of a method, in the spellings that a document must not fall over.
const openRPCMethods = `["Far.Bare","Old.*",
	{"method":"Far.All","doc":"does it all","since":"1.2","idempotent":true,"readOnly":true,"destructive":true,"argument":` + taskSchema + `,
	 "result":{"type":"array","items":{"$ref":"#"}},"part":{"type":"object","properties":{"next":{"$ref":"#/properties/n"},"n":{"type":"integer"}}},"errors":[{"code":7,"doc":"no such task"},{"code":8}]},
	{"method":"Far.None","argument":null,"result":null},
	{"method":"Far.Odd","argument":{"properties":{"$ref":{"type":"string"},"enum":{"$ref":"#/properties/$ref"},"const":{"enum":[{"$ref":"#/nowhere"}]}}},
	 "result":{"$id":"https://example.com/odd","$schema":"https://json-schema.org/draft/2020-12/schema",
	  "properties":{"a":{"$ref":"#/definitions/b"},"c":{"$ref":"https://example.com/odd#/properties/a"}},"definitions":{"b":{"type":"string"}}}}]`

// TestOpenRPC has the public meta-schema judge the document, and each reference in it lead somewhere.
func TestOpenRPC(t *testing.T) {
	node, modules := needTool(t, "node"), filepath.Join(needEnv(t, "IPCD_NPM_DIR"), "node_modules")
	s := startServer(t, localEndpoint(t).String(), "http://127.0.0.1:0?auth=none")
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	register(t, provider, openRPCMethods)
	for _, name := range []string{"", "Trial", "Far.All"} {
		text := printed(t, exec.Command("ipcd", append([]string{"describe", "--openrpc", "-e", s.endpoints[0].String()}, strings.Fields(name)...)...))
		judge := exec.Command(node, "testdata/clients/openrpc.js")
		judge.Env = append(os.Environ(), "NODE_PATH="+modules)
		judge.Stdin = strings.NewReader(text)
		if said := <-inTheBackground(judge); said != "valid\n" {
			t.Errorf("the document of %q is %s\nIt is said of it: %s", name, text, said)
		}
	}
}

func TestOpenRPCSaysEverything(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	register(t, provider, openRPCMethods)
	var doc OpenRPC
	must(t, json.Unmarshal([]byte(printed(t, exec.Command("ipcd", "describe", "--openrpc", "-e", s.endpoints[0].String(), "Far"))), &doc))
	want := map[string]OpenRPCMethod{
		"Far.All": {Summary: "does it all", Since: "1.2", Idempotent: true, ReadOnly: true, Destructive: true, Params: []OpenRPCValue{{Name: "argument", Required: true}},
			Errors: []OpenRPCError{{7, "no such task"}, {8, ""}}},
		"Far.Bare": {Params: []OpenRPCValue{{Name: "argument"}}}, "Far.None": {Params: []OpenRPCValue{}}, "Far.Odd": {Params: []OpenRPCValue{{Name: "argument", Required: true}}},
	}
	for _, m := range doc.Methods {
		schema, err := json.Marshal(m)
		must(t, err)
		for i := range m.Params {
			m.Params[i].Schema = nil
		}
		w := want[m.Name]
		w.Name, w.ParamStructure, w.Result = m.Name, "by-position", OpenRPCValue{Name: "result"}
		m.Result.Schema, m.Part = nil, nil
		if !reflect.DeepEqual(m, w) {
			t.Errorf("there is %+v; want %+v", m, w)
		}
		for _, part := range map[string][]string{
			"Far.All":  {`"schema":{"$ref":"#/components/schemas/Far.All.argument.Task"}`, `"items":{"$ref":"#/methods/0/result/schema"}`, `"next":{"$ref":"#/methods/0/x-part/properties/n"}`},
			"Far.Odd":  {`"$ref":{"type":"string"}`, `"enum":{"$ref":"#/methods/3/params/0/schema/properties/$ref"}`, `"const":{"enum":[{"$ref":"#/nowhere"}]}`, `"a":{"$ref":"#/components/schemas/Far.Odd.result.b"},"c":{"$ref":"#/methods/3/result/schema/properties/a"}`},
			"Far.None": {`"params":[],"result":{"name":"result","schema":{"type":"null"}}`},
		}[m.Name] {
			if !strings.Contains(string(schema), part) {
				t.Errorf("there is %s; want %s in it", schema, part)
			}
		}
		delete(want, m.Name)
	}
	if place, ok := doc.Components.Schemas["Far.All.argument.Place"]; !ok || len(doc.Components.Schemas) != 3 {
		t.Errorf("the components are %v, and a place is %v", doc.Components, place)
	}
	if len(want) > 0 || doc.AnyMethods != nil {
		t.Errorf("there is no %v, and there are %v", want, doc.AnyMethods)
	}
	must(t, json.Unmarshal([]byte(printed(t, exec.Command("ipcd", "describe", "--openrpc", "-e", s.endpoints[0].String()))), &doc))
	if len(doc.AnyMethods) != 1 || doc.AnyMethods[0] != "Old.*" || doc.Servers[0].URL != s.endpoints[0].String() || doc.Info.Version == "" {
		t.Errorf("the document is of %+v, %+v and %v", doc.Info, doc.Servers, doc.AnyMethods)
	}
}

// inTheBackground runs a command and returns what it prints.
func inTheBackground(cmd *exec.Cmd) <-chan string {
	out := make(chan string, 1)
	go func() {
		b, err := cmd.CombinedOutput()
		if err != nil {
			b = fmt.Append(b, err)
		}
		out <- string(b)
	}()
	return out
}
