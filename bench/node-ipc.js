// The side node-ipc: "node-ipc.js serve SOCKET" is a server, "node-ipc.js call SOCKET" takes turns.
const { IPC } = require('node-ipc')
const { takeTurns, leaveWithBench, answers } = require('./turns.js')
const [what, socket] = process.argv.slice(2)

const ipc = new IPC()
Object.assign(ipc.config, { id: 'bench', silent: true, retry: 100 })

if (what === 'serve') {
  ipc.serve(socket, () => {
    ipc.server.on('say', ({ id, value }, conn) => ipc.server.emit(conn, 'said', { id, result: value }))
    console.log(socket)
  })
  ipc.server.start()
  leaveWithBench()
} else {
  takeTurns(() => new Promise((resolve) => ipc.connectTo('bench', socket, () => {
    const server = ipc.of.bench
    const { wait, bring } = answers()
    server.on('said', ({ id, result }) => bring(id, result))
    server.on('connect', () => resolve((value) => wait((id) => server.emit('say', { id, value }))))
  })), () => process.exit())
}
