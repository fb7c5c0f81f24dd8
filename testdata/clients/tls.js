// Calls over TLS as a user of Node.js would: tls.connect for JSON-RPC, https.request for a bare call.
// node tls.js CA CERT KEY PORT WEBPORT
'use strict'
const fs = require('fs')
const https = require('https')
const tls = require('tls')

const [ca, cert, key] = process.argv.slice(2, 5).map((file) => fs.readFileSync(file))
const [port, web] = process.argv.slice(5)

function stream (options, requests) {
  return new Promise((resolve) => {
    let got = ''
    const socket = tls.connect({ host: '127.0.0.1', port, ca, ...options }, () => {
      socket.write(requests.map((r) => JSON.stringify({ jsonrpc: '2.0', ...r }) + '\n').join(''))
      socket.end() // it is answered all the same
    })
    socket.setEncoding('utf8')
    socket.on('data', (text) => { got += text })
    socket.on('error', (err) => resolve('error ' + (err.code || err.message)))
    socket.on('close', () => resolve(got.trim()))
  })
}

function post (options, path, body) {
  return new Promise((resolve) => {
    const r = https.request({ host: '127.0.0.1', port: web, path, method: 'POST', ca, headers: { 'Content-Type': 'application/json' }, agent: false, ...options }, (answer) => {
      let got = ''
      answer.setEncoding('utf8')
      answer.on('data', (text) => { got += text })
      answer.on('end', () => resolve(answer.statusCode + ' ' + got.trim()))
    })
    r.on('error', (err) => resolve('error ' + (err.code || err.message)))
    r.end(JSON.stringify(body))
  })
}

async function main () {
  const us = { cert, key }
  const say = { id: 1, method: 'Echo.Say', params: ['hello'] }
  console.log('tls', await stream(us, [say]))
  console.log('tls, a long one', (await stream(us, [{ id: 2, method: 'Trial.Big', params: [1 << 20] }])).length)
  console.log('tls without a certificate', await stream({}, [say]))
  console.log('tls 1.2', await stream({ ...us, maxVersion: 'TLSv1.2' }, [say]))
  console.log('tls without the authority', await stream({ ...us, ca: undefined }, [say]))
  console.log('https', await post(us, '/call/Echo.Say', 'hello'))
  console.log('https without a certificate', await post({}, '/call/Echo.Say', 'hello'))
  console.log('https by a name that is not its own', await post({ ...us, checkServerIdentity: () => undefined, headers: { Host: 'evil.example', 'Content-Type': 'application/json' } }, '/call/Echo.Say', 'hello'))
}

main()
