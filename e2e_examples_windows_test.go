package main

// This file owns the examples as Windows runs them: of the greeters, the one of Node.js.

import "testing"

func TestAllExamples(t *testing.T) {
	needTool(t, "node")
	checkAllExamples(t, "greeter")
}
