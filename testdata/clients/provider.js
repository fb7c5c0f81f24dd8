// A provider by vscode-jsonrpc, which frames its messages with headers: provider.js PATH
const net = require('net')
const rpc = require('vscode-jsonrpc/node')

const socket = net.connect(process.argv[2])
const c = rpc.createMessageConnection(new rpc.StreamMessageReader(socket), new rpc.StreamMessageWriter(socket))
const methods = {
  'Code.Count': (text) => text.split(' ').length,
  'Code.Hello': ({ name }) => `hello, ${name}`,
  'Code.Nothing': () => null,
  'Code.Fail': () => { throw new rpc.ResponseError(7, 'no paper', { tray: 2 }) },
  'Code.Steps': async ({ steps, workDoneToken, partialResultToken }) => {
    for (let step = 1; step <= steps; step++) {
      if (workDoneToken != null) await c.sendProgress(new rpc.ProgressType(), workDoneToken, { kind: 'report', percentage: 100 * step / steps })
      if (partialResultToken != null) await c.sendProgress(new rpc.ProgressType(), partialResultToken, `step ${step}`)
    }
    return partialResultToken != null ? null : steps
  },
  'Code.Relay': (text) => c.sendRequest('Echo.Say', text),
  'Code.Wait': (text, token) => new Promise((resolve) => {
    console.log(text, 'waits')
    token.onCancellationRequested(() => {
      console.log(text, 'was cancelled')
      resolve(null)
    })
  })
}
for (const name in methods) c.onRequest(name, methods[name])
c.listen()
const offered = Object.keys(methods).map((method) => method === 'Code.Steps' ? { method, part: {} } : method)
c.sendRequest('Ipcd.Register', { methods: offered }).then(() => console.log('registered'))
