// Node's net and http: node.js SOCKET PORT PORT-OF-HTTP. Prints one line for each exchange.
const net = require('net')
const http = require('http')
const [socketPath, port, web] = process.argv.slice(2)

function overNet (where, text, answers) {
  return new Promise((resolve, reject) => {
    let got = ''
    const socket = net.connect(where, () => {
      for (const char of Buffer.from(text)) socket.write(Buffer.from([char])) // one byte a write
    })
    socket.setEncoding('utf8')
    socket.on('error', reject)
    socket.on('data', (data) => {
      got += data
      if (got.split('\n').length > answers) socket.end()
    })
    socket.on('close', () => resolve(got.trim().split('\n').sort().join(' ')))
  })
}

function overHTTP (options, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ method: 'POST', headers: { 'Content-Type': 'application/json' }, ...options }, (response) => {
      let got = ''
      response.on('data', (data) => { got += data })
      response.on('end', () => resolve(`${response.statusCode} ${got.trim()}`))
    })
    request.on('error', reject)
    request.end(body)
  })
}

async function main () {
  const two = '{"jsonrpc":"2.0","id":1,"method":"Echo.Say","params":["ä"]}{"id":2,"method":"Ipcd.Ping","params":[]}\n'
  console.log('unix', await overNet({ path: socketPath }, two, 2))
  console.log('tcp', await overNet({ port: Number(port), host: '127.0.0.1' }, two, 2))
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  for (const where of [{ socketPath }, { port, host: '127.0.0.1' }, { port: web, host: '127.0.0.1' }]) {
    const name = 'http ' + Object.keys(where)[0]
    const say = { ...where, path: '/call/Echo.Say', agent }
    console.log(name, (await Promise.all(['"one"', '"zwölf"'].map((text) => overHTTP(say, text)))).join(' '))
    console.log(name, await overHTTP({ ...where, path: '/rpc', agent }, '[{"jsonrpc":"2.0","id":"b","method":"Ipcd.Ping"}]'))
    console.log(name, await overHTTP({ ...where, path: '/rpc', agent }, '{"jsonrpc":"2.0","method":"Ipcd.Ping"}'))
    console.log(name, await overHTTP({ ...say, path: '/call/Echo.Sai' }, '""'))
  }
  agent.destroy()
}
main().catch((err) => { console.log(err.message); process.exitCode = 1 })
