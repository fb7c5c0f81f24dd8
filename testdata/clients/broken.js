// A broken request, with many behind it: broken.js SOCKET PORT. Prints how many clients were told, of those that sent so many.
const net = require('net')
const [path, port] = process.argv.slice(2)
const say = (id, text) => JSON.stringify({ jsonrpc: '2.0', id, method: 'Echo.Say', params: [text] }) + '\n'

function once (where, behind) {
  return new Promise((resolve) => {
    let got = ''
    const socket = net.connect(where)
    socket.setEncoding('utf8')
    socket.on('error', (err) => { got += err.code })
    socket.on('data', (data) => { got += data })
    socket.on('close', () => resolve(got))
    socket.write(say(1, 'first'))
    socket.write(say(2, 'caf\ud83d')) // half of a surrogate pair, as of a text that was cut in an emoji
    for (let id = 3; id < 3 + behind; id++) socket.write(say(id, 'x'))
  })
}

async function main () {
  for (const [name, where] of Object.entries({ local: { path }, tcp: { port, host: '127.0.0.1' } })) {
    for (const behind of [1, 10, 200]) {
      const all = await Promise.all(Array.from({ length: 20 }, () => once(where, behind)))
      // The answers come in any order, and nothing else does, an error of the socket least of all.
      const told = (got) => got.replace('{"jsonrpc":"2.0","id":1,"result":"first"}\n', '').match(/^\{"jsonrpc":"2.0","id":null,"error":\{"code":-32700,.*\n$/) && got.includes('first')
      console.log(name, behind, all.filter(told).length, all.find((got) => !told(got)) || '')
    }
  }
}
main()
