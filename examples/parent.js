// Forks a child, sends it a message and prints what it sends: node parent.js [PROGRAM [ARGUMENT ...]]
// A name that ends in .js is run by Node; anything else is a program: node parent.js ipcd child --reply '"hi"'
const { fork } = require('child_process')
const path = require('path')

const [program = path.join(__dirname, 'child.js'), ...args] = process.argv.slice(2)
const child = program.endsWith('.js')
  ? fork(program, args)
  : fork(args[0], args.slice(1), { execPath: program, execArgv: [] })

child.on('message', (message) => {
  console.log('parent got', JSON.stringify(message))
  child.disconnect()
})
child.on('exit', (code) => console.log('child ended with', code))
child.send({ hello: 'child' })
