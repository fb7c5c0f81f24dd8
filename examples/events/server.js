// Shows events of ipcd in a browser: node server.js PATH TOPIC..., with the path of the daemon's socket or pipe. It prints the address of
// its page, whose key keeps out the other users of this machine, and passes on what that page asks of /events and nothing else.
const http = require('http')
const fs = require('fs')
const path = require('path')
const crypto = require('crypto')

const [socketPath, ...topics] = process.argv.slice(2)
const key = crypto.randomBytes(16).toString('hex')

// Whoever has the key may still be the page of somebody else, by a name that leads here, or with an address that was seen.
function isForeign ({ host, origin, 'sec-fetch-site': site = 'none' }) {
  const own = [`127.0.0.1:${server.address().port}`, `localhost:${server.address().port}`]
  return !own.includes(host) || (origin && origin !== `http://${host}`) || !['same-origin', 'none'].includes(site)
}

const server = http.createServer((request, response) => {
  const refuse = (status) => response.writeHead(status).end()
  if (isForeign(request.headers)) return refuse(403)
  if (request.method !== 'GET') return refuse(405)
  if (!URL.canParse(request.url, 'http://localhost')) return refuse(404)
  const { pathname, search } = new URL(request.url, 'http://localhost')
  if (pathname === `/${key}/`) {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-store' })
    return fs.createReadStream(path.join(__dirname, 'page.html')).pipe(response)
  }
  if (pathname !== `/${key}/events`) return refuse(404)
  const headers = { Accept: 'text/event-stream' } // the browser's Origin and Referer are ours, not the daemon's
  const last = request.headers['last-event-id']
  if (last) headers['Last-Event-ID'] = last
  const upstream = http.get({ socketPath, path: '/events' + search, headers }, (answer) => {
    response.writeHead(answer.statusCode, { 'Content-Type': answer.headers['content-type'], 'Cache-Control': 'no-store' })
    answer.on('error', () => response.end()).pipe(response)
  })
  upstream.on('error', () => response.headersSent ? response.end() : refuse(502))
  response.on('close', () => upstream.destroy()) // ends the subscription
})
server.listen(0, '127.0.0.1', () => {
  const query = new URLSearchParams(topics.map((topic) => ['topic', topic]))
  console.log(`http://127.0.0.1:${server.address().port}/${key}/?${query}`)
})
