// Sends a text over a Unix socket or a named pipe and prints what comes back: node pipe-client.js [PATH [TEXT]]
const net = require('net')

const usual = process.platform === 'win32' ? '\\\\.\\pipe\\mypipe' : '/tmp/unix.sock'
const text = process.argv[3] ?? 'hello'
const socket = net.connect(process.argv[2] ?? usual, () => socket.write(text))
let answer = ''
socket.setEncoding('utf8')
socket.on('data', (data) => {
  answer += data
  if (answer.length >= text.length) {
    console.log(answer)
    socket.end()
  }
})
socket.on('error', (err) => {
  console.error('error', err.message)
  process.exitCode = 1
})
