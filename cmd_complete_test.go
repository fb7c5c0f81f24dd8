package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a provider has registered is completed as what is built in is: its methods, and the members of their arguments with
// what follows their names.
func TestCompletionKnowsProviders(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	register(t, provider, `["Old.*",{"method":"Far.Hello","doc":"greets","argument":{"type":"object","required":["name"],"properties":{
		"name":{"type":"string"},"age":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}},"mood":{"enum":["good","bad"]},"any":{}}}}]`)
	for _, test := range []struct{ words, want string }{
		{"call Far", "Far.Hello\tgreets|:4"},
		{"call Far.Hello ", "name=\tstring|age:=\tinteger|any=\tany|mood=\tany (one of good bad)|tags:=\tstring[]|:6"},
		{"call Far.Hello a", "age:=\tinteger|any=\tany|:6"},
		{"call Far.Hello name=Ada age:=36 ", "any=\tany|mood=\tany (one of good bad)|tags:=\tstring[]|:6"},
		{"call Far.Hello name=", ":4"},
		{"call Far.Hell ", ":6"},
		{"call O", "Old.|:6"},
		{"call Old.Thing ", ":6"},
		{"describe Far", "Far|Far.Hello\tgreets|:4"},
		{"describe Ol", "Old|:4"},
	} {
		words := strings.Split(test.words, " ")
		args := append([]string{"__complete", words[0], "--timeout", "20s", "-e", s.endpoints[0].String()}, words[1:]...)
		out, err := exec.Command("ipcd", args...).Output()
		must(t, err)
		if got := strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "|"); got != test.want {
			t.Errorf("%q is completed by %q; want %q", test.words, got, test.want)
		}
	}
}

// Topics that the configuration keeps are completed, without a daemon.
func TestCompletionKnowsTopics(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	must(t, os.WriteFile(file, []byte("[[topic]]\nname = \"build.done\"\n[[topic]]\nname = \"build.log.>\"\n[[topic]]\nname = \"web.access\"\n"), 0o600))
	for words, want := range map[string]string{
		"sub ":                 "build.done|build.log.>|web.access|ipcd.>|:4",
		"sub build":            "build.done|build.log.>|:4",
		"sub build.done build": "build.log.>|:4",
		"pub ":                 "build.done|web.access|:4",
		"pub build.done ":      ":4",
	} {
		cmd := exec.Command("ipcd", append([]string{"__complete"}, strings.Split(words, " ")...)...)
		cmd.Env = append(os.Environ(), "IPCD_CONFIG="+file)
		out, err := cmd.Output()
		must(t, err)
		if got := strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "|"); got != want {
			t.Errorf("%q is completed by %q; want %q", words, got, want)
		}
	}
}

// Names that a shell would take for something else are not offered: it inserts what several have in common as it is, and runs
// what is in $(...) at the next Tab.
func TestCompletionOffersNoCommands(t *testing.T) {
	s := startServer(t, localEndpoint(t).String())
	provider := rawDial(t, s.endpoints[0])
	defer provider.Close()
	register(t, provider, `[{"method":"Far.Hello","argument":{"type":"object","properties":{
		"$(reboot)a":{},"$(reboot)b":{},"`+"`reboot`"+`":{},"a;reboot":{},"a b":{},"a\tb":{},"a\nb":{},"~":{},"--config":{},"@file":{},"{a,b}":{},"a*":{},"!1":{},"a'b":{},"":{},"\u202ea":{},
		"größe":{},"a-b.c/d":{}}}}]`)
	out, err := exec.Command("ipcd", "__complete", "call", "--timeout", "20s", "-e", s.endpoints[0].String(), "Far.Hello", "").Output()
	must(t, err)
	if got, want := strings.TrimSpace(string(out)), "a-b.c/d=\tany\ngröße=\tany\n:6"; got != want {
		t.Errorf("the members are completed by\n%s\nwant\n%s", got, want)
	}
}
