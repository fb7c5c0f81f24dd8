//go:build modules

package main

// This file owns calls over HTTP, with net/http and encoding/json at both ends, or at the caller's alone. The paths are those of ipcd.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

func init() {
	servers["http"] = serveHTTP
	echoers["http"] = newHTTPEchoer
}

const callPath = "/call/"

func serveHTTP(l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+callPath+"Echo.Say", echoJSON[string])
	mux.HandleFunc("POST "+callPath+"Echo.SayTen", echoJSON[Ten])
	return http.Serve(l, mux)
}

func echoJSON[T any](w http.ResponseWriter, r *http.Request) {
	var v T
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// An httpEchoer has a connection that it keeps.
type httpEchoer struct {
	http.Client
	url string
}

func newHTTPEchoer(server, method string) (echoer, error) {
	conns := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(server) },

		MaxConnsPerHost:    1,
		DisableCompression: true,
	}
	return &httpEchoer{http.Client{Transport: conns}, "http://bench" + callPath + method}, nil
}

func (c *httpEchoer) say(text string) (answer string, err error) {
	err = c.post("", text, &answer)
	return answer, err
}

func (c *httpEchoer) sayTen(ten Ten) (answer Ten, err error) {
	err = c.post("Ten", ten, &answer)
	return answer, err
}

func (c *httpEchoer) post(suffix string, value, answer any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	r, err := c.Post(c.url+suffix, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(r.Body)
		return fmt.Errorf("the answer is %s: %.200s", r.Status, text)
	}
	if err := json.NewDecoder(r.Body).Decode(answer); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r.Body) // or the connection is not kept
	return err
}
