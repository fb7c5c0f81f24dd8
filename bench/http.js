// The sides node-http and ipcd-node-http: "http.js serve SOCKET" is a bare server, "http.js call SOCKET" takes turns over connections that
// are kept, each of which has one call at a time.
const http = require('http')
const { takeTurns, leaveWithBench } = require('./turns.js')
const [what, socketPath] = process.argv.slice(2)

// whole promises what a request or an answer has in its body, parsed.
const whole = (message) => new Promise((resolve) => {
  const parts = []
  message.on('data', (part) => parts.push(part)).on('end', () => resolve(JSON.parse(Buffer.concat(parts))))
})

const headers = (body) => ({ 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) })

if (what === 'serve') {
  http.createServer(async (request, answer) => {
    const body = JSON.stringify(await whole(request))
    answer.writeHead(200, headers(body)).end(body)
  }).listen({ path: socketPath, backlog: 4096 }, () => console.log(socketPath))
  leaveWithBench()
} else {
  takeTurns(() => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    return (value) => new Promise((resolve, reject) => {
      const body = JSON.stringify(value)
      http.request({
        agent, socketPath, method: 'POST', path: `/call/Echo.${typeof value === 'string' ? 'Say' : 'SayTen'}`, headers: headers(body)
      }, (answer) => resolve(whole(answer))).on('error', reject).end(body)
    })
  }, () => process.exit())
}
