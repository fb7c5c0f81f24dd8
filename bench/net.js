// The sides node-net and ipcd-node-net: JSON-RPC, a message a line. "net.js serve SOCKET" is a bare server, "net.js call SOCKET" takes
// turns.
const net = require('net')
const { takeTurns, leaveWithBench, answers } = require('./turns.js')
const [what, socket] = process.argv.slice(2)

// lines calls take with each message of a connection.
const lines = (conn, take) => {
  let parts = [] // of the line that has not ended
  conn.setEncoding('utf8').on('data', (data) => {
    let from = 0
    for (let at; (at = data.indexOf('\n', from)) >= 0; from = at + 1) {
      parts.push(data.slice(from, at))
      take(JSON.parse(parts.join('')))
      parts = []
    }
    if (from < data.length) parts.push(data.slice(from))
  })
}

if (what === 'serve') {
  net.createServer((conn) => {
    lines(conn, ({ id, params }) => conn.write(JSON.stringify({ jsonrpc: '2.0', id, result: params[0] }) + '\n'))
    conn.on('error', () => {})
  }).listen({ path: socket, backlog: 4096 }, () => console.log(socket))
  leaveWithBench()
} else {
  takeTurns(() => new Promise((resolve, reject) => {
    const conn = net.connect(socket, () => resolve((value) => wait((id) => conn.write(JSON.stringify({
      jsonrpc: '2.0', id, method: typeof value === 'string' ? 'Echo.Say' : 'Echo.SayTen', params: [value]
    }) + '\n')))).on('error', reject)
    const { wait, bring } = answers()
    lines(conn, ({ id, result }) => bring(id, result))
  }), () => process.exit())
}
