// A worker whose answer comes in parts: checksums of a tree of files, shared among all its processes, with progress
//   ipcd run --config files.toml
//   ipcd call --stream Files.Sum dir=/etc
const { createHash } = require('crypto')
const { EventEmitter, once } = require('events')
const { createReadStream, promises: fs } = require('fs')
const path = require('path')

const atOnce = 8 // files that one Files.Sum has hashed at a time

const methods = {
  async 'Files.Hash' (call, { file }) {
    const hash = createHash('sha256')
    for await (const bytes of createReadStream(file, { signal: call.signal })) hash.update(bytes)
    return { sha256: hash.digest('hex'), by: Number(process.env.IPCD_INSTANCE) }
  },

  // The files are hashed by calls of Files.Hash, which ipcd gives to whichever process has the fewest.
  async 'Files.Sum' (call, { dir }) {
    const files = []
    let next = 0, done = 0, unreadable = 0
    for await (const file of walk(dir, () => unreadable++)) files.push(path.relative(dir, file))
    const work = async () => {
      while (next < files.length) {
        const file = files[next++]
        const sum = await call.ask('Files.Hash', { file: path.join(dir, file) }).catch((err) => {
          call.signal.throwIfAborted()
          unreadable++
          return { error: err.message }
        })
        await Promise.all([call.part({ file, ...sum }), call.part({ progress: ++done / files.length, message: file })])
      }
    }
    await Promise.all(Array.from({ length: atOnce }, work))
    return { files: files.length, unreadable }
  }
}

// walk finds the files of a tree. What it may not read below its root is passed over, and skipped is called.
async function * walk (dir, skipped, below = false) {
  const entries = await fs.readdir(dir, { withFileTypes: true }).catch((err) => {
    if (!below) throw err
    skipped()
    return []
  })
  for (const entry of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const name = path.join(dir, entry.name)
    if (entry.isFile()) yield name
    if (entry.isDirectory()) yield * walk(name, skipped, true)
  }
}

const send = (message) => process.send({ jsonrpc: '2.0', ...message })
const calls = new Map() // that this process answers, by their id
const asked = new Map() // that it has made itself
let lastID = 0

class Call extends EventEmitter {
  constructor ({ id, parts, window, context }) {
    super()
    this.setMaxListeners(0) // one for each part that waits
    Object.assign(this, { id, token: parts, window, context })
    this.controller = new AbortController()
    this.signal = this.controller.signal
    this.sizes = [] // of the parts that have been sent and not taken yet
    this.taken = 0
  }

  // part sends a part, once there is room for it: one that nobody reads must not fill the memory.
  async part (value) {
    if (this.token === undefined) return // nobody has asked for parts
    const size = Buffer.byteLength(JSON.stringify(value))
    const fits = () => this.sizes.length === 0 || this.sizes.reduce((a, b) => a + b, size) <= this.window
    while (!fits()) await once(this, 'credit', { signal: this.signal })
    this.signal.throwIfAborted()
    this.sizes.push(size)
    send({ method: '$/progress', params: { token: this.token, value } })
  }

  // credit notes how many parts have been taken in all.
  credit (parts) {
    for (; this.taken < parts; this.taken++) this.sizes.shift()
    this.emit('credit')
  }

  // ask makes a call for this one: it ends with it.
  ask (method, argument) {
    const id = `f${++lastID}`
    send({ id, method, params: [argument], context: this.context })
    return new Promise((resolve, reject) => asked.set(id, { resolve, reject }))
  }
}

async function answer (message) {
  const call = new Call(message)
  calls.set(call.id, call)
  try {
    if (!(message.method in methods)) throw Object.assign(new Error(`there is no method ${message.method}`), { code: -32601 })
    send({ id: call.id, result: await methods[message.method](call, message.params[0]) })
  } catch (err) {
    if (!call.signal.aborted) send({ id: call.id, error: { code: Number.isInteger(err.code) ? err.code : 7, message: err.message } })
  }
  calls.delete(call.id)
}

process.on('message', (message) => {
  const { id, method, params, result, error } = message
  if (method === undefined) {
    const one = asked.get(id)
    asked.delete(id)
    if (error) one?.reject(new Error(error.message))
    else one?.resolve(result)
  } else if (id !== undefined) {
    answer(message)
  } else if (method === '$/cancelRequest') {
    calls.get(params.id)?.controller.abort()
  } else if (method === '$/credit') {
    for (const call of calls.values()) if (call.token === params.token) call.credit(params.parts)
  }
})
process.on('disconnect', () => process.exit())

const text = { type: 'string' }
const object = (properties) => ({ type: 'object', properties, required: Object.keys(properties) })
send({
  id: 'register',
  method: 'Ipcd.Register',
  params: [{
    extensions: ['parts', 'context'],
    methods: [
      { method: 'Files.Sum', doc: 'SHA-256 of all files below a directory, as parts of its answer', argument: object({ dir: text }), readOnly: true },
      { method: 'Files.Hash', doc: 'SHA-256 of a file', argument: object({ file: text }), readOnly: true }
    ]
  }]
})
