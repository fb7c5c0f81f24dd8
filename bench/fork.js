// The side node-fork: a parent that takes turns, and its forked child, which answers.
const { fork } = require('child_process')

if (process.send) {
  process.on('message', ({ id, value }) => process.send({ id, result: value }))
} else {
  const { takeTurns, answers } = require('./turns.js')
  const child = fork(__filename)
  const { wait, bring } = answers()
  child.on('message', ({ id, result }) => bring(id, result))
  takeTurns(() => (value) => wait((id) => child.send({ id, value })), () => child.disconnect())
}
