// An echo server over TCP: node tcp-server.js [PORT]
const net = require('net')

const server = net.createServer((socket) => {
  console.log('connect')
  socket.on('data', (data) => {
    console.log('receive', data.length)
    socket.write(data)
  })
  socket.on('end', () => console.log('disconnect'))
  socket.on('error', (err) => console.log('error', err.message))
})
server.listen(Number(process.argv[2] ?? 8888), '127.0.0.1', () => console.log('listening', server.address().port))
