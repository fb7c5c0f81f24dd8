// An echo server on a Unix socket, or a named pipe on Windows: node pipe-server.js [PATH]
const net = require('net')

const usual = process.platform === 'win32' ? '\\\\.\\pipe\\mypipe' : '/tmp/unix.sock'
const server = net.createServer((socket) => {
  console.log('connect')
  socket.on('data', (data) => {
    console.log('receive', data.length)
    socket.write(data)
  })
  socket.on('end', () => console.log('disconnect'))
  socket.on('error', (err) => console.log('error', err.message))
})
server.listen(process.argv[2] ?? usual, () => console.log('listening', server.address()))
server.on('error', (err) => {
  console.error(err.code === 'EADDRINUSE' ? `${err.address} is there: another server, or the socket of one that was killed` : err.message)
  process.exit(1)
})
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close() // which removes the socket at once, and would wait for those who are connected
    process.exit()
  })
}
