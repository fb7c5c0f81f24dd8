package main

// This file owns the framing of requests over HTTP: nothing that one caller has put into a body, or behind it, becomes a request of
// its own where a proxy could have seen it otherwise.

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each row is sent with a plain request behind it, which is answered where the framing leaves no doubt, and with it the connection
// ends. What is smuggled is a call; it must never be one.
func TestSmuggledRequests(t *testing.T) {
	body := sayRequest
	request := func(head, body string) string {
		return "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + head + "\r\n" + body
	}
	smuggled := request(fmt.Sprintf("Content-Length: %d\r\n", len(body)), strings.Replace(body, "hello", "smuggled", 1))
	chunk := func(size, text string) string { return size + "\r\n" + text + "\r\n0\r\n\r\n" }
	size := fmt.Sprintf("%x", len(body))
	inChunks := chunk(size, body)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	const chunked = "Transfer-Encoding: chunked\r\n"
	inside := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(smuggled), smuggled) // the body is a request
	refused, closed, goesOn := []string{"400"}, []string{"200"}, []string{"200", "200"}
	for _, row := range []struct {
		name, send string
		want       []string // the statuses of the answers
	}{
		{"a plain one", request(length, body), goesOn},
		{"in chunks", request(chunked, inChunks), goesOn},
		{"a length and chunks, the chunks end first", request(chunked+fmt.Sprintf("Content-Length: %d\r\n", len(inChunks)+len(smuggled)), inChunks+smuggled), closed},
		{"a length and chunks, the length ends first", request("CONTENT-length: 4\r\n"+chunked, inChunks), closed},
		{"a length that is none, and chunks", request("Content-Length: x\r\n"+chunked, inChunks), refused},
		{"a length in the request before", request(length, body) + request(chunked, inChunks), goesOn},
		{"two lengths", request(length+"Content-Length: 4\r\n", body), refused},
		{"one length twice", request(length+length, body), goesOn},
		{"a list of lengths", request(fmt.Sprintf("Content-Length: %d, %[1]d\r\n", len(body)), body), refused},
		{"a length with a sign", request(fmt.Sprintf("Content-Length: +%d\r\n", len(body)), body), refused},
		{"a length below zero", request("Content-Length: -1\r\n", body), refused},
		{"a length in hex", request("Content-Length: 0x"+size+"\r\n", body), refused},
		{"an empty length", request("Content-Length: \r\n", body), refused},
		{"a length beyond all numbers", request("Content-Length: 18446744073709551617\r\n", body), refused},
		{"a space before the colon", request(fmt.Sprintf("Content-Length : %d\r\n", len(body)), body), refused},
		{"a space before the colon of the encoding", request("Transfer-Encoding : chunked\r\n", inChunks), refused},
		{"another encoding", request("Transfer-Encoding: xchunked\r\n", inChunks), []string{"501"}},
		{"two encodings", request("Transfer-Encoding: gzip, chunked\r\n", inChunks), []string{"501"}},
		{"no encoding", request("Transfer-Encoding: identity\r\n"+length, body), []string{"501"}},
		{"chunks twice", request(chunked+chunked, inChunks), []string{"501"}},
		{"an encoding behind a control character", request("Transfer-Encoding: \vchunked\r\n", inChunks), refused},
		{"a folded length", request(fmt.Sprintf("Content-Length:\r\n %d\r\n", len(body)), body), goesOn}, // RFC 9112, 5.2: or it is refused
		{"a folded first header", "GET /healthz HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n", refused},
		{"CR alone in a header", request("X: y\rContent-Length: 4\r\n"+length, body), refused},
		{"NUL in a header", request("X: y\x00\r\n"+length, body), refused},
		{"a parameter of a chunk", request(chunked, chunk(size+";a=b", body)), goesOn},
		{"a parameter of a chunk that ends in LF alone", request(chunked, size+";a=b\n"+body+"\r\n0\r\n\r\n"), refused},
		{"a chunk whose size ends in LF alone", request(chunked, size+"\n"+body+"\r\n0\r\n\r\n"), refused},
		{"a chunk with a sign", request(chunked, chunk("+"+size, body)), refused},
		{"a chunk in the notation of C", request(chunked, chunk("0x"+size, body)), refused},
		{"a chunk behind a blank", request(chunked, chunk(" "+size, body)), refused},
		{"a chunk beyond all numbers", request(chunked, chunk("1"+strings.Repeat("0", 16-len(size))+size, body)), refused},
		{"a length in a trailer", request(chunked+"Trailer: Content-Length\r\n", size+"\r\n"+body+"\r\n0\r\nContent-Length: 4\r\n\r\n"), refused},
		{"a token in a trailer", request(chunked+"Trailer: Authorization\r\n", size+"\r\n"+body+"\r\n0\r\nAuthorization: x\r\n\r\n"), goesOn},
		{"HTTP/1.0 that stays", strings.Replace(request("Connection: keep-alive\r\n"+length, body), "1.1", "1.0", 1), closed},
		{"HTTP/1.0 with chunks, which it does not have", strings.Replace(request("Connection: keep-alive\r\n"+chunked+length, body), "1.1", "1.0", 1) + smuggled, closed},
		{"the body of a request that has none", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + inside, goesOn},
		{"the body of a wrong method", "POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + inside, []string{"405", "200"}},
		{"the body of an unknown path", "POST /nothing HTTP/1.1\r\nHost: localhost\r\n" + inside, []string{"404", "200"}},
		{"the body of a wrong header", "POST /call/Echo.Say HTTP/1.1\r\nHost: localhost\r\nIpcd-Timeout: x\r\nContent-Type: application/json\r\n" + inside, []string{"400", "200"}},
		{"two hosts", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: example.com\r\n\r\n", refused},
		{"no host", "GET /healthz HTTP/1.1\r\n\r\n", refused},
		{"another protocol on the way", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", goesOn},
		{"an expectation that nobody has", request("Expect: everything\r\n"+length, body), []string{"417"}},
		{"a header that does not end", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 3*maxHTTPHeader) + "\r\n\r\n", []string{"431"}},
		{"headers without end", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", maxHTTPHeader/2) + "\r\n", []string{"431"}},
		{"a path that does not end", "GET /" + strings.Repeat("a", 3*maxHTTPHeader) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", []string{"431"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, localEndpoint(t).String())
			conn := s.connect()
			go io.WriteString(conn, row.send+"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") // the rest may not be read
			b, _ := io.ReadAll(conn)
			var got []string
			for _, m := range regexp.MustCompile(`HTTP/1\.[01] (\d+) `).FindAllStringSubmatch(string(b), -1) {
				got = append(got, m[1])
			}
			if !slices.Equal(got, row.want) || strings.Contains(string(b), "smuggled") {
				t.Errorf("it is answered with\n%s\nwhich has the statuses %v; want %v, and nothing smuggled", b, got, row.want)
			}
		})
	}
}

// A header is found however its bytes come.
func TestFramingWatch(t *testing.T) {
	const text = "POST /rpc HTTP/1.1\r\nX-Content-Type: a-b\r\nCONTENT-Length: 4\r\n\r\n"
	end := strings.Index(text, "Length") + len("Length")
	for _, size := range []int{1, 2, 3, 5, 7, 12, 13, 14, 20, len(text)} {
		var w framingWatch
		for at := 0; at < len(text); at += size {
			piece := text[at:min(at+size, len(text))]
			w.look([]byte(piece))
			if got, want := w.length.Load(), at+len(piece) >= end; got != want {
				t.Errorf("in pieces of %d, after %q: %v; want %v", size, text[:at+len(piece)], got, want)
			}
		}
	}
	var w framingWatch
	w.look([]byte("content_length content-lengt content-type tent-length -length content-"))
	if w.look([]byte("type")); w.length.Load() {
		t.Error("it has seen a length where none was")
	}
}
