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
c.sendRequest('Ipcd.Register', { methods: Object.keys(methods) }).then(() => console.log('registered'))
