// Two public JSON-RPC clients, jayson and vscode-jsonrpc: npm.js SOCKET PORT PORT-OF-HTTP.
// Prints one line for each exchange.
const net = require('net')
const jayson = require('jayson/promise')
const rpc = require('vscode-jsonrpc/node')
const [path, port, web] = process.argv.slice(2)

async function ofJayson (name, client) {
  await client.request('Echo.Say', ['a notification'], null)
  const { result } = await client.request('Echo.Say', [`from ${name}`])
  console.log(name, result)
  const { error } = await client.request('Echo.Sai', ['x'])
  console.log(name, error.code, JSON.stringify(error.data))
  const batch = await client.request([client.request('Ipcd.Ping', [], undefined, false), client.request('Echo.Say', ['b'], undefined, false)])
  console.log(name, batch.map((answer) => answer.result).sort().join(' '))
}

async function ofVSCode (name, where) {
  const socket = net.connect(where)
  const c = rpc.createMessageConnection(new rpc.StreamMessageReader(socket), new rpc.StreamMessageWriter(socket))
  c.listen()
  console.log(name, await c.sendRequest('Echo.Say', `from ${name}`))
  await c.sendNotification('Echo.Say', 'a notification')
  console.log(name, await c.sendRequest('Trial.Parcel', { name: 'by name' }).then((p) => p.name))
  console.log(name, await c.sendRequest('Echo.Sai', 'x').catch((err) => `${err.code} ${JSON.stringify(err.data)}`))
  console.log(name, (await Promise.all(['a', 'b', 'c'].map((text) => c.sendRequest('Echo.Say', text)))).join(' '))
  const source = new rpc.CancellationTokenSource()
  const blocked = c.sendRequest('Trial.Block', 'k', source.token).catch((err) => err.code)
  await c.sendRequest('Ipcd.Ping') // answered though the other is not
  source.cancel()
  console.log(name, await blocked)
  c.end()
  c.dispose()
  socket.end()
}

async function main () {
  await ofJayson('jayson tcp', jayson.Client.tcp({ host: '127.0.0.1', port: Number(port) }))
  await ofJayson('jayson http', jayson.Client.http({ host: '127.0.0.1', port: Number(port), path: '/rpc' }))
  await ofJayson('jayson unix', jayson.Client.tcp({ path }))
  await ofJayson('jayson http alone', jayson.Client.http({ host: '127.0.0.1', port: Number(web), path: '/rpc' }))
  await ofJayson('jayson http unix', jayson.Client.http({ socketPath: path, path: '/rpc' }))
  await ofVSCode('vscode unix', { path })
  await ofVSCode('vscode tcp', { host: '127.0.0.1', port: Number(port) })
}
main().catch((err) => { console.log(err); process.exitCode = 1 })
