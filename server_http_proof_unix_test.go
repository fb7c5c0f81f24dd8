//go:build unix

package main

// This file owns what a page in a real browser makes of a token, which it should not have got: nothing, unless it is sent by a program.

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hostilePage tries what a page can send to another origin, and what a browser may send along for it. Each attempt says how it ended.
const hostilePage = `<!doctype html><body><script>
const token = %q, target = %q
document.cookie = 'Authorization=Bearer ' + token
document.cookie = 'token=' + token
const call = '"x"', url = 'http://' + target + '/call/Echo.Say', rpc = '{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["x"]}'
const tries = {
  header: () => fetch(url, { method: 'POST', body: call, headers: { authorization: 'Bearer ' + token, 'content-type': 'application/json' } }),
  cookies: () => fetch(url, { method: 'POST', body: call, credentials: 'include', mode: 'no-cors' }),
  json: () => fetch(url, { method: 'POST', body: call, credentials: 'include', headers: { 'content-type': 'application/json' } }),
  query: () => fetch(url + '?access_token=' + token, { method: 'POST', body: rpc, mode: 'no-cors' }),
  authenticate: () => fetch('http://' + target + '/', { method: 'POST', mode: 'no-cors', body: '{"id":1,"method":"Ipcd.Authenticate","params":["' + token + '"]}\n' + rpc }),
  userinfo: () => fetch('http://ci:' + token + '@' + target + '/rpc', { method: 'POST', body: rpc, mode: 'no-cors' }),
  password: () => new Promise((done, fail) => {
    const x = new XMLHttpRequest()
    x.onload = () => done({ type: x.status }); x.onerror = () => fail(new Error('failed'))
    x.open('POST', url, true, 'Bearer', token); x.withCredentials = true; x.send(call)
  }),
  socket: () => new Promise((done, fail) => {
    const w = new WebSocket('ws://' + target + '/rpc?token=' + token, ['bearer', token])
    w.onopen = () => done({ type: 'open' }); w.onerror = () => fail(new Error('failed'))
  }),
  image: () => new Promise((done, fail) => {
    const i = new Image()
    i.onload = () => done({ type: 'loaded' }); i.onerror = () => fail(new Error('failed')); i.src = 'http://ci:' + token + '@' + target + '/call/Echo.Say'
  }),
  form: () => new Promise((done) => {
    const frame = document.createElement('iframe'); frame.name = 'f'; document.body.append(frame)
    const form = document.createElement('form'); form.method = 'POST'; form.enctype = 'text/plain'; form.target = 'f'
    form.action = 'http://' + target + '/rpc?access_token=' + token
    form.innerHTML = '<input name=\'{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["x"],"x":"\' value=\'"}\'>'
    document.body.append(form)
    frame.onload = () => done({ type: 'opaque' }); form.submit()
  }),
}
;(async () => {
  for (const [name, attempt] of Object.entries(tries)) {
    let end
    try { const r = await attempt(); end = r.type === 'opaque' ? 'unread' : 'READ ' + r.type } catch (e) { end = 'failed' }
    document.body.append(name + ': ' + end, document.createElement('br'))
  }
  document.body.append('done')
})()
</script>`

func TestPagesShowNoToken(t *testing.T) {
	s := startProven(t, nil, "http://127.0.0.1:0", "tcp://127.0.0.1:0", "http://127.0.0.1:0?auth=none")
	text := makeToken(t, s.gate.tokens, "ci", nil)
	b := startBrowser(t)
	for _, e := range s.endpoints {
		page := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(rw, hostilePage, text, e.Host)
		}))
		rejected := s.meter.rejected.Load()
		b.open(page.URL + "/")
		got := b.wait("done")
		page.Close()
		if strings.Contains(got, "READ") || strings.Count(got, "failed")+strings.Count(got, "unread") != 10 {
			t.Errorf("%s: a page of another origin:\n%s", e, got)
		}
		if s.meter.rejected.Load() < rejected+5 {
			t.Errorf("%s: %d requests were refused; want that the attempts have come:\n%s", e, s.meter.rejected.Load()-rejected, got)
		}
	}
	if n := s.meter.calls.Load(); n != 0 {
		t.Errorf("pages have made %d calls; want none", n)
	}
	if log := s.log.String(); strings.Contains(log, text) {
		t.Errorf("the log has the token:\n%s", log)
	}
}
