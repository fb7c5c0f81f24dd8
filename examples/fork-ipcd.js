// Forks ipcd and calls its services over the channel that Node makes for that: node fork-ipcd.js [PROGRAM]
const { fork } = require('child_process')

const ipcd = fork('child', [], { execPath: process.argv[2] ?? 'ipcd', execArgv: [] })
const waiting = new Map() // by the ids of calls

function call (method, argument) {
  const id = waiting.size + 1 // what has been answered stays in the map
  ipcd.send({ jsonrpc: '2.0', id, method, params: argument === undefined ? [] : [argument] })
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
}

ipcd.on('message', ({ id, result, error }) => {
  const { resolve, reject } = waiting.get(id)
  error ? reject(new Error(error.message)) : resolve(result)
})
ipcd.on('error', (err) => console.error(err.message))

async function main () {
  console.log(await call('Echo.Say', 'hello from the parent'))
  console.log(await Promise.all(['a', 'b', 'c'].map((text) => call('Echo.Say', text))))
  await call('Echo.Sy', 'x').catch((err) => console.log(err.message))
  ipcd.disconnect()
}
main()
