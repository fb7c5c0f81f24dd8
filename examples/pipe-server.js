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
process.on('SIGTERM', () => process.exit()) // which removes the socket
