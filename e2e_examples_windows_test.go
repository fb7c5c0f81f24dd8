package main

// This file owns the examples as Windows runs them: of the greeters, those of Node.js and Go.

import "testing"

func TestAllExamples(t *testing.T) {
	needTool(t, "node")
	checkAllExamples(t, "greeter")
}

// The greeter of Go opens the pipe that Windows has for programs other than Node.js.
func TestGreeterOfGo(t *testing.T) {
	s, _ := hire(t, "[[worker]]\nname = \"greeter\"\ncommand = ['"+needEnv(t, "IPCD_GREETER_EXE")+"']\nservices = [\"GreeterGo\"]\n")
	for range 3 {
		if got := answered[string](t, s, "GreeterGo.Hello", map[string]string{"name": "Zoë"}); got != "hello, Zoë" {
			t.Errorf("it says %q", got)
		}
	}
}
