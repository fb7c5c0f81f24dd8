// The side node-fork: a parent that takes turns, as callProgram in programs.go does, and its forked child, which answers.
const { fork } = require('child_process')
const { createInterface } = require('readline')

if (process.send) {
  process.on('message', ({ id, text }) => process.send({ id, result: text }))
} else {
  const child = fork(__filename)
  const waiting = new Map()
  let last = 0
  child.on('message', ({ id, result }) => {
    waiting.get(id)(result)
    waiting.delete(id)
  })
  const say = (text) => new Promise((resolve) => {
    waiting.set(++last, resolve)
    child.send({ id: last, text })
  })

  createInterface({ input: process.stdin }).on('line', async (line) => {
    const [callers, bytes, time] = line.split(' ').map(Number)
    const texts = Array.from({ length: callers }, (_, i) => [0, 1].map((j) => `${i}.${j} `.padEnd(bytes, 'x')))
    const began = process.hrtime.bigint()
    const end = began + BigInt(time)
    let calls = 0
    await Promise.all(texts.map(async (pair) => {
      let n = 0
      do {
        const text = pair[n % 2]
        if (await say(text) !== text) throw new Error('the answer is not what was sent')
        n++
      } while (process.hrtime.bigint() < end)
      calls += n
    }))
    console.log(calls, Number(process.hrtime.bigint() - began))
  }).on('close', () => child.disconnect())
}
