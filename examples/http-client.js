// Asks for a path over HTTP and prints the answer: node http-client.js [PORT [PATH]]
const http = require('http')

http.get({ host: '127.0.0.1', port: Number(process.argv[2] ?? 8888), path: process.argv[3] ?? '/hello' }, (response) => {
  response.setEncoding('utf8')
  let answer = ''
  response.on('data', (data) => { answer += data })
  response.on('end', () => console.log(answer))
}).on('error', (err) => {
  console.error('error', err.message)
  process.exitCode = 1
})
