// The turns of a caller in Node.js, as those of one in Go in turns.go. connect returns a connection: a function that sends a text, or an
// object of ten fields, and promises the answer.
const { createInterface } = require('readline')

const ten = (n) => ({
  name: `field_${n}`, extendee: '.ipcd.bench.Message', number: n + 1, label: 1, type: 9, type_name: '.ipcd.bench.Type',
  default_value: 'none', oneof_index: n % 8, json_name: `field_${n}`, optional: true
})

const text = (n, bytes) => `${String(n).padStart(7, '0')} `.padEnd(bytes, 'x')

const isSame = (a, b) => typeof a === 'string' ? a === b : Object.keys(a).every((key) => a[key] === b[key])

exports.takeTurns = (connect, over = () => {}) => {
  const conns = []
  createInterface({ input: process.stdin }).on('line', async (line) => {
    const [callers, wanted, bytes, time] = line.split(' ').map(Number)
    while (conns.length < wanted) conns.push(await connect())
    const pairs = Array.from({ length: callers }, (_, i) => [2 * i, 2 * i + 1].map((n) => bytes ? text(n, bytes) : ten(n)))
    const began = process.hrtime.bigint()
    const end = began + BigInt(time)
    let calls = 0
    await Promise.all(pairs.map(async (pair, i) => {
      const say = conns[i % wanted]
      let n = 0
      do {
        if (!isSame(pair[n % 2], await say(pair[n % 2]))) throw new Error('the answer is not what was sent')
        n++
      } while (process.hrtime.bigint() < end)
      calls += n
    }))
    console.log(calls, Number(process.hrtime.bigint() - began))
  }).on('close', over)
}

// leaveWithBench ends a server when its standard input ends, as it does however bench ends.
exports.leaveWithBench = () => process.stdin.on('end', () => process.exit()).resume()

// answers returns a function that notes who waits for the answer with an id, and one that brings it.
exports.answers = () => {
  const waiting = new Map()
  let last = 0
  return {
    wait: (send) => new Promise((resolve) => {
      waiting.set(++last, resolve)
      send(last)
    }),
    bring: (id, result) => {
      waiting.get(id)(result)
      waiting.delete(id)
    }
  }
}
