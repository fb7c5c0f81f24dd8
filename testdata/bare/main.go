// Bare is the least Go program that calls a daemon with net/rpc: the measure for
// BenchmarkProcess.
package main

import (
	"fmt"
	"net/rpc"
	"os"
)

func main() {
	c, err := rpc.Dial("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var answer string
	if err := c.Call("Echo.Say", "hello", &answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(answer)
}
