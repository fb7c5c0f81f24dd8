// A provider: it registers Words.Count and is called over the connection that it has made; when the daemon restarts,
// it registers again: node provider.js PATH, the path of the daemon's socket or pipe
const net = require('net')

const methods = {
  'Words.Count': (text) => text.split(/\s+/).filter(Boolean).length
}

function connect () {
  const socket = net.connect(process.argv[2]).setEncoding('utf8')
  const send = (message) => socket.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n')
  let rest = ''
  socket.on('connect', () => send({ id: 'r', method: 'Ipcd.Register', params: [{ methods: Object.keys(methods), share: true }] }))
  socket.on('data', (data) => {
    const lines = (rest + data).split('\n')
    rest = lines.pop()
    for (const { id, method, params = [], result, error } of lines.map((line) => JSON.parse(line))) {
      if (id === 'r') {
        console.log(error ? error.message : `registered as ${result.provider}`)
        if (error) socket.end()
      } else if (id !== undefined) { // otherwise it is a $/cancelRequest; a method that takes long should heed it
        Promise.resolve(params[0]).then(methods[method])
          .then((result) => send({ id, result: result ?? null }), (err) => send({ id, error: { code: 7, message: err.message } }))
      }
    }
  })
  socket.on('error', () => {}) // whatever it was, "close" follows
  socket.on('close', () => setTimeout(connect, 500))
}
connect()
