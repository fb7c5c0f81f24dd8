// Sends a text over TCP and prints what comes back: node tcp-client.js [PORT [TEXT]]
const net = require('net')

const text = process.argv[3] ?? 'hello'
const socket = net.connect(Number(process.argv[2] ?? 8888), '127.0.0.1', () => socket.write(text))
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
