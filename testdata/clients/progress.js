// Two callers by vscode-jsonrpc that choose the same tokens for the progress of a call: progress.js PATH
// Prints what each is told, and its result.
const net = require('net')
const rpc = require('vscode-jsonrpc/node')

async function ask (tokens) {
  const socket = net.connect(process.argv[2])
  const c = rpc.createMessageConnection(new rpc.StreamMessageReader(socket), new rpc.StreamMessageWriter(socket))
  const said = []
  c.onProgress(new rpc.ProgressType(), 'work', (value) => said.push(value.percentage))
  c.onProgress(new rpc.ProgressType(), 1, (value) => said.push(value))
  c.onUnhandledProgress((params) => said.push(params))
  c.listen()
  said.push(await c.sendRequest('Code.Steps', { steps: 4, ...tokens }))
  c.end()
  c.dispose()
  socket.end()
  return JSON.stringify(said)
}

async function main () {
  const both = { workDoneToken: 'work', partialResultToken: 1 }
  for (const tokens of [both, both, { workDoneToken: 1 }, {}].map(ask)) console.log(await tokens)
}
main().catch((err) => { console.log(err); process.exitCode = 1 })
