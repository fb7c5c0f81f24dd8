package main

// This file owns what becomes of a connection whose next request may begin elsewhere than where we see it: behind a proxy that reads
// the framing of a request otherwise than net/http, what one caller has put into a body would be another one's request
// ("request smuggling", RFC 9112, section 11.2). net/http refuses most of what is ambiguous; this is the rest.

import (
	"bytes"
	"net/http"
	"sync/atomic"
)

// lengthHeader is cut at its hyphen, by which it is found in any case.
var lengthHeader = [2][]byte{[]byte("content"), []byte("length")}

// A framingWatch looks for a Content-Length among the bytes of a connection. net/http removes it from a request that has a
// Transfer-Encoding as well, so that no handler sees that it was there.
type framingWatch struct {
	length atomic.Bool // one has come at some time: in which request is not known, since requests may come together
	tail   []byte      // the last bytes that have come, for one that comes in pieces
}

// look looks at bytes that have come.
func (w *framingWatch) look(b []byte) {
	if w.length.Load() {
		return
	}
	const keep = len("content-length") - 1
	seam := append(w.tail, b[:min(len(b), keep)]...)
	if hasLength(seam) || hasLength(b) {
		w.length.Store(true)
		w.tail = nil
		return
	}
	if len(b) < keep {
		b = seam
	}
	w.tail = append(w.tail[:0], b[max(0, len(b)-keep):]...)
}

func hasLength(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '-')
		if i < 0 {
			return false
		}
		before, after := b[:i], b[i+1:]
		if n := len(lengthHeader[0]); i >= n && bytes.EqualFold(before[i-n:], lengthHeader[0]) &&
			len(after) >= len(lengthHeader[1]) && bytes.EqualFold(after[:len(lengthHeader[1])], lengthHeader[1]) {
			return true
		}
		b = after
	}
}

// isDoubtful reports whether the request has to be the last one of its connection. One in chunks is where it could have a length
// besides: RFC 9112, section 6.1, wants that. So is one of HTTP/1.0, where net/http overlooks a Transfer-Encoding.
func (w *framingWatch) isDoubtful(r *http.Request) bool {
	return !r.ProtoAtLeast(1, 1) || len(r.TransferEncoding) > 0 && w.length.Load()
}
