// Answers each request with its URL: node http-server.js [PORT]
const http = require('http')

const server = http.createServer((request, response) => {
  console.log('receive', request.method, request.url)
  response.end(request.url)
})
server.listen(Number(process.argv[2] ?? 8888), '127.0.0.1', () => console.log('listening', server.address().port))
